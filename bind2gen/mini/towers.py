"""What training the bundled model's towers shares: how often things are drawn, raw inputs as embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..errors import Bind2GenWarning
from ..imagebind.embedding import encode_inputs
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor

BATCH = 32  # inputs embedded at a time


def balanced_weights(concepts: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Sampling probabilities that lift rare concepts: each item count ** (power - 1). Background ('') gets none."""
    names, inverse, counts = np.unique(concepts, return_inverse=True, return_counts=True)
    weights = (counts.astype(float) ** (power - 1))[inverse]
    weights[concepts == ""] = 0
    return weights / weights.sum()


def embed(
    model: ImageBindModel, processor: ImageBindProcessor, modality: str, items: Sequence[Any], *, quiet: bool = True
) -> torch.Tensor:
    """Raw inputs as the processor takes them -> (N, D) float32 unit norm on the CPU."""
    parts = [list(items[start : start + BATCH]) for start in range(0, len(items), BATCH)]
    bar = tqdm(parts, desc=f"{modality} embeddings", disable=quiet or None, leave=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # many stretches of motion are shorter than a window
        return torch.cat([encode_inputs(model, processor, modality, part).float().cpu() for part in bar])
