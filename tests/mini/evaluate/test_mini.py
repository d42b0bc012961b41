from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.mini.evaluate import drawing, mini
from bind2gen.mini.evaluate.held_out import MOTIONS, THERMAL, load_held_out
from bind2gen.mini.evaluate.judge import build_judge
from bind2gen.mini.evaluate.mini import Options, evaluate
from bind2gen.mini.evaluate.scores import GOALS, NO_DATA, NOT_IN_MODEL, OTHERS
from bind2gen.mini.recipe import JUDGED

OPTIONS = Options(steps=1, quiet=True)


@pytest.fixture
def pipe(make_pipeline):
    """The toy pipeline without the towers that not every model has."""
    pipe = make_pipeline()
    del pipe.imagebind.towers["thermal"], pipe.imagebind.towers["imu"]
    return pipe


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return build_judge(len(JUDGED)).eval()


@pytest.fixture
def known_embeddings(monkeypatch):
    """Every input is embedded on the axis of its concept, which its mean level or its tone tells; texts likewise."""

    def axis(names: list[str], among: tuple[str, ...]) -> torch.Tensor:
        return torch.eye(32)[[among.index(name) for name in names]]

    def put(data) -> None:
        of = {"image": data.photos, "audio": data.sounds, "thermal": data.thermal, "imu": data.imu}
        among = {"image": JUDGED, "audio": JUDGED, "thermal": THERMAL, "imu": MOTIONS}

        def embed(pipe, modality, items, *, quiet):
            if len(items) != len(of[modality].samples):  # generated pictures, of unknown content
                return torch.eye(32)[torch.zeros(len(items), dtype=torch.long)]
            return axis(list(of[modality].concepts()), among[modality])

        monkeypatch.setattr(drawing, "embed", embed)
        monkeypatch.setattr(drawing, "class_embeddings", lambda pipe, names: torch.eye(32)[: len(names)])

    return put


def test_perfect_embeddings_score_all_in_every_row(make_pipeline, judge, data_folder, known_embeddings):
    data = load_held_out(data_folder)
    known_embeddings(data)
    pipe = make_pipeline()
    pipe.adapter.means.zero_()  # no gap between these modalities
    rows = evaluate(pipe, judge, data, "toy", OPTIONS).scores.rows
    for name in ("audio_to_text", "image_to_text", "audio_to_image", "thermal_to_text", "imu_to_text"):
        assert rows[name].value == rows[name].mean_over_concepts == 1
    assert rows["sum_of_image_and_sound"].value == 1
    assert rows["thermal_to_text"].chance == pytest.approx(1 / 6) and rows["imu_to_text"].chance == pytest.approx(1 / 3)


def test_every_row_is_there_and_missing_towers_and_data_are_said(pipe, make_pipeline, judge, data_folder):
    data = load_held_out(data_folder, limit=1)
    scores = evaluate(pipe, judge, data, "toy", OPTIONS).scores
    assert scores.rows.keys() == GOALS.keys()
    assert [scores.rows[name].why for name in ("thermal_to_text", "imu_to_text")] == [NOT_IN_MODEL] * 2
    others = {name for name, goal in GOALS.items() if goal.group == OTHERS}
    assert {scores.rows[name].why for name in others} == {NO_DATA}
    measured = [row for row in scores.rows.values() if not row.why]
    assert len(measured) == len(GOALS) - len(others) - 2 and all(0 <= row.value <= 1 for row in measured)
    without = mini.HeldOut(data.training, data.photos, data.sounds, None, None)
    rows = evaluate(make_pipeline(), judge, without, "toy", OPTIONS).scores.rows
    assert [rows[name].why for name in ("thermal_to_text", "imu_to_text")] == [NO_DATA] * 2


def test_the_same_run_gives_the_same_scores_and_pictures(pipe, judge, data_folder, tmp_path):
    data = load_held_out(data_folder, limit=1)
    one, two = (evaluate(pipe, judge, data, "toy", OPTIONS) for _ in range(2))
    first, second = (result.scores.to_dict() for result in (one, two))
    assert first.pop("seconds_per_picture") > 0 and second.pop("seconds_per_picture") > 0
    assert first == second
    for name, (picture, _) in one.pictures.items():
        assert np.array_equal(np.asarray(picture), np.asarray(two.pictures[name][0]))
    files = one.write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in files)


def test_a_pipeline_that_copies_a_training_photo_is_found_out(pipe, judge, data_folder, monkeypatch):
    data = load_held_out(data_folder, limit=2)
    copied = data.training.pixels[:1]
    monkeypatch.setattr(drawing, "generate", lambda pipe, sounds, seeds, **_: np.repeat(copied, len(seeds), axis=0))
    scores = evaluate(pipe, judge, data, "toy", OPTIONS).scores
    for space in ("pixels", "judge"):
        assert scores.memorisation[space].median == pytest.approx(0, abs=1e-6)
        assert scores.memorisation[space].share_close == 1
    assert scores.variety.pixels == 0 and scores.variety.cosine == pytest.approx(1)
    assert scores.variety.pixels_of_photos > 10


def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(pipe, data_folder):
    sounds = load_held_out(data_folder, limit=1).sounds.take(np.arange(len(JUDGED)) < 3)
    together = drawing.generate(pipe, sounds, [5, 6, 7], quiet=True, num_inference_steps=2)
    alone = drawing.generate(pipe, sounds.take(np.arange(3) == 1), [6], quiet=True, num_inference_steps=2)
    assert together.shape == (3, 16, 16, 3)
    assert drawing.at_side(together, 64).shape == (3, 64, 64, 3)
    assert abs(drawing.at_side(together, 8).mean((1, 2)) - together.mean((1, 2))).max() < 2  # of 255: the same, smaller
    assert abs(together[1].astype(int) - alone[0]).max() <= 1  # a level, from the order of sums in a batch


def test_reconstructions_keep_their_size_and_follow_the_autoencoder(pipe, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)

    class Same:
        """An autoencoder that changes nothing."""

        dtype = torch.float32

        def encode(self, x: torch.Tensor) -> Same:
            self.latent_dist, self.kept = self, x
            return self

        def mode(self) -> torch.Tensor:
            return self.kept

        def decode(self, x: torch.Tensor) -> Same:
            self.sample = x
            return self

    monkeypatch.setattr(drawing, "picture_size", lambda *_: (16, 16))
    stand_in = type("Stand", (), {"vae": Same(), "_execution_device": torch.device("cpu")})()
    assert np.array_equal(drawing.reconstruct(stand_in, pixels, quiet=True), pixels)
    photos = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert drawing.reconstruct(pipe, photos, quiet=True).shape == photos.shape
