"""What a host learns from: pictures cut from photos, as latents and image embeddings, and how often each is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..hosts.patch_autoencoder import PatchAutoencoder
from ..imagebind.model import ImageBindModel
from .autoencoder import to_unit_range
from .data import ImageSet
from .loop import half_precision
from .towers import balanced_weights, embed_photos
from .typical import cut_outs

BALANCE = 0.7  # concepts are drawn in proportion to count ** 0.7
TYPICAL_SHARE = 0.85  # share of samples that are typical photos of their concept, all concepts alike
CUTS = 6  # jittered cut-outs of each typical photo, besides the centred one


@dataclass(frozen=True)
class Conditions:
    """Everything the UNet learns from, computed once: M pictures cut from N photos.

    Attributes:
        latents: (M, 2, C, 8, 8) of each picture and its mirror image, scaled to unit deviation.
        image_embeds: (M, 2, D), norm sqrt(D).
        photos: (M,) the photo of each picture. The first N pictures are those of the N photos in order.
        typical: (N,) bool, the photos that show their concept as a sound is to be drawn.
        scaling_factor: that the latents were multiplied by; goes into the autoencoder's config.
    """

    latents: torch.Tensor
    image_embeds: torch.Tensor
    photos: torch.Tensor
    typical: torch.Tensor
    scaling_factor: float

    def of_photos(self) -> torch.Tensor:
        """(N, D) the embedding of each photo."""
        return self.image_embeds[: len(self.typical), 0]


@torch.no_grad()
def conditions_of(
    images: ImageSet, typical: np.ndarray, autoencoder: PatchAutoencoder, imagebind: ImageBindModel, cuts: int = CUTS
) -> Conditions:
    """Latents and image embeddings of every photo, cut to its object, and of jittered cuts of typical ones.

    Args:
        typical: (N,) bool.
    """
    rng, chosen = np.random.default_rng(0), np.flatnonzero(typical)
    cuts = cuts if len(chosen) else 0
    again = [cut_outs(images.take(typical), rng).pixels for _ in range(cuts)]
    straight = np.concatenate([cut_outs(images).pixels, *again])
    photos = np.concatenate([np.arange(len(typical)), *[chosen] * cuts])
    both_latents, both_embeds = [], []
    for pixels in (straight, np.ascontiguousarray(straight[:, :, ::-1])):
        parts = [to_unit_range(pixels[i : i + 256]) for i in range(0, len(pixels), 256)]
        both_latents.append(torch.cat([autoencoder.encode(part).latent_dist.mode() for part in parts]))
        with half_precision():
            both_embeds.append(embed_photos(imagebind, pixels))
    latents, embeds = torch.stack(both_latents, 1), torch.stack(both_embeds, 1).float()
    factor = 1 / latents.std().item()
    return Conditions(
        (factor * latents).contiguous(),
        (math.sqrt(embeds.shape[-1]) * embeds).contiguous(),
        torch.from_numpy(photos),
        torch.from_numpy(typical),
        factor,
    )


def drawn_for(concepts: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """(N,) bool: the photos that a sound of their concept is to be drawn like, its typical ones or else all."""
    return typical | ~np.isin(concepts, np.unique(concepts[typical]))


def mean_by_concept(embeds: torch.Tensor, concepts: np.ndarray) -> dict[str, torch.Tensor]:
    """Mean unit-norm embedding of each concept, (D,)."""
    embeds = F.normalize(embeds, dim=-1)
    return {name: embeds[torch.from_numpy(concepts == name)].mean(0) for name in sorted(set(concepts))}


def concept_means(image_embeds: torch.Tensor, concepts: np.ndarray, typical: np.ndarray) -> dict[str, torch.Tensor]:
    """What a sound of each concept is to become: the mean unit-norm embedding (D,) of the photos drawn for it.

    Args:
        image_embeds: (N, D).
        concepts: (N,) of str.
        typical: (N,) bool.
    """
    wanted = drawn_for(concepts, typical)
    return mean_by_concept(image_embeds[torch.from_numpy(wanted)], concepts[wanted])


def drawn_weights(concepts: np.ndarray, typical: np.ndarray, typical_share: float = TYPICAL_SHARE) -> np.ndarray:
    """(N,) probability of each photo to be drawn: the typical ones' share goes to all concepts alike.

    Args:
        concepts: (N,) of str; photos with an empty one are not drawn.
        typical: (N,) bool.
    """
    weights = balanced_weights(concepts, BALANCE)
    if not typical.any():
        return weights
    alike = balanced_weights(np.where(typical, concepts, ""), 0.0)
    return typical_share * alike + (1 - typical_share) * weights


class Draws:
    """Which photos a batch is made of: typical ones of every concept alike, and the others more seldom."""

    def __init__(self, conditions: Conditions, concepts: np.ndarray) -> None:
        self.weights = drawn_weights(concepts, conditions.typical.numpy())
        photos = conditions.photos.numpy()
        self._order = np.argsort(photos, kind="stable")  # pictures, those of a photo side by side
        self._counts = np.bincount(photos, minlength=len(concepts))
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """``count`` photos, and a picture of each."""
        photos = rng.choice(len(self.weights), count, p=self.weights)
        return photos, self._order[self._starts[photos] + rng.integers(self._counts[photos])]
