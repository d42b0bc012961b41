"""What the generator of stage ``draw`` is conditioned on: image embeddings, noised or near the mean of their kind.

As Stable unCLIP in diffusers lays them out, so that the result loads there.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

from .towers import balanced_weights

BALANCE = 0.7  # kinds are drawn in proportion to count ** 0.7


def embedding_noise_schedule() -> DDPMScheduler:
    """Schedule of the noise on image embeddings: the one that Stable unCLIP publishes."""
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)


def fit_normalizer(image_embeds: torch.Tensor) -> StableUnCLIPImageNormalizer:
    """The host's image normaliser: mean and deviation of the embeddings (N, D) that it is trained on."""
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=image_embeds.shape[-1])
    with torch.no_grad():
        normalizer.mean.copy_(image_embeds.mean(0, keepdim=True))
        normalizer.std.copy_(image_embeds.std(0, keepdim=True))
    return normalizer.requires_grad_(False)


def class_labels(
    image_embeds: torch.Tensor,
    noise_level: torch.Tensor,
    normalizer: StableUnCLIPImageNormalizer,
    schedule: DDPMScheduler,
) -> torch.Tensor:
    """Noised embedding and its noise level, (B, 2D), as StableUnCLIPImg2ImgPipeline makes them."""
    standard = normalizer.scale(image_embeds)
    noised = normalizer.unscale(schedule.add_noise(standard, torch.randn_like(standard), noise_level))
    level = get_timestep_embedding(noise_level, image_embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([noised, level], dim=1)


def blend_with_concept(image_embeds: torch.Tensor, means: torch.Tensor, share: float) -> torch.Tensor:
    """Move a random share of embeddings (B, D) a random part of the way to their concept's mean (B, D), norm kept.

    An embedding that comes from a sound says which concept, and little more: the host must know such ones too.
    """
    part, whether = torch.rand(2, len(image_embeds), 1, device=image_embeds.device)
    part = part * (whether < share)
    blended = torch.lerp(image_embeds, means, part)
    return blended * image_embeds.norm(dim=1, keepdim=True) / blended.norm(dim=1, keepdim=True)


def mean_by_concept(embeds: torch.Tensor, concepts: np.ndarray) -> dict[str, torch.Tensor]:
    """Mean unit-norm embedding of each concept, (D,)."""
    embeds = F.normalize(embeds, dim=-1)
    return {name: embeds[torch.from_numpy(concepts == name)].mean(0) for name in sorted(set(concepts))}


def drawn_weights(concepts: np.ndarray, typical: np.ndarray, typical_share: float) -> np.ndarray:
    """(N,) probability of each photo to be drawn: the typical ones' share goes to all concepts alike.

    Args:
        concepts: (N,) of str; photos with an empty one are not drawn.
        typical: (N,) bool.
    """
    alike = balanced_weights(np.where(typical, concepts, ""), 0.0)
    return typical_share * alike + (1 - typical_share) * balanced_weights(concepts, BALANCE)
