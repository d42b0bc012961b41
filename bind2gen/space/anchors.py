"""Towards what a host has learned to draw: embeddings led to its anchors, and what is subtracted left out there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .arithmetic import normalize

STRICT = 4  # power of what a subtracted kind leaves of its share, at a weight as large as that of what is wanted
LEAST = 1e-6  # that it leaves, so that a thing less itself alone is a mixture of all the others


@dataclass(frozen=True)
class Anchors:
    """Pairs of an image embedding and of a vector of the host's slot.

    Args:
        keys, places: (K, D) unit norm each.
        temperature: that cosines with the keys are divided by before the softmax.
        kept: the modalities that are led to the places -> how much of what the keys leave of an embedding is kept.
    """

    keys: torch.Tensor
    places: torch.Tensor
    temperature: float
    kept: Mapping[str, float]

    def lead(self, embeds: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Embeddings near the places where they are to be.

        A kind less the same kind, each led to its place, would still be that kind. So the shares of what is wanted are
        lowered by those of what is subtracted; only beside something that is not led anywhere does that stay itself.

        Args:
            embeds: modality -> (B, D), moved over the gap.
            weights: of each one, one at least above zero.

        Returns:
            Modality -> (B, D), unit norm where it was led; without those that were subtracted by their shares.
        """
        plus, largest = [name for name in embeds if weights[name] > 0], max(weights.values())
        stays = not self.kept.keys() >= set(plus)
        logits = {name: x @ self.keys.T / self.temperature for name, x in embeds.items()}
        shares = {name: x.softmax(-1) for name, x in logits.items()}
        lowered = 0.0
        for name in (name for name in embeds if weights[name] < 0):
            gone = shares[name] / shares[name].amax(-1, keepdim=True)
            lowered = lowered - STRICT * weights[name] / largest * (1 - gone).clamp_min(LEAST).log()
        led = {}
        for name in embeds if stays else plus:
            led[name] = x = embeds[name]
            if name in self.kept:
                wanted = (logits[name] + lowered).softmax(-1) if weights[name] > 0 else shares[name]
                led[name] = normalize(wanted @ self.places + self.kept[name] * (x - shares[name] @ self.keys))
        return led
