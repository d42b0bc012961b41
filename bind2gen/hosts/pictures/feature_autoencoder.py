"""An autoencoder whose latents are the features of a trained classifier (representation autoencoder, arXiv 2510.11690).

It stands where diffusers' AutoencoderKL does and is called the same way. The encoder is the beginning of a network of
timm and is never trained; the decoder is diffusers' own.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import Decoder, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from ...errors import HostError
from ...imagebind.agreement import AgreementMixin

NO_VARIANCE = -30.0  # logarithm; the encoder is deterministic
FOLD = 2  # the decoder ends at half the picture's size, with the pixels of a square side by side in its channels


def first_stages(network: nn.Module, stages: int) -> nn.Sequential:
    """Stem and first ``stages`` blocks of one of timm's EfficientNets, as one row of modules that it shares."""
    return nn.Sequential(network.conv_stem, network.bn1, *network.blocks[:stages])


class FeatureAutoencoder(AgreementMixin, ModelMixin, ConfigMixin):
    """(N, 3, H, W) in -1..1 to latents (N, C, H/16, W/16), each channel of mean 0 and deviation 1, and back.

    Args:
        network: timm's name of the EfficientNet that encodes.
        stages: of its blocks, after which its features are taken.
        latent_channels: C of these features.
        image_mean, image_std: what the network's pictures, in 0..1, are normalised by.
        block_out_channels: the decoder's at every size, from the picture's, where they are its folded colours, to the
            latents'. Diffusion pipelines count them to learn how much smaller latents are.
        layers_per_block: see diffusers' ``Decoder``, which has one residual block more at each size.
        norm_num_groups: of the decoder's norms.
        sample_size: picture side in pixels that it was trained on.
        scaling_factor: that latents are multiplied by for the diffusion model.

    Raises:
        HostError: timm has no such network.
    """

    # Offloading hooks forward calls, but pipelines call encode and decode. So these are marked below for model
    # offloading, and here are the parts that group offloading is to move one by one.
    _group_offload_block_modules = ["encoder", "decoder"]

    @register_to_config
    def __init__(
        self,
        network: str = "tf_efficientnet_lite0",
        stages: int = 5,
        latent_channels: int = 112,
        image_mean: float = 127 / 255,
        image_std: float = 128 / 255,
        block_out_channels: tuple[int, ...] = (3 * FOLD**2, 64, 96, 160, 224),
        layers_per_block: int = 1,
        norm_num_groups: int = 8,
        sample_size: int = 128,
        scaling_factor: float = 1.0,
    ) -> None:
        import timm  # heavy, and most hosts do without

        super().__init__()
        if not timm.is_model(network):  # timm would look for other names on the hub
            raise HostError(f"wanted an autoencoder that begins with {network!r}, timm {timm.__version__} has none")
        self.encoder = first_stages(timm.create_model(network), stages).eval().requires_grad_(False)
        self.register_buffer("latent_mean", torch.zeros(latent_channels, 1, 1))
        self.register_buffer("latent_std", torch.ones(latent_channels, 1, 1))
        folded, *channels = block_out_channels
        self.decoder = Decoder(
            latent_channels,
            folded,
            ("UpDecoderBlock2D",) * len(channels),
            tuple(channels),
            layers_per_block,
            norm_num_groups,
            mid_block_add_attention=False,
        )

    def train(self, mode: bool = True) -> Self:
        """The encoder's statistics are never those of a batch."""
        super().train(mode)
        self.encoder.eval()
        return self

    @apply_forward_hook
    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """``.latent_dist``, as of AutoencoderKL; it has no variance."""
        unit = (x + 1) / 2
        features = self.encoder((unit - self.config.image_mean) / self.config.image_std)
        mean, std = (part.to(features) for part in (self.latent_mean, self.latent_std))  # offloaded, they stay away
        latents = (features - mean) / std
        moments = torch.cat([latents, torch.full_like(latents, NO_VARIANCE)], dim=1)
        posterior = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(
        self, z: torch.Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple:
        """``.sample`` (N, 3, H, W), about -1..1. ``generator`` is taken for AutoencoderKL's sake, nothing is random."""
        picture = F.pixel_shuffle(self.decoder(z), FOLD)
        return DecoderOutput(sample=picture) if return_dict else (picture,)

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple:
        """Encode and decode."""
        return self.decode(self.encode(sample).latent_dist.mode(), return_dict=return_dict)
