from __future__ import annotations

import json

import numpy as np
import torch

from bind2gen.evaluate.judge import judge_logits, train_judge
from bind2gen.evaluate.mini import Scores
from bind2gen.train.data import ImageSet, Sample
from bind2gen.train.loop import LoopConfig
from bind2gen.train.mini import JUDGED


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


def test_the_table_shows_every_score_in_percent():
    values = {
        name: 0.125
        for name in Scores.__dataclass_fields__
        if name not in ("generated_by_concept", "held_out_sounds", "held_out_photos")
    }
    table = Scores(
        **values, held_out_sounds=3, held_out_photos=4, generated_by_concept=dict.fromkeys(JUDGED, 0.5)
    ).table()
    assert table.count("12.5 %") == len(values)
