"""The detector's losses: least for the right answer, and a small network learns to point at coloured boxes."""

import json

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError
from bind2gen.hosts.boxes.detic.cascade import RoiHeads, deltas_between
from bind2gen.hosts.boxes.detic.config import DeticConfig
from bind2gen.hosts.boxes.detic.proposals import LevelOutput, place_grid
from bind2gen.mini.data import Sample
from bind2gen.mini.detector import ClassVectors, train_detector
from bind2gen.mini.detector_losses import Objects, cascade_loss, proposal_loss, training_regions
from bind2gen.mini.mosaics import BoxedSet, Mosaics
from bind2gen.train.loop import LoopConfig

TINY = DeticConfig(
    "resnet", (1, 1, 1, 1), (8, 16, 16, 16), fpn_width=16, fc_width=32, mask_width=0, embed_dim=8, class_bias=True,
    norm_groups=4, stage_weights=(10.0, 20.0), short_side=64, long_side=64,
)  # fmt: skip
BOX = torch.tensor([[10.0, 6.0, 38.0, 30.0]])


def outputs(box: torch.Tensor, sure: float = 9.0) -> list[LevelOutput]:
    """What a head says that knows ``box``, which the finest level answers for."""
    made = []
    for level, stride in enumerate((8, 16, 32, 64, 128)):
        size = max(1, 64 // stride)
        heat = torch.full((1, 1, size, size), -sure)
        output = LevelOutput(heat, torch.zeros(1, 4, size, size), stride)
        grid = place_grid(output)
        distances = torch.cat([grid - box[:, :2], box[:, 2:] - grid], 1).clamp(min=0) / stride
        if level == 0:
            centre = (box[:, :2] + box[:, 2:]) / 2
            heat.view(-1)[(grid - centre).square().sum(1).argmin()] = sure
        made.append(LevelOutput(heat, distances.T.reshape(1, 4, size, size), stride))
    return made


def test_the_right_answer_costs_least():
    right = proposal_loss(outputs(BOX), [BOX])
    moved = BOX + torch.tensor([[16.0, 16.0, 16.0, 16.0]])
    assert right < 0.05
    assert proposal_loss(outputs(moved), [BOX]) > right + 1
    assert proposal_loss(outputs(BOX), [torch.zeros(0, 4)]) > right + 1  # a peak where nothing is
    silent = [LevelOutput(torch.full_like(o.heatmap, -9.0), o.distances, o.stride) for o in outputs(BOX)]
    assert proposal_loss(silent, [torch.zeros(0, 4)]) < 1e-3


def test_each_box_is_answered_by_one_level_whatever_its_size():
    for side in (6, 47, 48, 95, 96, 200, 500, 900):
        box = torch.tensor([[0.0, 0.0, side, side]])
        silent = [LevelOutput(torch.full_like(o.heatmap, -9.0), o.distances, o.stride) for o in outputs(BOX)]
        assert proposal_loss(silent, [box]) > 3  # a missed peak: 0.5 * 9 and more


def test_cascade_rewards_the_right_class_and_the_better_box():
    torch.manual_seed(0)
    heads = RoiHeads(TINY)
    pyramid = tuple(torch.randn(1, 16, 64 // s, 64 // s) for s in (8, 16, 32))
    regions = [BOX + torch.tensor([[1.0, -2.0, 2.0, 1.0]])]
    vectors = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    first = heads.run_stage(0, pyramid, regions)
    like = first.regions[0].detach()  # a class vector that the first stage already points at
    classes = torch.stack([like, -like, vectors[2]])

    def loss(k: int) -> float:
        return cascade_loss(heads, pyramid, regions, [Objects(BOX, torch.tensor([k]))], classes, (64, 64)).item()

    assert loss(0) < loss(1) - 1
    wanted = deltas_between(regions[0], BOX, 10.0)
    assert wanted.abs().max() > 0.1  # there is something to move


def test_regions_hold_every_object_and_stay_within_the_picture():
    objects = [Objects(BOX, torch.tensor([0]))]
    proposals = [torch.tensor([[-20.0, -5.0, 90.0, 70.0], [70.0, 70.0, 90.0, 90.0], [1.0, 1.0, 5.0, 5.0]])]
    (found,) = training_regions(proposals, objects, 3, (64, 64))
    assert found[0].tolist() == BOX[0].tolist() and len(found) == 3
    assert found[1].tolist() == [0, 0, 64, 64]
    assert (found[:, 2:] - found[:, :2] >= 1).all()


def coloured(count: int) -> BoxedSet:
    rng, made = np.random.default_rng(0), []
    for i in range(count):
        pixels = np.full((64, 64, 3), 100, np.uint8)
        x0, y0 = rng.integers(0, 24, 2)
        x1, y1 = rng.integers(36, 64, 2)
        pixels[y0:y1, x0:x1] = ((240, 20, 20), (20, 20, 240))[i % 2]
        made.append((pixels, np.array([[x0, y0, x1, y1]], np.float32), Sample(str(i), ("red", "blue")[i % 2], {})))
    return BoxedSet(*(list(part) for part in zip(*made, strict=True)))


def vectors(*names: str) -> ClassVectors:
    torch.manual_seed(1)
    return ClassVectors(names, {"text": list(torch.nn.functional.normalize(torch.randn(len(names), 2, 8), dim=2))})


def test_training_lowers_the_loss_and_repeats(tmp_path):
    scenes = Mosaics(coloured(8), None, 64)
    loop = LoopConfig(steps=12, batch_size=4, learning_rate=2e-3, warmup_steps=2, log_every=1, precision="no")
    one = train_detector(TINY, scenes, vectors("red", "blue"), loop, tmp_path / "one")
    two = train_detector(TINY, scenes, vectors("red", "blue"), loop, tmp_path / "two")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    rows = [json.loads(line) for line in (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([row["loss"] for row in rows[-3:]]) < 0.8 * np.mean([row["loss"] for row in rows[:3]])


def test_class_vectors_are_near_their_own_and_differ_from_step_to_step():
    given = vectors("red", "blue")
    rng = np.random.default_rng(0)
    drawn = torch.stack([given.draw(rng) for _ in range(50)])  # (50, 2, 8)
    assert torch.allclose(drawn.norm(dim=2), torch.ones(50, 2), atol=1e-5)
    means = torch.nn.functional.normalize(torch.stack([v.mean(0) for v in given.by_modality["text"]]), dim=1)
    own, other = (drawn[:, 0] @ means[0]).mean(), (drawn[:, 0] @ means[1]).mean()
    assert own > other + 0.3 and drawn[:, 0].std(0).sum() > 0.05


def test_what_does_not_fit_is_an_error(tmp_path):
    scenes = Mosaics(coloured(4), None, 64)
    loop = LoopConfig(steps=1, batch_size=2, learning_rate=1e-3)
    with pytest.raises(InputError, match="blue"):
        train_detector(TINY, scenes, vectors("red", "green"), loop, tmp_path)
    with pytest.raises(InputError, match="64 pixels"):
        train_detector(TINY, Mosaics(coloured(4), None, 96), vectors("red", "blue"), loop, tmp_path)
    with pytest.raises(InputError, match="at least one audio"):
        ClassVectors(("red",), {"audio": [torch.zeros(0, 8)]})
