"""Vectors for YOLO's boxes: begun so that COCO's names answer as before, then taught what else is in a box.

YOLO's answers are linear in its features, and class vectors of fewer names than dimensions are independent, so that a
box's vector can be solved for whose products with them are these answers. What remains free is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..hosts.boxes.yolo.network import Regions, YoloModel
from ..train.loop import LoopConfig, train
from .detector_lessons import Lessons
from .detector_words import Words

BIAS = -4.0  # logit of what a box's vector says nothing of
OTHERS, LENGTH = 0.05, 0.05  # weights in the fit: of products with other words, which should be 0, and of the vector
RIGHT = 3.0  # weight of a word that is right beside one that is wrong
DROPPED = 0.1  # share of the context's numbers
OBJECT, SEEN = 2.0, 0.2  # weights of the losses of objectness, and of the likeness to what the image tower sees
OBJECTS = 2.0  # weight of a region that is an object beside one that is not


@torch.no_grad()
def begin(network: YoloModel, words: Words) -> None:
    """Set what makes vectors so that COCO's names answer as YOLO does, and all others that they are not there."""
    classes, count = words.classes(words.directions), len(words.answered)
    others = [k for k in range(len(words)) if k not in words.answered]
    left = torch.cat([classes[words.answered], OTHERS * classes[others], LENGTH * torch.eye(classes.shape[1])])
    right = torch.cat([torch.eye(count), torch.zeros(len(left) - count, count)])
    network.vectors.weight.copy_(torch.linalg.lstsq(left, right).solution)
    network.vectors.bias.copy_(-BIAS * network.vectors.weight.sum(1))
    network.bias.fill_(BIAS)
    nn.init.zeros_(network.more.weight)
    nn.init.zeros_(network.more.bias)


class Taught(nn.Module):
    """What is trained: what a box's vector has from the context."""

    def __init__(self, network: YoloModel) -> None:
        super().__init__()
        self.context, self.more = network.context, network.more


def train_detector(
    network: YoloModel,
    words: Words,
    lessons: Lessons,
    loop: LoopConfig,
    folder: Path,
    *,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> None:
    """Train a network that has begun, in place.

    Args:
        loop, folder, evaluate, evaluate_every: as in :func:`~bind2gen.train.loop.train`; a batch is of regions.
    """

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        some = lessons.take(torch.from_numpy(rng.integers(len(lessons), size=loop.batch_size)))
        context = F.dropout(some.context.float(), DROPPED)
        vectors, objectness = network.told(Regions(context, some.objectness, some.answers.float(), context))
        told = lesson_losses(vectors, objectness, network.bias, words, some)
        return sum(told.values()), {name: value.item() for name, value in told.items()}

    taught = Taught(network)
    result = train(taught, step_loss, loop, folder, evaluate=evaluate, evaluate_every=evaluate_every)
    taught.load_state_dict(result.state_dict())  # the moving average into the network's own layers


def lesson_losses(
    vectors: torch.Tensor, objectness: torch.Tensor, bias: torch.Tensor, words: Words, some: Lessons
) -> dict[str, torch.Tensor]:
    """Of the words, of the objectness, and of the likeness to what was seen; weighted.

    Args:
        vectors, objectness: (N, D) and (N,) of the network; bias: of all logits.
    """
    wanted = some.wanted.float()
    logits = vectors @ words.classes(words.directions).T + bias
    wrong = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    wrong = (wrong * ~some.open * (1 + (RIGHT - 1) * (wanted == 1))).sum(1)
    known, looked = some.thing >= 0, some.seen.float().norm(dim=1) > 0.5
    things = F.binary_cross_entropy_with_logits(objectness[known], some.thing[known], reduction="none")
    things = things * (1 + (OBJECTS - 1) * (some.thing[known] == 1))
    unlike = 1 - F.cosine_similarity(vectors[looked], words.classes(some.seen[looked].float()), dim=1)
    return {
        "words": (wrong * some.weight).sum() / some.weight.sum(),
        "objects": OBJECT * things.mean(),
        "seen": SEEN * (unlike.mean() if len(unlike) else vectors.sum() * 0),
    }
