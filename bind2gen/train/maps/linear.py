"""Closed-form linear maps between embeddings: of a modality to images, and of the encoder's space to a detector's."""

from __future__ import annotations

from collections.abc import Sequence

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
    vectors, turned, penalties = _turned(source, target, (ridge,))
    return (vectors @ (turned / penalties[0])).float()


def _turned(
    source: torch.Tensor, target: torch.Tensor, ridges: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Axes (D1, K), what the target has along each (K, D2), and (K, 1) by which each strength divides that."""
    check_paired("ridge_map", source, target)
    source, target = source.double(), target.double()
    if len(source) < source.shape[1]:  # no more axes than rows
        _, spread, axes = torch.linalg.svd(source, full_matrices=False)
        values, vectors = spread.square(), axes.T
    else:
        values, vectors = torch.linalg.eigh(source.T @ source)
    mean = source.square().sum() / source.shape[1]
    penalties = [values.clamp(min=0)[:, None] + ridge * mean for ridge in ridges]
    return vectors, vectors.T @ (source.T @ target), penalties


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
        vectors, turned, penalties = _turned(source[~out], target[~out], ridges)
        along, wanted = source[out].double() @ vectors, target[out].double()  # far cheaper than each map as a matrix
        for i, penalty in enumerate(penalties):
            errors[i] += (along @ (turned / penalty) - wanted).square().sum().item()
    best = min(zip(errors, ridges, strict=True))[1]
    return ridge_map(source, target, best), best


def check_paired(what: str, source: torch.Tensor, target: torch.Tensor) -> None:
    """Raises :class:`ShapeError` unless the two are matrices with as many rows, :class:`NonFiniteError` for NaN."""
    if source.ndim != 2 or target.ndim != 2 or len(source) != len(target):
        came = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise ShapeError(f"{what}: wanted paired embeddings (N, D1) and (N, D2), got {came}")
    if not bool(source.isfinite().all() and target.isfinite().all()):
        raise NonFiniteError(f"{what}: wanted finite embeddings, found NaN or infinity")
