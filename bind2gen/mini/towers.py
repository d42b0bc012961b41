"""What training the bundled model's towers shares: how often things are drawn, names as embeddings, ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..imagebind.model import ImageBindModel

Tokenize = Callable[[list[str]], torch.Tensor]


def balanced_weights(concepts: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Sampling probabilities that lift rare concepts: each item count ** (power - 1). Background ('') gets none."""
    names, inverse, counts = np.unique(concepts, return_inverse=True, return_counts=True)
    weights = (counts.astype(float) ** (power - 1))[inverse]
    weights[concepts == ""] = 0
    return weights / weights.sum()


def embed_names(
    model: ImageBindModel, tokenize: Tokenize, names: list[str], templates: tuple[str, ...]
) -> torch.Tensor:
    """Class embeddings: the mean over templates of each name's captions, (C, D) unit norm."""
    ids = torch.stack([tokenize([template.format(name) for template in templates]) for name in names])  # (C, S, T)
    return model.encode("text", ids)


def rank_one(queries: torch.Tensor, gallery: torch.Tensor, wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of queries (N, D) whose nearest gallery item (M, D) is of the wanted concept."""
    nearest = (queries @ gallery.T).argmax(1).cpu().numpy()
    return float((found[nearest] == wanted).mean())
