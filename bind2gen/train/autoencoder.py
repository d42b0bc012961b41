"""The bundled host's autoencoder: principal components in closed form, then the network that mends the picture."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from ..hosts.patch_autoencoder import PatchAutoencoder
from ..imagebind.model import Tower
from .data import ImageSet
from .loop import LoopConfig, train
from .towers import CLIP_MEAN, CLIP_STD

LATENT_CHANNELS = 32
FITTED_ON = 4000  # photos whose patches' principal components are taken
SQUARED_WEIGHT = 2.0  # squared error on top of L1: a saturated colour rendered grey is one large error
GRADIENT_WEIGHT = 0.5  # on differences of neighbouring pixels: edges, which plain L1 blurs
FEATURE_WEIGHT = 1.0  # on features of the vision tower: what makes an animal that animal
LATENT_NOISE = 0.3  # largest noise on latents, in their deviations: a UNet's latents are not exact either
FEATURE_STAGES = 3  # of the vision stem's convolutional stages, at a half, a quarter and an eighth of the size


def fit_autoencoder(images: ImageSet) -> PatchAutoencoder:
    """The linear part, fitted in closed form on evenly spread photos and their mirror images; latents are final."""
    pixels = images.pixels[:: max(1, len(images.pixels) // FITTED_ON)]
    pictures = to_unit_range(np.concatenate([pixels, pixels[:, :, ::-1]]))
    torch.manual_seed(0)
    return PatchAutoencoder(latent_channels=LATENT_CHANNELS, sample_size=pixels.shape[1]).fit(pictures)


def to_unit_range(pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in -1..1, on the device of a tensor."""
    if not isinstance(pixels, torch.Tensor):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


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


class FeatureLoss(nn.Module):
    """Distance of two pictures in the early layers of a frozen vision tower, as LPIPS measures it (arXiv 1801.03924).

    Features are normalised over channels, so that strong ones do not drown the others.

    Args:
        vision: the trained vision tower with a convolutional stem; it is not changed.
    """

    def __init__(self, vision: Tower) -> None:
        super().__init__()
        layers = list(copy.deepcopy(vision.stem.early).eval().requires_grad_(False))
        per_stage = len(layers) // len(vision.config.stem_channels)
        self.stages = [nn.Sequential(*layers[i * per_stage : (i + 1) * per_stage]) for i in range(FEATURE_STAGES)]

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) in -1..1 -> unit-norm features of each stage."""
        x, found = ((pixels + 1) / 2 - CLIP_MEAN) / CLIP_STD, []
        for stage in self.stages:
            x = stage(x)
            found.append(F.normalize(x.float(), dim=1))
        return found

    def forward(self, decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        pairs = zip(self.features(decoded), wanted, strict=True)
        return sum((a - b).square().sum(1).mean() for a, b in pairs)


def peak_signal_to_noise(autoencoder: ModelMixin, images: ImageSet, count: int = 256) -> float:
    """Mean PSNR in dB of ``count`` evenly spread photos after encode and decode."""
    target = to_unit_range(images.pixels[:: max(1, len(images.pixels) // count)]).to(autoencoder.device)
    decoded = autoencoder.decode(autoencoder.encode(target).latent_dist.mode()).sample.float().clamp(-1, 1)
    error = ((decoded - target) / 2).square().flatten(1).mean(1)
    return (-10 * error.log10()).mean().item()


def train_decoder(
    model: PatchAutoencoder, images: ImageSet, judged_on: ImageSet, vision: Tower, config: LoopConfig, folder: Path
) -> PatchAutoencoder:
    """Train the mending network; the linear parts, and so the latents, stay as they are.

    Args:
        model: fitted (see :func:`fit_autoencoder`).
        images, judged_on: photos to train on, photos to measure the signal-to-noise ratio on.
        vision: a trained vision tower, whose early features the decoded photos must match too.
    """
    feature_loss = FeatureLoss(vision)
    for part in (model.components, model.patches):
        part.requires_grad_(False)

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        target = to_unit_range(draw_photos(images, config.batch_size, rng))
        with torch.no_grad():
            latents = model.encode(target).latent_dist.mode()
            level = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1) * latents.std((0, 2, 3), keepdim=True)
            latents = latents + level * torch.randn_like(latents)
        decoded = model.decode(latents).sample.float()
        reconstruction, difference = reconstruction_loss(decoded, target), feature_loss(decoded, target)
        metrics = {"reconstruction": reconstruction.item(), "feature_difference": difference.item()}
        return reconstruction + FEATURE_WEIGHT * difference, metrics

    return train(
        model,
        step_loss,
        config,
        folder,
        evaluate=lambda m: {"psnr_db": peak_signal_to_noise(m, judged_on)},
        evaluate_every=500,
    )
