"""The joint space: where e5's vectors of texts lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .recipe import EMBED_DIM


@dataclass(frozen=True)
class Space:
    """The joint space: e5's main directions around the mean of ImageNet's names, and one more for "nothing said".

    Attributes:
        mean: (384,) of e5's vectors.
        basis: (384, D - 1) orthonormal columns.
    """

    mean: torch.Tensor
    basis: torch.Tensor

    @classmethod
    def fitted(cls, around: torch.Tensor, vectors: torch.Tensor, width: int = EMBED_DIM) -> Space:
        mean = around.mean(0)
        centred = F.normalize(vectors - mean, dim=-1)
        _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
        return cls(mean, directions.flip(1)[:, : width - 1].contiguous())

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """(N, 384) of e5 -> (N, D) unit norm."""
        return F.pad(F.normalize((vectors - self.mean) @ self.basis, dim=-1), (0, 1))

    def kept(self, vectors: torch.Tensor) -> float:
        """Mean cosine between the centred vectors and what of them the space holds."""
        centred = F.normalize(vectors - self.mean, dim=-1)
        return (centred @ self.basis).norm(dim=-1).mean().item()

    @property
    def nothing(self) -> torch.Tensor:
        """(D,) what "" and unknown words mean."""
        return F.one_hot(torch.tensor(self.basis.shape[1]), self.basis.shape[1] + 1).float()
