"""Searches that need more than the nearest rows: sums, whose answers are to show both of their things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from ..space.arithmetic import blend
from ..space.index import CANDIDATES, EmbeddingIndex
from .contract import Engine, Item, Selection

GALLERY = 20_000  # rows that are looked at as a whole: for the variance that whitening evens out, and for variety
T = TypeVar("T")


class Galleries:
    """Rows of an engine as :class:`EmbeddingIndex`, kept in memory until the rows change."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._version: object | None = None
        self._known: dict[tuple, object] = {}

    def modalities(self) -> list[str]:
        """Of all rows."""
        return sorted(self._once(("modalities",), self._engine.modalities))

    def varied(
        self,
        vectors: Sequence[torch.Tensor],
        weights: Sequence[float],
        count: int,
        chosen: Selection,
        *,
        diversity: float,
        whiten: bool,
    ) -> list[Item]:
        """The ``count`` best by :meth:`EmbeddingIndex.search`, of all rows, or of those that are near to any part.

        Args:
            vectors: (D,) parts of a sum, unit norm, where the rows lie.
            weights: one each.
        """
        everything = replace(chosen, without=())
        total, items, index = self._once(("gallery", everything, whiten), lambda: self._drawn(everything, whiten))
        if total > len(items):
            queries = [blend(vectors, weights), *(v for v, weight in zip(vectors, weights, strict=True) if weight > 0)]
            near = [self._engine.nearest(one.numpy(), CANDIDATES, chosen, exact=False) for one in queries]
            found = list({item.key: item for items in near for item in items}.values())
            items, index = found, EmbeddingIndex(_stacked(found), whiten=_stacked(items) if whiten else False)
        own = [place for place, item in enumerate(items) if item.path in chosen.without]
        if len(own) == len(items):
            return []
        hits = index.search(
            [one[None] for one in vectors], count, weights=weights, diversity=diversity,
            leave_out=torch.tensor([own]) if own else None,
        )  # fmt: skip
        return [items[place] for place in hits.places[0].tolist()]

    def _drawn(self, chosen: Selection, whiten: bool) -> tuple[int, list[Item], EmbeddingIndex | None]:
        """How many rows there are, at most about :data:`GALLERY` of them, and an index of these if they are all."""
        total = self._engine.count(chosen)
        share = min(1.0, GALLERY / max(total, 1))
        items = self._engine.rows(replace(chosen, share=share), thumbnails=share == 1)
        return total, items, EmbeddingIndex(_stacked(items), whiten=whiten) if items and share == 1 else None

    def _once(self, what: tuple, read: Callable[[], T]) -> T:
        """``read()``, once for each version of the rows; of galleries the last one is kept."""
        version = self._engine.version()
        if version is None:
            return read()
        if version != self._version:
            self._version, self._known = version, {}
        if what not in self._known:
            self._known = {key: value for key, value in self._known.items() if key[0] != what[0]} | {what: read()}
        return self._known[what]


def _stacked(items: Sequence[Item]) -> torch.Tensor:
    return torch.from_numpy(np.stack([item.vector for item in items]))
