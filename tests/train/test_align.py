"""One tower against frozen anchors; the loss over a batch that is embedded in parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train.align import Pairs, PairStream, _embedded, train_modality
from bind2gen.train.contrastive import info_nce
from bind2gen.train.loop import LoopConfig

CONFIG = LoopConfig(steps=4, batch_size=6, learning_rate=3e-3, warmup_steps=1, precision="no", log_every=1)


def fresh_model() -> ImageBindModel:
    torch.manual_seed(0)
    return ImageBindModel(TINY(["image", "imu"]))  # the IMU tower has drop-path 0.7 and dropout: masks must agree


def draw(rng: np.random.Generator, count: int) -> Pairs:
    inputs = torch.from_numpy(rng.standard_normal((count, 1, 6, 80)).astype(np.float32))
    anchors = F.normalize(torch.from_numpy(rng.standard_normal((count, 32)).astype(np.float32)), dim=1)
    return Pairs(inputs, anchors, torch.arange(count) // 2)


def trained(folder: Path, source=draw, **options: int) -> dict[str, torch.Tensor]:
    return train_modality(fresh_model(), "imu", source, 0.2, CONFIG, folder, **options).state_dict()


def test_only_the_named_tower_moves(tmp_path):
    start, end = fresh_model().state_dict(), trained(tmp_path)
    moved = {name.split(".")[1] for name in start if not torch.equal(start[name], end[name])}
    assert moved == {"imu"}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_batch_embedded_in_parts_gives_the_gradients_of_the_whole(seed):
    """Without dropout, whose masks are drawn for each part: the same loss and gradients up to rounding."""
    model, pairs, found = fresh_model().eval(), draw(np.random.default_rng(seed), 7), []
    for micro_batch in (0, 3):
        model.zero_grad()
        embeds = _embedded(model, "imu", pairs.inputs, micro_batch)
        loss = info_nce(embeds, pairs.anchors, 5.0, pairs.groups[:, None] == pairs.groups[None])
        loss.backward()
        found.append([loss.detach()] + [p.grad.clone() for p in model.towers["imu"].parameters()])
    assert found[0][0] > 0.5
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, atol=1e-5)


def test_dropout_draws_the_same_masks_when_a_part_is_computed_again(tmp_path):
    """If the second forward pass drew others, torch's checkpoint would see another graph or weights would differ."""
    one = trained(tmp_path / "one", micro_batch=2)
    again = trained(tmp_path / "again", micro_batch=2)
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_a_stream_is_asked_for_the_steps_that_are_left(tmp_path):
    class Killed(Exception):
        pass

    class Recorder(PairStream):
        def __init__(self, killed_at: int | None) -> None:
            self.asked: list[int] = []
            self.killed_at = killed_at

        def at(self, step: int) -> Pairs:
            self.asked.append(step)
            if step == self.killed_at:
                raise Killed
            return draw(np.random.default_rng(step), 6)

    config, stream = replace(CONFIG, save_every=2), Recorder(killed_at=3)
    with pytest.raises(Killed):
        train_modality(fresh_model(), "imu", stream, 0.2, config, tmp_path)
    stream.killed_at = None
    resumed = train_modality(fresh_model(), "imu", stream, 0.2, config, tmp_path).state_dict()
    assert stream.asked == [0, 1, 2, 3, 2, 3]
    whole = trained(tmp_path / "whole", Recorder(None))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
