from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import InputError
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.mini.data import Sample
from bind2gen.mini.sensed import Source, embed_altered, movements, one_channel, paired
from bind2gen.preprocess.imu import ImuRecording, ImuSettings
from bind2gen.train.align import Pairs, train_modality
from bind2gen.train.augment import augment_movements, rotation
from bind2gen.train.loop import LoopConfig

LOOP = LoopConfig(steps=30, batch_size=8, learning_rate=3e-3, warmup_steps=3, precision="no", save_every=100)


def samples(*concepts: str) -> list[Sample]:
    return [Sample(f"{i}", concept, {}) for i, concept in enumerate(concepts)]


def anchors(*concepts: str) -> tuple[torch.Tensor, np.ndarray]:
    embeds = F.normalize(torch.randn(len(concepts), 32, generator=torch.Generator().manual_seed(0)), dim=1)
    return embeds, np.array(concepts)


def test_every_item_gets_a_picture_of_its_concept():
    known = anchors("dog", "cat", "dog", "cow")
    items = samples("cat", "dog", "cat", "cow")
    source = Source("thermal", items, lambda rng, chosen: torch.from_numpy(chosen))
    pairs = paired(source, *known)(np.random.default_rng(0), 64)
    found = (pairs.anchors @ known[0].T).argmax(1)
    assert [known[1][k] for k in found] == [items[i].concept for i in pairs.inputs]
    assert {int(k) for k in found} == {0, 1, 2, 3}  # any picture of it
    names = np.array([items[i].concept for i in pairs.inputs])
    assert torch.equal(pairs.groups[:, None] == pairs.groups, torch.from_numpy(names[:, None] == names))


def test_a_concept_without_pictures_is_named():
    source = Source("thermal", samples("cat", "yak"), lambda rng, chosen: torch.zeros(len(chosen)))
    with pytest.raises(InputError, match="yak"):
        paired(source, *anchors("cat"))


def test_altered_depth_keeps_its_range_and_metric_values():
    values = torch.linspace(-1.4, 32, 16 * 64).reshape(1, 1, 16, 64)[..., :16].repeat(4, 1, 1, 1)
    source = one_channel("depth", values, samples(*"abcd"), colour=0.0)
    out = source.make(np.random.default_rng(0), np.arange(4))
    assert out.shape == (4, 1, 1, 16, 16)
    assert out.min() >= values.min() - 1e-4 and out.max() <= values.max() + 1e-4


def test_movements_are_padded_at_the_end_and_turn_with_their_phone():
    settings, recording = ImuSettings(sampling_rate=100.0, samples=60), ImuRecording(torch.ones(6, 40), 100.0)
    clip = movements([recording], samples("walking"), settings).make(np.random.default_rng(0), np.array([0]))[0, 0]
    assert clip.shape == (6, 60) and clip[:, 45:].abs().max() == 0 and clip[:, :15].abs().min() > 0

    still = np.zeros((6, 100), np.float32)
    still[2] = 9.81
    options = dict(gain=0.0, jitter=(0.0, 0.0), stretch=0.0, shortest=1.0)
    turned = augment_movements([still], 99, np.random.default_rng(0), tilt=1.0, **options)[0]
    assert np.linalg.norm(turned[:3], axis=0) == pytest.approx(9.81, rel=1e-5)
    assert abs(turned[2, 0] - 9.81) > 0.1
    turn = rotation(np.array([0.0, 0.0, 1.0]), np.pi / 2)
    assert turn @ (1, 0, 0) == pytest.approx([0, 1, 0])


def test_a_movement_lasts_as_long_whatever_the_rate_it_was_recorded_at():
    """A turn of one second about one axis: its angle, the integral of the rate, is the same."""
    settings, angles = ImuSettings(sampling_rate=100.0, samples=200), []
    for rate in (50.0, 100.0, 400.0):
        turn = torch.zeros(6, int(1.5 * rate))
        turn[5, : int(rate)] = torch.linspace(0, torch.pi, int(rate)).sin()
        make = movements([ImuRecording(turn, rate)], samples("walking"), settings).make
        clips = [make(np.random.default_rng(seed), np.array([0]))[0, 0] for seed in range(8)]
        angles.append(np.mean([clip[3:].sum(1).norm().item() / 100 for clip in clips]))
    assert angles == pytest.approx([angles[1]] * 3, rel=0.05)  # half as long or four times as long it would not be


def test_faster_time_means_faster_turns():
    angle = np.sin(np.arange(400) / 100)
    rates = np.gradient(angle, 1 / 100)
    whole = np.concatenate([np.zeros((5, 400)), rates[None]]).astype(np.float32)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        out = augment_movements([whole], 700, rng, tilt=0.0, gain=0.0, jitter=(0.0, 0.0), stretch=0.3, shortest=1.0)
        # The turn as a whole, the integral of the rate, is the same at every speed.
        assert out[0, 5].sum() / 100 == pytest.approx(angle[-1] - angle[0], abs=0.03)


def test_one_tower_learns_its_pairs_and_no_other_moves(tmp_path):
    torch.manual_seed(0)
    model = ImageBindModel(TINY(["image", "thermal"]))
    before = {name: p.clone() for name, p in model.named_parameters()}
    known = anchors("dog", "cat")
    pictures = torch.randn(2, 1, 1, 32, 32)
    source = Source("thermal", samples("dog", "cat"), lambda rng, chosen: pictures[chosen])
    trained = train_modality(model, "thermal", paired(source, *known), 0.1, LOOP, tmp_path)
    embeds = embed_altered(trained, source, 0)
    assert (embeds @ known[0].T).argmax(1).tolist() == [0, 1]
    moved = {name for name, p in trained.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(name.startswith("towers.thermal.") for name in moved)


def test_pairs_without_groups_pair_by_row(tmp_path):
    torch.manual_seed(0)
    model = ImageBindModel(TINY(["image", "thermal"]))
    known = anchors(*"abcdefgh")
    pictures = torch.randn(8, 1, 1, 32, 32)
    trained = train_modality(
        model, "thermal", lambda rng, count: Pairs(pictures, known[0]), 0.1, LOOP, tmp_path / "rows"
    )
    with torch.no_grad():
        found = (trained.encode("thermal", pictures) @ known[0].T).argmax(1)
    assert (found == torch.arange(8)).float().mean() > 0.8
