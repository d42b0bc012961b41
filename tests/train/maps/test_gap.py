"""Gaps that were made, and are found again; what is left out is judged by what was measured on the others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import ModalityError, NonFiniteError, ShapeError
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.train.maps.gap import LEAST_PAIRS, embed_raw, fit_gap
from bind2gen.train.maps.gap_report import Ranks, write_gap

WIDTH = 12


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def clouds(count: int, turn: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Pictures around one middle, sounds of the same things around another, turned or not, and a little noise."""
    things = 0.2 * draw(0, count, WIDTH)
    sounds = things if turn is None else things @ turn
    sounds = sounds + 0.02 * draw(1, count, WIDTH) + torch.eye(WIDTH)[1]
    return {"image": 5 * (things + torch.eye(WIDTH)[0]), "audio": F.normalize(sounds, dim=1)}


def picture(seed: int, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def named(rows: dict[str, torch.Tensor]) -> dict[str, list[str]]:
    return {name: [str(i) for i in range(len(value))] for name, value in rows.items()}


def test_means_meet_and_the_length_is_kept():
    rows = clouds(60)
    adapter, report = fit_gap(rows, lengths=rows["image"].norm(dim=1))
    image, audio = (F.normalize(rows[name], dim=1).mean(0) for name in ("image", "audio"))
    assert torch.allclose(adapter.means, torch.stack([image, audio]), atol=1e-6) and not adapter.mapped
    assert adapter.config.norm == pytest.approx(rows["image"].norm(dim=1).mean().item(), rel=1e-6)
    gap = report.modalities["audio"]
    assert gap.before < 0.3 < 0.95 < gap.after and gap.pairs == 0 and not gap.ranks
    assert fit_gap(rows)[0].config.norm is None


def test_a_turn_that_a_shift_cannot_undo_is_learned():
    turn = torch.linalg.qr(draw(5, WIDTH, WIDTH))[0]
    rows = clouds(100, turn)
    adapter, report = fit_gap(rows, named(rows))
    ranks = report.modalities["audio"].ranks
    assert adapter.mapped == ["audio"] and report.modalities["audio"].pairs == 100
    assert ranks["map"].first > 0.9 and ranks["map"].mean < 2 < 30 < ranks["shift"].mean
    fresh = F.normalize(adapter.shift("audio", rows["audio"]), dim=1) @ F.normalize(rows["image"], dim=1).T
    assert (fresh.argmax(1) == torch.arange(100)).float().mean() > 0.9


def test_no_map_is_kept_that_does_no_better():
    """Sounds that have nothing to do with their pictures, and things that a shift alone brings home."""
    home = clouds(60)
    assert not fit_gap(home, named(home))[0].mapped
    apart = {"image": clouds(60)["image"], "audio": F.normalize(0.2 * draw(9, 60, WIDTH) + torch.eye(WIDTH)[1], dim=1)}
    adapter, report = fit_gap(apart, named(apart))
    ranks = report.modalities["audio"].ranks
    assert ranks["map"].mean > 15 and ranks["map"].first < 0.2  # of pictures that it saw it would be far less
    assert not adapter.mapped
    few = {name: value[: LEAST_PAIRS - 1] for name, value in clouds(60).items()}
    adapter, report = fit_gap(few, named(few))
    assert not adapter.mapped and set(report.modalities["audio"].ranks) == {"nothing", "shift"}
    assert report.modalities["audio"].ranks["shift"].first == 1.0


def test_recordings_are_left_out_together():
    """Ten copies of each thing: a map that has seen the others of a recording knows the last one."""
    rows = {"image": draw(0, 20, WIDTH).repeat_interleave(10, 0), "audio": draw(1, 20, WIDTH).repeat_interleave(10, 0)}
    names = named(rows)
    recordings = {name: [str(i // 10) for i in range(200)] for name in rows}
    seen = fit_gap(rows, names)[1].modalities["audio"].ranks["map"]
    unseen = fit_gap(rows, names, groups=recordings)[1].modalities["audio"].ranks["map"]
    assert unseen.mean > 2 * seen.mean


def test_pairs_are_inputs_of_one_name_that_comes_once():
    rows = {name: value[:6] for name, value in clouds(6).items()}
    names = {"image": ["a", "b", "c", "c", "e", "f"], "audio": ["f", "b", "c", None, "b", "a"]}
    report = fit_gap(rows, names)[1]
    assert report.modalities["audio"].pairs == 2  # a and f: b and c come twice


def test_ranks_count_from_the_first():
    pictures = torch.eye(4)
    moved = torch.tensor([[1.0, 0, 0, 0], [0.9, 0.5, 0, 0], [0.9, 0.8, 0.7, 0], [0, 0, 0, 1.0]])
    ranks = Ranks.of(moved, pictures)
    assert (ranks.first, ranks.median, ranks.mean) == (0.5, 1.5, 1.75)


def test_what_cannot_be_measured_is_refused():
    rows = clouds(10)
    with pytest.raises(ModalityError, match="wanted images among the embeddings"):
        fit_gap({"audio": rows["audio"]})
    with pytest.raises(ShapeError, match="audio: wanted one name an embedding, got 9 for 10"):
        fit_gap(rows, {"audio": [str(i) for i in range(9)]})
    with pytest.raises(NonFiniteError):
        fit_gap(rows | {"audio": rows["audio"] * torch.nan})
    lone = fit_gap({name: value[:1] for name, value in rows.items()})[1]
    assert lone.modalities["audio"].before is None and "too few" in lone.table()


@pytest.fixture(scope="module")
def toy(make_imagebind):
    model = make_imagebind()
    return model, ImageBindProcessor.for_config(model.config)


def test_the_length_of_an_image_is_that_of_the_heads_output(toy):
    model, processor = toy
    pictures, seen = [picture(k) for k in range(3)], []
    hook = model.towers["vision"].head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    rows = embed_raw(model, processor, "image", pictures)
    hook.remove()
    assert torch.allclose(rows, seen[0]) and not torch.allclose(rows.norm(dim=1), torch.ones(3), atol=0.01)
    unit = model(**processor(image=pictures)).image_embeds
    assert torch.allclose(F.normalize(rows, dim=1), unit, atol=1e-6)
    texts = embed_raw(model, processor, "text", ["a dog", "rain"])
    assert torch.allclose(texts, model(**processor(text=["a dog", "rain"])).text_embeds, atol=1e-6)


def test_what_is_written_holds_what_was_measured(toy, tmp_path):
    model, processor = toy
    given = {"image": [picture(k) for k in range(7)], "text": ["a dog", "rain", "a train", "birds"]}
    rows = {name: embed_raw(model, processor, name, items) for name, items in given.items()}
    adapter, report = fit_gap(rows, lengths=rows["image"].norm(dim=1))
    assert adapter.known == ["image", "text"]
    assert (report.images, report.modalities["text"].files) == (7, 4) and report.norm == adapter.config.norm > 0
    files = write_gap(tmp_path / "gap", adapter, report, encoder="toy")
    assert {path.name for path in files} >= {"config.json", "metrics.json", "README.md"}
    again = EmbeddingAdapter.from_pretrained(tmp_path / "gap")
    assert again.config.norm == adapter.config.norm and torch.equal(again.means, adapter.means)
    figures = json.loads((tmp_path / "gap" / "metrics.json").read_text())["left_out"]
    assert figures["norm"] == report.norm and f"{report.norm:.3f}" in (tmp_path / "gap" / "README.md").read_text()
