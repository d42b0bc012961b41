"""The autoencoder of the bundled unCLIP host: 64x64 RGB to an 8x8 grid of latents.

Small on purpose: two CPU cores train it in tens of minutes, and an 8x8 grid keeps the UNet cheap.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .data import ImageSet
from .loop import LoopConfig, train

LATENT_CHANNELS = 12
SQUARED_WEIGHT = 2.0  # squared error on top of L1: a saturated colour rendered grey is one large error
KL_WEIGHT = 1e-4  # per latent element; just enough to keep the latents from drifting
GRADIENT_WEIGHT = 0.5  # on differences of neighbouring pixels: edges, which plain L1 blurs


def build_autoencoder(image_size: int = 64) -> AutoencoderKL:
    """Untrained AutoencoderKL, spatial factor 8."""
    stages = 4
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * stages,
        up_block_types=("UpDecoderBlock2D",) * stages,
        layers_per_block=1,
        norm_num_groups=1,  # more groups of so few channels wash the overall colour out
        mid_block_add_attention=False,
        sample_size=image_size,
    )


def to_unit_range(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_photos(images: ImageSet, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` photos, each mirrored half of the time; (count, H, W, 3) uint8."""
    pixels = images.pixels[rng.integers(len(images.pixels), size=count)]
    flip = rng.random(count) < 0.5
    pixels[flip] = pixels[flip, :, ::-1]
    return pixels


def reconstruction_loss(decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 and squared error on pixels, plus L1 on their differences to the right and downward neighbour."""
    down = F.l1_loss(decoded.diff(dim=2), target.diff(dim=2))
    right = F.l1_loss(decoded.diff(dim=3), target.diff(dim=3))
    pixels = F.l1_loss(decoded, target) + SQUARED_WEIGHT * F.mse_loss(decoded, target)
    return pixels + GRADIENT_WEIGHT * (down + right)


def peak_signal_to_noise(autoencoder: AutoencoderKL, images: ImageSet, count: int = 256) -> float:
    """Mean PSNR in dB of the first ``count`` photos after encode and decode."""
    target = to_unit_range(images.pixels[:count])
    decoded = autoencoder.decode(autoencoder.encode(target).latent_dist.mode()).sample.float().clamp(-1, 1)
    error = ((decoded - target) / 2).square().flatten(1).mean(1)
    return (-10 * error.log10()).mean().item()


def train_autoencoder(
    model: AutoencoderKL,
    images: ImageSet,
    judged_on: ImageSet,
    config: LoopConfig,
    folder: Path,
    *,
    decoder_only: bool = False,
) -> AutoencoderKL:
    """Train ``model``; with ``decoder_only`` its encoder, and so the latents, stay as they are."""
    if decoder_only:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        target = to_unit_range(draw_photos(images, config.batch_size, rng))
        posterior = model.encode(target).latent_dist
        reconstruction = reconstruction_loss(model.decode(posterior.sample()).sample.float(), target)
        kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
        return reconstruction + KL_WEIGHT * kl, {"reconstruction": reconstruction.item(), "kl": kl.item()}

    return train(
        model,
        step_loss,
        config,
        folder,
        evaluate=lambda m: {"psnr_db": peak_signal_to_noise(m, judged_on)},
        evaluate_every=500,
    )
