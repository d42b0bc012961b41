"""What the bundled model's small towers are paired with: every infrared crop, depth map or movement with a random photo
(or synthetic picture) of its concept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError
from ..imagebind.model import ImageBindModel
from ..train.align import Pairs
from ..train.augment import augment_movements, augment_photos
from ..train.loop import half_precision
from .data import ImuSet, Sample
from .towers import balanced_weights

BATCH = 64  # items embedded at a time


@dataclass(frozen=True)
class Source:
    """Training items of one modality.

    Attributes:
        modality: its name.
        samples: what each item is.
        make: ``(rng, chosen) -> (len(chosen), 1, *sample)``: a freshly altered clip of each chosen item.
    """

    modality: str
    samples: list[Sample]
    make: Callable[[np.random.Generator, np.ndarray], torch.Tensor]

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])


@dataclass(frozen=True)
class Anchors:
    """Frozen embeddings of pictures, (N, D) unit norm, and their concepts (N,)."""

    embeds: torch.Tensor
    concepts: np.ndarray

    def mean(self, concept: str) -> torch.Tensor:
        """Mean embedding of one concept, (D,)."""
        return self.embeds[torch.from_numpy(self.concepts == concept)].mean(0)


def paired(source: Source, anchors: Anchors) -> Callable[[np.random.Generator, int], Pairs]:
    """Draws items, rare concepts lifted, each with a random picture of its concept.

    Raises:
        InputError: there is no picture of some concept, or there is but one concept: nothing to tell it apart from.
    """
    concepts = source.concepts()
    if len(set(concepts)) < 2:
        raise InputError(f"{source.modality}: wanted items of two concepts or more, got {sorted(set(concepts))}")
    rows = {name: np.flatnonzero(anchors.concepts == name) for name in set(concepts)}
    if missing := sorted(name for name, found in rows.items() if not len(found)):
        raise InputError(f"{source.modality}: wanted pictures of each concept to pair with, have none of {missing}")
    weights = balanced_weights(concepts)
    groups = torch.from_numpy(np.unique(concepts, return_inverse=True)[1])

    def draw(rng: np.random.Generator, count: int) -> Pairs:
        chosen = rng.choice(len(weights), count, p=weights)
        inputs = source.make(rng, chosen)
        pictures = np.array([rng.choice(rows[name]) for name in concepts[chosen]])
        return Pairs(inputs, anchors.embeds[pictures], groups[chosen])

    return draw


@torch.no_grad()
def embed_altered(model: ImageBindModel, source: Source, seed: int) -> torch.Tensor:
    """(N, D) unit norm, of one altered clip of each item."""
    rng = np.random.default_rng([seed, 1])
    batches = np.split(np.arange(len(source.samples)), range(BATCH, len(source.samples), BATCH))
    with half_precision():
        return torch.cat([model.encode(source.modality, source.make(rng, chosen)) for chosen in batches])


def one_channel(modality: str, values: torch.Tensor, samples: list[Sample], *, colour: float) -> Source:
    """Crops and mirror images of infrared pictures or depth maps.

    Args:
        modality: ``"thermal"`` or ``"depth"``.
        values: (N, 1, H, W) as the tower takes them.
        samples: their rows.
        colour: largest relative change of level and contrast; 0 where values are metric.
    """
    low, high = values.amin(), values.amax()  # augmentations work on 0..1

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        unit = ((values[chosen] - low) / (high - low)).expand(-1, 3, -1, -1)
        altered = augment_photos(unit, rng, area=(0.4, 1.0), colour=colour)[:, :1]
        return (altered * (high - low) + low)[:, None]  # (N, 1, 1, H, W)

    return Source(modality, samples, make)


def movements(data: ImuSet, length: int) -> Source:
    """Stretches of recordings, (N, 1, 6, length), zero-padded at the end."""

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(augment_movements([data.recordings[i] for i in chosen], length, rng))[:, None]

    return Source("imu", data.samples, make)
