"""The judge: a small classifier of photos that shares nothing with the model whose pictures it judges.

It sees real training photos only; its accuracy on held-out real photos is reported beside every score it gives.
"""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ...errors import Bind2GenError
from ...files.atomic import written_whole
from ...train.augment import augment_photos, erase_patches
from ...train.loop import LoopConfig, train
from ..data import ImageSet
from ..towers import balanced_weights
from .verdicts import from_scores

WIDTHS = (32, 64, 128, 256)
JUDGE_LOOP = LoopConfig(10_000, 64, 2e-3, weight_decay=0.05, ema_decay=0.999, seed=11)
ORIGIN = "photos.json"  # beside the checkpoint: what the judge was trained on


def build_judge(classes: int) -> nn.Sequential:
    """A plain convolutional network: (N, 3, 64, 64) in -1..1 -> (N, classes) logits."""
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        for stride, inputs in ((2, channels), (1, width)):
            layers += [nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels, classes))


def judge_logits(judge: nn.Module, pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, classes) on the CPU, averaged over the picture and its mirror image."""
    parts = []
    for start in range(0, len(pixels), 256):
        unit = _unit(pixels[start : start + 256], judge) * 2 - 1
        parts.append((judge(unit) + judge(unit.flip(3))).float().cpu())
    return torch.cat(parts) / 2


@torch.no_grad()
def judge_features(judge: nn.Sequential, pixels: np.ndarray) -> torch.Tensor:
    """What the judge sees before it decides: (N, H, W, 3) uint8 -> (N, F) unit norm, the same for mirror images."""
    return F.normalize(judge_logits(judge[:-1], pixels), dim=1)


def _unit(pixels: np.ndarray, judge: nn.Module) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) in 0..1 on the judge's device."""
    device = next((p.device for p in judge.parameters()), None)
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(0, 3, 1, 2).float() / 255


def train_judge(
    images: ImageSet, judged_on: ImageSet, classes: list[str], folder: Path, config: LoopConfig = JUDGE_LOOP
) -> nn.Module:
    """Train on photos of ``classes`` (others are left out) and report accuracy on the held-out ones.

    Args:
        images, judged_on: training and held-out photos.
        classes: concept names, in the order of the logits.
    """
    images = images.take(np.isin(images.concepts(), classes))
    judged_on = judged_on.take(np.isin(judged_on.concepts(), classes))
    targets = torch.tensor([classes.index(c) for c in images.concepts()])
    weights = balanced_weights(images.concepts())
    torch.manual_seed(config.seed)
    judge = build_judge(len(classes))

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = rng.choice(len(weights), config.batch_size, p=weights)
        unit = _unit(images.pixels[chosen], judge)
        unit = erase_patches(augment_photos(unit, rng, area=(0.5, 1.0)), rng)
        loss = F.cross_entropy(judge(unit * 2 - 1), targets[chosen].to(unit.device), label_smoothing=0.1)
        return loss, {}

    def evaluate(judged: nn.Module) -> dict[str, float]:
        found = from_scores(judge_logits(judged, judged_on.pixels), judged_on.concepts(), tuple(classes))
        return {"accuracy": found.accuracy(), "mean_class_accuracy": found.mean_over_concepts()}

    return train(judge, step_loss, config, folder, evaluate=evaluate, evaluate_every=1000)


def prepare_judge(
    images: ImageSet,
    judged_on: ImageSet,
    classes: list[str],
    folder: Path,
    *,
    steps: int | None = None,
    quiet: bool = False,
) -> nn.Module:
    """:func:`train_judge`, resumed if it was interrupted, and reused if it is in ``folder`` already.

    Args:
        steps: train for another number of steps than :data:`JUDGE_LOOP`'s.
        quiet: no progress bar.

    Raises:
        Bind2GenError: the judge in ``folder`` was trained with other settings or on other photos.
    """
    config = JUDGE_LOOP if steps is None else replace(JUDGE_LOOP, steps=steps)
    paths = "\n".join(sorted(sample.path for sample in images.samples))
    origin = {"training_photos": len(images.samples), "crc32_of_paths": zlib.crc32(paths.encode()), "classes": classes}
    for name, wanted, what in (("loop.json", asdict(config), "settings"), (ORIGIN, origin, "photos")):
        found = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        if any(wanted.get(key) != value for key, value in found.items()):  # a setting may be newer than the judge
            raise Bind2GenError(f"{folder}: holds a judge trained with other {what}; name another folder, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / ORIGIN) as temporary:
        temporary.write_text(json.dumps(origin))
    # The training loop draws its own bar on stderr.
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        return train_judge(images, judged_on, classes, folder, config)
