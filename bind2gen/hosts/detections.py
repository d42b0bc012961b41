"""What every detector returns, and what every detector is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Detections:
    """Boxes in one picture, best first.

    Attributes:
        xyxy: (N, 4) float32, left, top, right, bottom in pixels of the picture as it was given.
        scores: (N,) float32 in 0..1.
        prompts: (N,) int64, which class embedding each box answers.
        labels: one name a class embedding; ``labels[prompts[i]]`` is what box i is called.
        image_size: (width, height) of the picture in pixels.
        masks: (N, height, width) bool, or None where the detector has none.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    prompts: np.ndarray
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass(frozen=True)
class Proposals:
    """Boxes that may hold anything at all.

    Attributes:
        xyxy: (N, 4) float32 in pixels of the picture as it was given, best first.
        scores: (N,) float32 in 0..1, how much a box looks like an object.
    """

    xyxy: np.ndarray
    scores: np.ndarray


class Detector(Protocol):
    """A detector whose classes are vectors. A picture is encoded once; prompts are then cheap to change."""

    @property
    def embed_dim(self) -> int:
        """Width D of its class embeddings."""

    def encode_image(self, image: Image.Image) -> Any:
        """All that does not depend on prompts, to be handed to :meth:`detect` any number of times."""

    def detect(
        self,
        encoded: Any,
        class_embeds: torch.Tensor,
        *,
        labels: tuple[str, ...] | None = None,
        threshold: float | torch.Tensor = 0.5,
        max_detections: int = 300,
        masks: bool = True,
    ) -> Detections:
        """Boxes for the classes (C, D); ``threshold`` is one score or (C,) of them."""

    def propose(self, encoded: Any, *, max_proposals: int = 256) -> Proposals:
        """Boxes that may hold anything, whatever the prompts."""
