from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import Bind2GenError
from bind2gen.mini.data import ImageSet, Sample
from bind2gen.mini.evaluate.judge import (
    JUDGE_LOOP,
    build_judge,
    judge_features,
    judge_logits,
    prepare_judge,
    train_judge,
)
from bind2gen.train.loop import LoopConfig


def striped(count: int, seed: int) -> ImageSet:
    """Noise with horizontal or vertical stripes: a task that needs shape, not colour."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (count, 64, 64, 3), dtype=np.uint8)
    names = []
    for i in range(count):
        if i % 2:
            pixels[i, ::8] += 150
        else:
            pixels[i, :, ::8] += 150
        names.append("cow" if i % 2 else "sea")
    return ImageSet(pixels, [Sample(f"{i}.png", name, {}) for i, name in enumerate(names)])


def test_the_judge_learns_and_is_measured_on_held_out_photos(tmp_path):
    loop = LoopConfig(30, 16, 2e-3, warmup_steps=3, ema_decay=0.5, precision="no", log_every=1)
    others = [Sample("x.png", "helicopter", {})]
    train = striped(64, 0)
    train = ImageSet(np.concatenate([train.pixels, train.pixels[:1]]), train.samples + others)
    held_out = striped(40, 1)
    judge = train_judge(train, held_out, ["sea", "cow"], tmp_path, loop)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    reported = [row["eval"] for row in rows if "eval" in row][-1]
    with torch.no_grad():
        right = judge_logits(judge, held_out.pixels).argmax(1) == torch.tensor([i % 2 for i in range(40)])
    assert reported["accuracy"] == right.float().mean().item() > 0.9


def test_logits_do_not_change_for_the_mirror_image(tmp_path):
    judge = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 2))
    photos = striped(4, 0).pixels
    mirrored = np.ascontiguousarray(photos[:, :, ::-1])
    assert torch.allclose(judge_logits(judge, photos), judge_logits(judge, mirrored), atol=1e-5)


def test_features_are_those_the_logits_come_from_and_ignore_mirroring():
    torch.manual_seed(0)
    judge, photos = build_judge(2).eval(), striped(5, 0).pixels
    features = judge_features(judge, photos)
    assert torch.allclose(features.norm(dim=1), torch.ones(5))
    assert torch.allclose(features, judge_features(judge, photos[:, :, ::-1]), atol=1e-5)
    with torch.no_grad():  # logits are linear in the features before these are scaled
        logits = judge_logits(judge, photos) - judge[-1].bias
        assert F.cosine_similarity(features @ judge[-1].weight.T, logits).min() > 0.9999


def test_a_judge_is_reused_and_not_mistaken_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr("bind2gen.mini.evaluate.judge.JUDGE_LOOP", replace(JUDGE_LOOP, batch_size=8))
    train, held_out = striped(24, 0), striped(8, 1)
    first = prepare_judge(train, held_out, ["sea", "cow"], tmp_path, steps=2, quiet=True)
    lines = (tmp_path / "metrics.jsonl").read_text()
    again = prepare_judge(train, held_out, ["sea", "cow"], tmp_path, steps=2, quiet=True)
    assert (tmp_path / "metrics.jsonl").read_text() == lines  # no step was taken
    assert torch.equal(judge_logits(first, held_out.pixels), judge_logits(again, held_out.pixels))
    with pytest.raises(Bind2GenError, match="other settings"):
        prepare_judge(train, held_out, ["sea", "cow"], tmp_path, steps=3, quiet=True)
    with pytest.raises(Bind2GenError, match="other photos"):
        prepare_judge(train.take(np.arange(24) > 3), held_out, ["sea", "cow"], tmp_path, steps=2, quiet=True)
