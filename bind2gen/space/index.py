"""Exact search among embeddings, and queries that are sums: a photo and a sound find what shows both.

The five nearest neighbours of a sum tend to be five pictures of the same thing, or of neither: those that lie between
everything. Two known remedies, both optional: distances in the space whitened by the gallery's own covariance, and
maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998), which takes neighbours that are not like each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InputError, ShapeError
from .arithmetic import Embeds, as_tensor, blend, normalize

SHRINKAGE = 0.1  # of the mean variance, that :class:`EmbeddingIndex` adds to each direction's when it whitens
CANDIDATES = 1000  # nearest ones that diversity chooses from


class Hits(NamedTuple):
    """What a search found, best first: ``places`` (N, k) int64 in the gallery and their cosines ``scores`` (N, k).

    Of a single query (D,) both are (k,).
    """

    places: torch.Tensor
    scores: torch.Tensor


class EmbeddingIndex:
    """A gallery in memory to search in: what :class:`bind2gen.store.EmbeddingStore` keeps on disk, by the same verbs.

    Args:
        embeds: (M, D) tensor or array of the gallery, M >= 1; lengths do not matter.
        whiten: compare directions after taking the gallery's mean off and evening out its variance. For queries that
            are sums; needs at least some dozens of items. Queries must lie where the gallery lies: move those of other
            modalities over the gap first, with :class:`~bind2gen.EmbeddingAdapter`. Embeddings (S, D) in place of True
            are those whose mean and variance count, where the gallery is a part of them.

    Raises:
        ShapeError: another rank, or an item of zero length.
        NonFiniteError: NaN or infinity.
    """

    def __init__(self, embeds: Embeds, *, whiten: bool | Embeds = False) -> None:
        self._whiten = whiten
        self._keep(_gallery(embeds))

    def __len__(self) -> int:
        return len(self.items)

    def add(self, embeds: Embeds) -> torch.Tensor:
        """Add (N, D) to the gallery, after what is there; their places (N,)."""
        embeds, before = _gallery(embeds).to(self._embeds), len(self)
        if embeds.shape[1] != self._embeds.shape[1]:
            raise ShapeError(f"gallery: wanted embeddings (N, {self._embeds.shape[1]}), got {tuple(embeds.shape)}")
        self._keep(torch.cat([self._embeds, embeds]))
        return torch.arange(before, len(self))

    def remove(self, places: torch.Tensor | np.ndarray | Sequence[int]) -> None:
        """Take items out of the gallery, by their places; those behind them move up. One at least must remain."""
        kept = torch.ones(len(self), dtype=torch.bool)
        kept[torch.as_tensor(places, dtype=torch.long)] = False
        self._keep(_gallery(self._embeds[kept.to(self._embeds.device)]))

    def _keep(self, embeds: torch.Tensor) -> None:
        whitens = isinstance(self._whiten, Embeds) or self._whiten
        like = _gallery(self._whiten).to(embeds) if isinstance(self._whiten, Embeds) else embeds
        self._mean, self._whitening = _whitening(like) if whitens else (None, None)
        self._embeds, self.items = embeds, self._placed(embeds)

    def search(
        self,
        query: Embeds | Sequence[Embeds],
        count: int = 5,
        *,
        weights: Sequence[float] | None = None,
        diversity: float = 0.0,
        leave_out: torch.Tensor | np.ndarray | int | None = None,
    ) -> Hits:
        """Find the ``count`` best items for each query, fewer if the gallery is smaller.

        Args:
            query: (N, D), or (D,) for one alone, or several of that shape, which are summed.
            weights: of the several; default: equal ones. Negative ones subtract.
            diversity: 0..1; above 0, likeness counts ``1 - diversity`` and unlikeness to what is already chosen
                ``diversity``. 0.3 to 0.4 suits sums.
            leave_out: (N,) one place of the gallery for each query that it must not find (itself), or (N, L) several;
                -1 for none.

        Raises:
            ShapeError: widths or counts differ.
            InputError: ``count`` or ``diversity`` out of range, or weights that cannot be used.
        """
        if count < 1:
            raise InputError(f"count: wanted 1 or more, got {count}")
        if not 0 <= diversity <= 1:
            raise InputError(f"diversity: wanted 0..1, got {diversity}")
        parts = [as_tensor(part) for part in ([query] if isinstance(query, Embeds) else query)]
        width = self.items.shape[1]
        for part in parts:
            if part.ndim not in (1, 2) or part.shape[-1] != width:
                raise ShapeError(f"query: wanted (N, {width}) or ({width},), got {tuple(part.shape)}")
        blended = blend([self._placed(normalize(part.to(self.items))) for part in parts], weights)
        hits = self._nearest(blended.view(-1, width), count, diversity, leave_out)
        return hits if blended.ndim == 2 else Hits(hits.places[0], hits.scores[0])

    def _nearest(self, queries: torch.Tensor, count: int, diversity: float, leave_out: Any) -> Hits:
        likeness = queries @ self.items.T
        room = len(self)
        if leave_out is not None:
            leave_out = torch.atleast_1d(torch.as_tensor(leave_out, device=likeness.device))
            if leave_out.ndim > 2 or leave_out.shape[:1] != likeness.shape[:1]:
                came = tuple(leave_out.shape)
                raise ShapeError(f"leave_out: wanted one place a query, ({len(likeness)},), or several, got {came}")
            rows, column = torch.nonzero(leave_out.view(len(likeness), -1) >= 0, as_tuple=True)
            likeness[rows, leave_out.view(len(likeness), -1)[rows, column]] = -torch.inf
            room -= int(likeness.isneginf().sum(1).max())
        count = min(count, room)
        if not diversity:
            scores, places = likeness.topk(count)
            return Hits(places, scores)
        return self._diverse(likeness, count, diversity, min(max(CANDIDATES, count), room))

    def _placed(self, embeds: torch.Tensor) -> torch.Tensor:
        return embeds if self._mean is None else normalize((embeds - self._mean) @ self._whitening)

    def _diverse(self, likeness: torch.Tensor, count: int, diversity: float, candidates: int) -> Hits:
        near, places = likeness.topk(candidates)  # (N, K)
        chosen = torch.zeros(len(near), 0, dtype=torch.long, device=near.device)
        unlike = torch.full_like(near, -1.0)  # greatest cosine with what is chosen; the first choice is the nearest
        taken = torch.zeros_like(near, dtype=torch.bool)
        for step in range(count):
            worth = near if step == 0 else (1 - diversity) * near - diversity * unlike
            best = worth.masked_fill(taken, -torch.inf).argmax(1, keepdim=True)  # (N, 1)
            chosen, taken = torch.cat([chosen, best], 1), taken.scatter(1, best, True)
            latest = self.items[places.gather(1, best)[:, 0]] @ self.items.T  # (N, M)
            unlike = torch.maximum(unlike, latest.gather(1, places))
        return Hits(places.gather(1, chosen), near.gather(1, chosen))


def _gallery(embeds: Embeds) -> torch.Tensor:
    """(M, D) unit norm, M >= 1."""
    embeds = as_tensor(embeds)
    if embeds.ndim != 2 or not len(embeds):
        raise ShapeError(f"gallery: wanted embeddings (M, D), M >= 1, got {tuple(embeds.shape)}")
    return normalize(embeds.float())


def _whitening(embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (D,) and symmetric whitening (D, D) of unit-norm embeddings, their covariance shrunk towards a sphere."""
    mean = embeds.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(embeds.T.double(), correction=0))
    variances = variances.clamp_min(0) + SHRINKAGE * variances.mean().clamp_min(torch.finfo(torch.float32).eps)
    return mean, (directions * variances.rsqrt() @ directions.T).to(embeds.dtype)
