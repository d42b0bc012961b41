"""Closed-form linear maps from one modality's embeddings to image embeddings, for the adapter."""

from __future__ import annotations

import torch

from ..errors import ShapeError

RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # relative to the mean variance of the source
FOLDS = 5


def ridge_map(source: torch.Tensor, target: torch.Tensor, ridge: float) -> torch.Tensor:
    """W of least ``|source W - target|^2 + ridge * v |W|^2``, v the source's mean squared value times its rows.

    Args:
        source, target: (N, D) paired embeddings, each less its mean.

    Returns:
        (D, D), applied from the right.
    """
    if source.shape != target.shape or source.ndim != 2:
        raise ShapeError(f"ridge_map: wanted paired (N, D), got {tuple(source.shape)} and {tuple(target.shape)}")
    source, target = source.double(), target.double()
    gram = source.T @ source
    penalty = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + penalty, source.T @ target).float()


def fit_linear_map(source: torch.Tensor, target: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The ridge map whose strength does best on left-out groups.

    Args:
        source, target: (N, D) paired embeddings, each less its mean.
        groups: (N,) whole numbers; items of one group (one recording) are left out together.

    Returns:
        The map (D, D) fitted on everything, and the relative ridge that was chosen.
    """

    def left_out_error(ridge: float) -> float:
        error = 0.0
        for fold in range(FOLDS):
            out = groups % FOLDS == fold
            learned = ridge_map(source[~out], target[~out], ridge)
            error += (source[out] @ learned - target[out]).square().sum().item()
        return error

    best = min(RIDGES, key=left_out_error)
    return ridge_map(source, target, best), best
