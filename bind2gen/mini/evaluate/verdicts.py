"""What was wanted and what was found, item by item: every accuracy of the table is counted from this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Verdicts:
    """One answer an item.

    Attributes:
        wanted, found: (N,) names of concepts; each is one of ``classes``.
        classes: the answers that were possible.
    """

    wanted: np.ndarray
    found: np.ndarray
    classes: tuple[str, ...]

    def accuracy(self) -> float:
        """Share of right answers, 0..1."""
        return float((self.wanted == self.found).mean())

    def by_concept(self) -> dict[str, float]:
        """Share of right answers for each concept that was wanted at least once, in the order of ``classes``."""
        there = [name for name in self.classes if (self.wanted == name).any()]
        return {name: float((self.found[self.wanted == name] == name).mean()) for name in there}

    def mean_over_concepts(self) -> float:
        """The mean of :meth:`by_concept`: concepts with many items count no more than others."""
        return float(np.mean(list(self.by_concept().values())))

    def figures(self, name: str) -> dict[str, float]:
        """How many there are, and both shares, as stages write them."""
        shares = {f"{name}_first": self.accuracy(), f"{name}_mean_class": self.mean_over_concepts()}
        return {name: len(self.wanted)} | shares

    def confusion(self) -> np.ndarray:
        """(C, C) shares: row c says how items of class c were answered, and sums to 1 (or to 0 without items)."""
        place = {name: i for i, name in enumerate(self.classes)}
        counts = np.zeros((len(self.classes),) * 2)
        np.add.at(counts, ([place[n] for n in self.wanted], [place[n] for n in self.found]), 1)
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def nearest_class(
    embeds: torch.Tensor, class_embeds: torch.Tensor, wanted: np.ndarray, classes: tuple[str, ...]
) -> Verdicts:
    """Zero-shot: (N, D) embeddings are answered by the nearest of (C, D) class embeddings, all unit norm."""
    return from_scores(embeds @ class_embeds.T, wanted, classes)


def from_scores(scores: torch.Tensor, wanted: np.ndarray, classes: tuple[str, ...]) -> Verdicts:
    """Answers are the largest of (N, C) scores."""
    return Verdicts(wanted, np.array(classes)[scores.argmax(1).cpu().numpy()], classes)


def nearest_item(
    queries: torch.Tensor, gallery: torch.Tensor, wanted: np.ndarray, concepts: np.ndarray, classes: tuple[str, ...]
) -> Verdicts:
    """Retrieval at rank 1: (N, D) queries are answered by the concept of the nearest of (M, D) items."""
    return Verdicts(wanted, concepts[(queries @ gallery.T).argmax(1).cpu().numpy()], classes)


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Chance that a score of the first kind is above one of the second; 0.5 says nothing. Equal ones count half."""
    lower = np.sort(lower)
    below, upto = np.searchsorted(lower, higher), np.searchsorted(lower, higher, side="right")
    return float((below + upto).mean() / 2 / len(lower))


def rank_one_chance(wanted: np.ndarray, concepts: np.ndarray) -> float:
    """What :func:`nearest_item` scores when it answers by a random item: each query's share of the gallery."""
    names, counts = np.unique(concepts, return_counts=True)
    share = dict(zip(names, counts / len(concepts), strict=True))
    return float(np.mean([share.get(name, 0.0) for name in wanted]))
