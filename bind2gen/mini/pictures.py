"""The photos of stage ``see`` as its finished image tower sees them: what the other towers are bound to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..imagebind.model import ImageBindModel
from .photos import load_photos
from .recipe import JUDGED
from .see import Seen, Tail
from .teachers import lite0
from .texts import Texts

GALLERY_KINDS, GALLERY_PHOTOS = 10, 60  # of the photos that are searched


@dataclass(frozen=True)
class Pictures:
    """Photos as the frozen image tower sees them.

    Attributes:
        embeds: (N, D) unit norm.
        labels, concepts: (N,) names; a concept is empty where it is none of ours.
        held_out: (N,) bool, kept to judge on.
    """

    embeds: torch.Tensor
    labels: np.ndarray
    concepts: np.ndarray
    held_out: np.ndarray

    def of(self, kind: str) -> np.ndarray:
        """Rows of a kind's training photos."""
        return np.flatnonzero(((self.labels == kind) | (self.concepts == kind)) & ~self.held_out)

    def gallery(self) -> np.ndarray:
        """Rows of held-out photos: as many of each of the concepts that most are of."""
        names, counts = np.unique(self.concepts[self.held_out & np.isin(self.concepts, JUDGED)], return_counts=True)
        chosen = names[np.argsort(-counts, kind="stable")[:GALLERY_KINDS]]
        of_each = [np.flatnonzero((self.concepts == name) & self.held_out)[:GALLERY_PHOTOS] for name in chosen]
        return np.concatenate(of_each)


@torch.no_grad()
def pictures_of(texts: Texts, folder: Path, model: ImageBindModel) -> Pictures:
    """The photos of stage ``see`` as its image tower sees them; their features lie in its folder."""
    photos = load_photos(texts.data)
    features = Seen(photos, lite0(texts.teachers), folder, copies=1).features[0]
    tower = model.towers["vision"]
    network, tower.stem.network = tower.stem.network, Tail(tower.stem.network)
    embeds = torch.cat([tower(part.float()) for part in features.split(128)])
    tower.stem.network = network
    return Pictures(embeds, photos.labels, photos.concepts, photos.held_out)
