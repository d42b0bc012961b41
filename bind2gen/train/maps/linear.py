"""Closed-form linear maps between embeddings: of a modality to images, and of the encoder's space to a detector's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...errors import NonFiniteError, ShapeError

RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # relative to the mean variance of the source
FOLDS = 5


def ridge_map(source: torch.Tensor, target: torch.Tensor, ridge: float) -> torch.Tensor:
    """W of least ``|source W - target|^2 + ridge * v |W|^2``, v the source's mean squared value times its rows.

    Args:
        source, target: (N, D1) and (N, D2) paired embeddings, each less its mean.

    Returns:
        (D1, D2), applied from the right.
    """
    return next(_ridge_maps(source, target, (ridge,)))


def _ridge_maps(source: torch.Tensor, target: torch.Tensor, ridges: Sequence[float]) -> Iterator[torch.Tensor]:
    """The map of each strength, all from one decomposition."""
    check_paired("ridge_map", source, target)
    source, target = source.double(), target.double()
    gram = source.T @ source
    values, vectors = torch.linalg.eigh(gram)
    turned = vectors.T @ (source.T @ target)
    for ridge in ridges:
        penalty = ridge * gram.diagonal().mean()
        yield (vectors @ (turned / (values.clamp(min=0) + penalty)[:, None])).float()


def fit_linear_map(
    source: torch.Tensor, target: torch.Tensor, groups: torch.Tensor, *, ridges: Sequence[float] = RIDGES
) -> tuple[torch.Tensor, float]:
    """The ridge map whose strength does best on left-out groups.

    Args:
        source, target: (N, D1) and (N, D2) paired embeddings, each less its mean.
        groups: (N,) whole numbers; items of one group (one recording) are left out together.
        ridges: strengths to choose from.

    Returns:
        The map (D1, D2) fitted on everything, and the relative ridge that was chosen.
    """
    errors = [0.0] * len(ridges)
    for fold in range(FOLDS):
        out = groups % FOLDS == fold
        for i, learned in enumerate(_ridge_maps(source[~out], target[~out], ridges)):
            errors[i] += (source[out] @ learned - target[out]).square().sum().item()
    best = min(zip(errors, ridges, strict=True))[1]
    return ridge_map(source, target, best), best


def check_paired(what: str, source: torch.Tensor, target: torch.Tensor) -> None:
    """Raises :class:`ShapeError` unless the two are matrices with as many rows, :class:`NonFiniteError` for NaN."""
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        came = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise ShapeError(f"{what}: wanted paired embeddings (N, D1) and (N, D2), got {came}")
    if not bool(source.isfinite().all() and target.isfinite().all()):
        raise NonFiniteError(f"{what}: wanted finite embeddings, found NaN or infinity")
