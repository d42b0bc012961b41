"""The judge: a small classifier of photos that shares nothing with the model whose pictures it judges.

It sees real training photos only; its accuracy on held-out real photos is reported beside every score it gives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..train.augment import augment_photos, erase_patches
from ..train.data import ImageSet
from ..train.loop import LoopConfig, train
from ..train.towers import balanced_weights

WIDTHS = (32, 64, 128, 256)
JUDGE_LOOP = LoopConfig(2400, 64, 2e-3, warmup_steps=100, weight_decay=0.05, ema_decay=0.99, seed=11, save_every=200)


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
    """(N, H, W, 3) uint8 -> (N, classes), averaged over the picture and its mirror image."""
    unit = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    parts = [judge(part) + judge(part.flip(3)) for part in unit.split(256)]
    return torch.cat(parts).float() / 2


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
    wanted = torch.tensor([classes.index(c) for c in judged_on.concepts()])
    weights = balanced_weights(images.concepts())
    torch.manual_seed(config.seed)
    judge = build_judge(len(classes))

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = rng.choice(len(weights), config.batch_size, p=weights)
        unit = torch.from_numpy(images.pixels[chosen]).permute(0, 3, 1, 2).float() / 255
        unit = erase_patches(augment_photos(unit, rng, area=(0.5, 1.0)), rng)
        loss = F.cross_entropy(judge(unit * 2 - 1), targets[chosen], label_smoothing=0.1)
        return loss, {}

    def evaluate(judged: nn.Module) -> dict[str, float]:
        right = judge_logits(judged, judged_on.pixels).argmax(1) == wanted
        by_class = torch.stack([right[wanted == k].float().mean() for k in range(len(classes))])
        return {"accuracy": right.float().mean().item(), "mean_class_accuracy": by_class.mean().item()}

    return train(judge, step_loss, config, folder, evaluate=evaluate, evaluate_every=400)
