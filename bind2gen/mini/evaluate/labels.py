"""Photographs and sounds of many hands by their finer labels: what is kept to judge on, and which labels are judged.

Training (``bind2gen.mini``) leaves out what these keep.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch

from ...preprocess.words import split_words
from ..data import Sample, held_out
from ..recipe import JUDGED
from .verdicts import Verdicts, nearest_class

PHOTO_LABELS_FROM = 5  # photos that a label needs to be judged
SOUND_LABELS_FROM = 4  # clips
LEFT_OUT = 30  # labels of photos that are never trained
SOURCES = 5  # one source of sounds in so many is kept to judge on


def plain(name: str) -> str:
    """A label as one would say it: "bow_(weapon)" is "bow"."""
    return " ".join(split_words(re.sub(r"\(.*?\)", "", name).replace("_", " "))).removeprefix("and ")


def labels_of(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) finer names, as one would say them; the concept where a row has none."""
    return np.array([plain(sample.row.get("label") or sample.concept) for sample in samples])


def frequent(labels: Iterable[str], least: int) -> list[str]:
    """Labels that occur at least so often, sorted; no empty ones."""
    return sorted(label for label, count in Counter(labels).items() if label and count >= least)


def of_kept_source(samples: Sequence[Sample]) -> np.ndarray:
    """(N,) bool: sounds of the sources that are kept to judge on, by the column ``source``."""
    return np.array([zlib.crc32(sample.row["source"].encode()) % SOURCES == 0 for sample in samples])


class Labelled:
    """Things with their rows, by concept and by finer name."""

    samples: list[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def concepts(self) -> np.ndarray:
        """(N,) names, empty where it is none of ours."""
        return np.array([sample.concept for sample in self.samples])

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) finer names, as one would say them; empty where nobody wrote down what it is."""
        return labels_of(self.samples)


@dataclass(frozen=True)
class LabelledPhotos(Labelled):
    """Photographs as they are stored, with their rows.

    Attributes:
        files: encoded pictures.
        samples: their rows, in the same order.
        large: (N,) whether it is of useful size; the others are 64 pixels.
    """

    files: list[bytes]
    samples: list[Sample]
    large: np.ndarray

    def take(self, rows: np.ndarray) -> Self:
        """Those at the places ``rows``, in this order."""
        return type(self)([self.files[i] for i in rows], [self.samples[i] for i in rows], self.large[rows])

    @cached_property
    def held_out(self) -> np.ndarray:
        """(N,) bool: kept to judge on, a tenth by photo or video."""
        return held_out(self)

    @cached_property
    def judged_labels(self) -> list[str]:
        """Labels with photos enough to be judged."""
        return frequent(self.labels[self.large].tolist(), PHOTO_LABELS_FROM)

    @cached_property
    def left_out_labels(self) -> list[str]:
        """Labels that are never trained, to see what the words alone give; none of them is of a concept."""
        ours = set(self.labels[self.concepts != ""])
        others = sorted(set(self.judged_labels) - ours, key=lambda label: zlib.crc32(label.encode()))
        return sorted(others[:LEFT_OUT])

    def judged_rows(self) -> np.ndarray:
        """Places of what no training has seen: what is held out, and all large photos of the labels left out."""
        return np.flatnonzero(self.held_out | (np.isin(self.labels, self.left_out_labels) & self.large))


def nearest_name(
    embeds: torch.Tensor,
    vectors: Mapping[str, torch.Tensor],
    wanted: np.ndarray,
    names: Sequence[str],
    chosen: np.ndarray,
) -> Verdicts:
    """The chosen ones, (N,) bool, of (N, D) embeddings are answered by the nearest of the names' vectors."""
    if not chosen.any():
        return Verdicts(wanted[chosen], wanted[chosen], tuple(names))
    classes = torch.stack([vectors[name] for name in names])
    return nearest_class(embeds[torch.from_numpy(chosen)], classes, wanted[chosen], tuple(names))


def photo_verdicts(
    photos: LabelledPhotos,
    embeds: torch.Tensor,
    vectors: Mapping[str, torch.Tensor],
    judged: Sequence[str],
    left_out: Sequence[str],
) -> tuple[dict[str, Verdicts], np.ndarray, np.ndarray]:
    """Name photographs by the nearest text.

    Args:
        embeds: (N, D) unit norm of the photos.
        vectors: (D,) unit norm of every name in :data:`JUDGED` and ``judged``.
        judged: labels, one of which is the answer.
        left_out: those of them that were not trained.

    Returns:
        Answers: of those of ours (``concepts``) and the large ones among them among :data:`JUDGED`, of large ones of
        trained ``labels`` and of those of the labels ``left_out`` among all judged; and how near large photos of ours,
        and of none of ours, are to the nearest of :data:`JUDGED`, as cosines.
    """
    ours, is_left_out = np.isin(photos.concepts, JUDGED), np.isin(photos.labels, left_out)
    known = photos.large & np.isin(photos.labels, judged) & ~is_left_out
    best = (embeds @ torch.stack([vectors[name] for name in JUDGED]).T).max(1).values.numpy()
    asked = {
        "concepts": (photos.concepts, JUDGED, ours),
        "large_concepts": (photos.concepts, JUDGED, ours & photos.large),
        "labels": (photos.labels, judged, known),
        "left_out": (photos.labels, judged, is_left_out),
    }
    found = {name: nearest_name(embeds, vectors, *about) for name, about in asked.items()}
    return found, best[ours & photos.large], best[(photos.concepts == "") & photos.large]
