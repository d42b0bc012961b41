"""Embedding arithmetic: pure functions on (B, D) tensors of unit-norm embeddings, or on NumPy arrays of them.

Paper (arXiv 2305.05665), section 4.4: normalise each embedding, weight 0.5 each, add, compare by cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError, NonFiniteError, ShapeError

MIN_NORM = 1e-6  # under this a sum has no direction left

Embeds = torch.Tensor | np.ndarray


def as_tensor(embeds: Embeds) -> torch.Tensor:
    """A tensor as it is; an array as a tensor of its dtype, whole numbers and booleans as float32.

    Raises:
        ShapeError: neither of the two.
    """
    if isinstance(embeds, np.ndarray):
        embeds = torch.from_numpy(np.require(embeds, requirements=["C", "W"]))  # not mapped read-only, nor reversed
    if not isinstance(embeds, torch.Tensor):
        raise ShapeError(f"embeddings: wanted a tensor or an array (..., D), got {type(embeds).__name__}")
    return embeds if embeds.is_floating_point() else embeds.float()


def normalize(embeds: Embeds) -> torch.Tensor:
    """Scale each row to unit norm, (..., D); the result is a tensor.

    Raises:
        NonFiniteError: NaN or infinity among the values.
        ShapeError: a row of (nearly) zero norm has no direction.
    """
    embeds = as_tensor(embeds)
    if not bool(torch.isfinite(embeds).all()):
        raise NonFiniteError("embeddings: wanted finite numbers, found NaN or infinity")
    if bool((embeds.norm(dim=-1) < MIN_NORM).any()):
        raise ShapeError("embeddings: a vector of zero length has no direction; do the parts cancel each other?")
    return F.normalize(embeds, dim=-1)


def blend(embeds: Sequence[Embeds], weights: Sequence[float] | None = None) -> torch.Tensor:
    """Weighted sum of normalised embeddings, normalised again.

    Args:
        embeds: of equal shape (B, D) or (D,).
        weights: one finite number each, at least one above zero; negative ones subtract. Default: all equal.

    Returns:
        Unit norm, of that shape.

    Raises:
        InputError: weights that are no finite numbers, or none of them above zero.
        ShapeError: nothing to blend, shapes or counts differ, or the sum vanishes.
    """
    weights = [1.0] * len(embeds) if weights is None else list(weights)
    check_blend(embeds, weights)
    return normalize(sum(w * normalize(e) for w, e in zip(weights, embeds, strict=True) if w))


def check_blend(embeds: Sequence[Embeds], weights: Sequence[float]) -> None:
    """Raise what :func:`blend` raises of weights and shapes."""
    if not len(embeds):
        raise ShapeError("blend: wanted at least one embedding, got none")
    if len(weights) != len(embeds):
        raise ShapeError(f"blend: wanted one weight an embedding, got {len(weights)} for {len(embeds)}")
    shapes = {tuple(e.shape) for e in embeds}
    if len(shapes) > 1:
        raise ShapeError(f"blend: wanted equal shapes (B, D), got {sorted(shapes)}")
    if not all(isinstance(w, Real) and math.isfinite(w) for w in weights):
        raise InputError(f"blend: wanted weights that are finite numbers, got {weights}")
    if max(weights) <= 0:
        raise InputError(f"blend: wanted at least one weight above zero, got {weights}")


def subtract(embeds: Embeds, minus: Embeds, amount: float = 0.5) -> torch.Tensor:
    """Take ``amount`` of the direction ``minus`` out of ``embeds``; (B, D) unit norm."""
    return blend([embeds, minus], [1.0, -amount])


def slerp(start: Embeds, end: Embeds, fraction: float | torch.Tensor) -> torch.Tensor:
    """Spherical interpolation: constant angular speed from ``start`` (0) to ``end`` (1); (B, D) unit norm.

    Raises:
        ShapeError: the two are opposite, so that no shortest way exists.
    """
    start, end = normalize(start), normalize(end)
    angle = (start * end).sum(-1, keepdim=True).clamp(-1, 1).acos()
    if bool((angle > torch.pi - 1e-3).any()):
        raise ShapeError("slerp: the two embeddings are opposite; there is no shortest way between them")
    near = angle < 1e-4  # sin(angle) is 0 there, and the straight line is as good
    safe = torch.where(near, torch.ones_like(angle), angle)
    curved = (((1 - fraction) * safe).sin() * start + (fraction * safe).sin() * end) / safe.sin()
    return normalize(torch.where(near, (1 - fraction) * start + fraction * end, curved))


def gap_shift(embeds: Embeds, source_mean: Embeds, target_mean: Embeds, strength: float = 1.0) -> torch.Tensor:
    """Move embeddings over the modality gap (arXiv 2203.02053) and normalise.

    Args:
        embeds: (B, D) unit norm, of one modality.
        source_mean: (D,) mean of that modality's unit-norm embeddings.
        target_mean: (D,) mean of unit-norm image embeddings.
        strength: 0 leaves the embeddings alone, 1 moves the means onto each other.

    Raises:
        ShapeError: widths differ.
    """
    embeds, source_mean, target_mean = map(as_tensor, (embeds, source_mean, target_mean))
    if not source_mean.shape == target_mean.shape == embeds.shape[-1:]:
        came = f"{tuple(source_mean.shape)} and {tuple(target_mean.shape)}"
        raise ShapeError(f"gap_shift: wanted means of width {embeds.shape[-1]}, got {came}")
    return normalize(embeds + strength * (target_mean - source_mean))


def match_norm(embeds: Embeds, norm: float | torch.Tensor) -> torch.Tensor:
    """Scale each row to length ``norm``, (..., D)."""
    return normalize(embeds) * norm
