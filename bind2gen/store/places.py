"""Where a query must lie to find a modality: beyond the gap between what it is and what is searched."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..modality import MODALITIES
from ..space.adapter import EmbeddingAdapter
from ..space.arithmetic import Embeds, as_tensor, gap_shift, normalize
from .contract import FILM

VARIETY = 0.4  # diversity of sums; mini.evaluate.sums measured it
TAKEN_OUT = 0.5  # of what is not meant, against 1 of each that is


class Part(NamedTuple):
    """One part of a query.

    Attributes:
        modality: what it is; None is not known, so it stays where it is.
        vector: (D,) of any length.
        weight: of it in the sum; below zero it is taken out.
    """

    modality: str | None
    vector: Embeds
    weight: float = 1.0


def moved(part: Part, target: str, adapter: EmbeddingAdapter | None) -> torch.Tensor:
    """A part of a query, (D,) unit norm, where the embeddings of ``target`` lie.

    By way of the place of images, to which the adapter knows every way; without an adapter, or where it does not know
    the target's mean, it goes no further than it can.
    """
    vector = normalize(as_tensor(part.vector).float())
    if adapter is None or part.modality in (None, target):
        return vector
    at_images = adapter.shift(_place(part.modality), vector[None])
    place = _place(target)
    if place != "image" and place in adapter.known:
        means = adapter.means.to(at_images)
        source, goal = means[adapter.known.index("image")], means[adapter.known.index(place)]
        at_images = gap_shift(at_images, source, goal, adapter.config.gap_strength)
    return at_images[0]


def _place(modality: str) -> str:
    """The modality whose mean counts: what pictures' tower sees lies where images lie, and so do sums for films."""
    return "image" if modality == FILM or MODALITIES[modality].tower == MODALITIES["image"].tower else modality
