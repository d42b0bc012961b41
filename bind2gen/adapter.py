"""The adapter: unit-norm embeddings of any modalities to one vector a picture, ready for a host's slot."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config

from .arithmetic import blend, gap_shift
from .errors import InputError, ModalityError, ShapeError
from .modality import MODALITIES

logger = logging.getLogger(__name__)


class EmbeddingAdapter(ModelMixin, ConfigMixin):
    """Moves each modality over the modality gap towards images and blends; for hosts that share the encoder's space.

    Args:
        embed_dim: width D of the encoder's space and of the host's slot.
        modalities: those whose mean embedding is known; ``"image"`` must be among them, or the list be empty.
            Unknown modalities pass without a shift.
        gap_strength: 0 leaves embeddings where they are, 1 moves each modality's mean onto the image mean.

    The means are buffers, (D,) each, measured on training data; fill them with :meth:`from_means`.
    """

    @register_to_config
    def __init__(self, embed_dim: int = 1024, modalities: list[str] | None = None, gap_strength: float = 1.0) -> None:
        super().__init__()
        modalities = list(modalities or [])
        if unknown := set(modalities) - set(MODALITIES):
            raise ModalityError(f"adapter: unknown modalities {sorted(unknown)}; known are {', '.join(MODALITIES)}")
        if modalities and "image" not in modalities:
            raise ModalityError("adapter: wanted the mean of image embeddings among the means, found none")
        self.known = modalities
        self.register_buffer("means", torch.zeros(len(modalities), embed_dim))

    @classmethod
    def from_means(cls, means: Mapping[str, torch.Tensor], *, gap_strength: float = 1.0) -> EmbeddingAdapter:
        """Build from measured means: modality name -> (D,) mean of its unit-norm embeddings.

        Raises:
            ModalityError: no mean for images, or an unknown name.
            ShapeError: widths differ.
        """
        widths = {tuple(mean.shape) for mean in means.values()}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ShapeError(f"adapter: wanted means of one shape (D,), got {sorted(widths)}")
        adapter = cls(embed_dim=next(iter(widths))[0], modalities=list(means), gap_strength=gap_strength)
        adapter.means.copy_(torch.stack(list(means.values())))
        return adapter

    @torch.no_grad()
    def forward(self, embeds: Mapping[str, torch.Tensor], weights: Mapping[str, float] | None = None) -> torch.Tensor:
        """Blend embeddings of several modalities into conditioning vectors.

        Args:
            embeds: modality -> (B, D) unit norm.
            weights: modality -> finite number; one that is not named weighs 1, 0 leaves it out, negative subtracts.

        Returns:
            (B, D) float32 unit norm, around the place where image embeddings lie.

        Raises:
            ModalityError: a weight for a modality that was not given.
            InputError: weights that are no finite numbers, or none of them above zero.
            ShapeError: shapes differ.
        """
        if weights is not None and not isinstance(weights, Mapping):
            raise InputError(f"weights: wanted a dict of modality -> number, got {type(weights).__name__}")
        weights = weights or {}
        if unknown := set(weights) - set(embeds):
            raise ModalityError(f"weights for {sorted(unknown)}, but only {', '.join(embeds)} given")
        shifted = [self.shift(name, value.float()) for name, value in embeds.items()]
        return blend(shifted, [weights.get(name, 1.0) for name in embeds])

    def shift(self, modality: str, embeds: torch.Tensor) -> torch.Tensor:
        """Move (B, D) embeddings of one modality towards images; images, and modalities without a mean, stay."""
        strength = self.config.gap_strength
        if modality == "image" or not strength or modality not in self.known:
            if modality not in self.known:
                logger.info("no mean embedding known for %s: it passes without a shift over the modality gap", modality)
            return embeds
        means = self.means.to(embeds)
        return gap_shift(embeds, means[self.known.index(modality)], means[self.known.index("image")], strength)
