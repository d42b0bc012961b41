"""The autoencoder of the bundled host: principal components of patches, and a small network that mends the result.

It stands where diffusers' AutoencoderKL does and is called the same way. The encoder is linear and fitted in closed
form: with no GPU that keeps more of a picture than a convolutional encoder that one can afford to train.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ..imagebind.agreement import AgreementMixin

NO_VARIANCE = -30.0  # logarithm; the encoder is deterministic


def exact_latents(latents: torch.Tensor, return_dict: bool) -> AutoencoderKLOutput | tuple:
    """Latents (N, C, h, w) as AutoencoderKL gives its own, of an encoder without variance."""
    moments = torch.cat([latents, torch.full_like(latents, NO_VARIANCE)], dim=1)
    posterior = DiagonalGaussianDistribution(moments, deterministic=True)
    return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)


class Block(nn.Module):
    """Two 3x3 convolutions beside a skip: (N, width, H, W) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class PatchAutoencoder(AgreementMixin, ModelMixin, ConfigMixin):
    """(N, 3, H, W) in -1..1 to latents (N, C, H/8, W/8) and back.

    Args:
        latent_channels: principal components C of a patch.
        patch: side of a patch in pixels; a power of two, at least 4.
        width: channels of the mending network at half the picture's size; twice as many at a quarter.
        depth: residual blocks at each of the two sizes.
        sample_size: picture side in pixels that it was fitted on.
        scaling_factor: that latents are multiplied by for the diffusion model.
        block_out_channels: one entry a halving and one more: diffusion pipelines count them to learn ``patch``.
    """

    # Offloading hooks forward calls, but pipelines call encode and decode. So these are marked below for model
    # offloading, and here are the parts that group offloading is to move one by one.
    _group_offload_block_modules = ["components", "patches", "enter", "down", "place", "low", "up", "top", "leave"]

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        patch: int = 8,
        width: int = 48,
        depth: int = 2,
        sample_size: int = 64,
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (3, 48, 96, 32),
    ) -> None:
        super().__init__()
        self.components = nn.Conv2d(3, latent_channels, patch, stride=patch)
        self.patches = nn.ConvTranspose2d(latent_channels, 3, patch, stride=patch)
        self.enter = nn.Conv2d(3 * 4, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        # Latents enter at a quarter of the size too: there the network sees where patches meet.
        self.place = nn.Conv2d(latent_channels, 2 * width * (patch // 4) ** 2, 3, padding=1)
        self.low = nn.Sequential(*(Block(2 * width) for _ in range(depth)))
        self.up = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.top = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.leave = nn.Conv2d(width, 3 * 4, 3, padding=1)
        nn.init.zeros_(self.leave.weight)  # untrained, it adds nothing
        nn.init.zeros_(self.leave.bias)

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """``.latent_dist``, as of AutoencoderKL; it has no variance."""
        return exact_latents(self.components(x), return_dict)

    @apply_forward_hook
    def decode(
        self, z: torch.Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple:
        """``.sample`` (N, 3, H, W), about -1..1. ``generator`` is taken for AutoencoderKL's sake, nothing is random."""
        rough = self.patches(z)
        top = self.enter(F.pixel_unshuffle(rough, 2))  # (N, width, H/2, W/2)
        low = self.down(top) + F.pixel_shuffle(self.place(z), self.config.patch // 4)  # (N, 2 width, H/4, W/4)
        top = self.top(top + F.pixel_shuffle(self.up(self.low(low)), 2))
        picture = rough + F.pixel_shuffle(self.leave(top), 2)
        return DecoderOutput(sample=picture) if return_dict else (picture,)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple:
        """Encode and decode."""
        return self.decode(self.encode(sample).latent_dist.mode(), return_dict=return_dict)

    @torch.no_grad()
    def fit(self, pictures: torch.Tensor, *, whitening: float = 0.5) -> PatchAutoencoder:
        """Set the linear parts to the principal components of the patches of ``pictures`` (N, 3, H, W) in -1..1.

        Args:
            whitening: power of each component's deviation that its latent is divided by. 0 leaves latents as
                they are, coarse ones tens of times larger than fine ones; 1 makes all alike.
        """
        side, channels = self.config.patch, self.config.latent_channels
        colour = pictures.mean((0, 2, 3))  # (3,)
        patches = F.unfold(pictures - colour[:, None, None], side, stride=side).transpose(1, 2).flatten(0, 1).double()
        variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        variances, vectors = variances.flip(0)[:channels], vectors.flip(1)[:, :channels]  # (192, C), largest first
        scale = variances.sqrt() ** whitening
        kernels = vectors.T.reshape(channels, 3, side, side)
        scale = scale[:, None, None, None]
        self.components.weight.copy_(kernels / scale)
        self.components.bias.copy_(-(self.components.weight.sum((2, 3)) @ colour))
        self.patches.weight.copy_(kernels * scale)
        self.patches.bias.copy_(colour)
        return self
