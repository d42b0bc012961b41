"""What the decoder of stage ``draw`` is judged by: Lite0's features of its pictures, and a discriminator on them.

The discriminator is the projected GAN's (arXiv 2111.01007): a frozen network, fixed random mixtures of its channels,
and small trained heads on these.
"""

from __future__ import annotations

import logging

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import nn

from ..hosts.pictures.feature_autoencoder import first_stages

logger = logging.getLogger(__name__)

NETWORK = "tf_efficientnet_lite0"
STAGES, SEEN_STAGES = 5, 7  # of its blocks: up to the latents, up to the last features that are compared
COMPARED = (1, 2, 4, 6)  # blocks whose features are compared, at strides 4, 8, 16 and 32
MIXED = 64  # channels of the discriminator's mixtures and heads
ADVERSARY_WEIGHT = 0.08
ADVERSARY_FROM, ADVERSARY_RISE = 0.3, 0.15  # shares of the training: when it begins, and how long until its full weight
ADVERSARY_RATE = 2e-4
# Hinge loss of the discriminator: 2 where it tells nothing, 0 where it tells all. One that tells nearly all has
# destroyed the decoder within half a minute, so it is ended before.
ENDED_BELOW = 0.5
MEMORY = 0.98  # of the mean of this loss


def to_unit_range(pixels: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float in -1..1, on the device of a tensor."""
    if not isinstance(pixels, torch.Tensor):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(pictures: torch.Tensor) -> np.ndarray:
    """(N, 3, H, W) about -1..1 -> (N, H, W, 3) uint8."""
    return ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def peak_signal_to_noise(autoencoder: nn.Module, pixels: np.ndarray) -> float:
    """Mean PSNR in dB of photos (N, H, W, 3) uint8 after encode and decode."""
    target = to_unit_range(pixels).to(autoencoder.device)
    decoded = autoencoder.decode(autoencoder.encode(target).latent_dist.mode()).sample.float().clamp(-1, 1)
    error = ((decoded - target) / 2).square().flatten(1).mean(1)
    return (-10 * error.log10()).mean().item()


class Features(nn.Module):
    """Lite0's features at four strides.

    Args:
        state: of its first :data:`SEEN_STAGES` stages.
    """

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.layers = first_stages(timm.create_model(NETWORK), SEEN_STAGES)
        self.layers.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, H, W) in -1..1."""
        x, found = (pictures * 127.5 + 0.5) / 128, []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number - 2 in COMPARED:
                found.append(x)
        return found


def reconstruction_loss(
    made: torch.Tensor, wanted: torch.Tensor, made_seen: list[torch.Tensor], wanted_seen: list[torch.Tensor]
) -> torch.Tensor:
    """L1 of pixels, and of features relative to their size."""
    parts = [
        F.l1_loss(a.float(), b.float()) / b.float().abs().mean() for a, b in zip(made_seen, wanted_seen, strict=True)
    ]
    return F.l1_loss(made.float(), wanted) + sum(parts) / len(parts)


class Discriminator(nn.Module):
    """Heads that tell photos from decoded pictures by features.

    Args:
        seen: features of some photos, by whose deviation each stride's are scaled.
    """

    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.register_buffer("scales", torch.stack([features.float().std() for features in seen]))
        self.mixtures, self.heads = nn.ModuleList(), nn.ModuleList()
        for features in seen:
            mixture = nn.Conv2d(features.shape[1], MIXED, 1).requires_grad_(False)
            nn.init.normal_(mixture.weight, std=mixture.in_channels**-0.5)
            self.mixtures.append(mixture)
            self.heads.append(_head(stride=2 if features.shape[-1] > 8 else 1))

    def forward(self, seen: list[torch.Tensor]) -> list[torch.Tensor]:
        """Logits of each stride's places: higher is more like a photo."""
        return [
            head(mixture(features / scale))
            for features, scale, mixture, head in zip(seen, self.scales, self.mixtures, self.heads, strict=True)
        ]


def _head(stride: int) -> nn.Sequential:
    layers = [nn.Conv2d(MIXED, MIXED, 3, stride, 1), nn.Conv2d(MIXED, MIXED, 3, padding=1), nn.Conv2d(MIXED, 1, 1)]
    first, second, last = map(nn.utils.parametrizations.spectral_norm, layers)
    return nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), last)


def hinge_loss(real: list[torch.Tensor], made: list[torch.Tensor]) -> torch.Tensor:
    parts = [F.relu(1 - a.float()).mean() + F.relu(1 + b.float()).mean() for a, b in zip(real, made, strict=True)]
    return sum(parts) / len(parts)


class Adversary(nn.Module):
    """A discriminator in training, which begins late and is ended when it wins.

    Args:
        seen: features of some photos.
    """

    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self.discriminator = Discriminator(seen)
        self.optimizer = torch.optim.AdamW(self.discriminator.heads.parameters(), ADVERSARY_RATE, (0.0, 0.99))
        self.register_buffer("mean_loss", torch.tensor(2.0))
        self.register_buffer("ended", torch.tensor(False))

    def weight(self, progress: float) -> float:
        """Of what it says of decoded pictures, at a share 0..1 of the training."""
        rise = (progress - ADVERSARY_FROM) / ADVERSARY_RISE
        return 0.0 if self.ended else ADVERSARY_WEIGHT * min(max(rise, 0.0), 1.0)

    def loss(self, made_seen: list[torch.Tensor]) -> torch.Tensor:
        """Of the decoder: how little its pictures pass for photos."""
        told = self.discriminator(made_seen)
        return -sum(logits.float().mean() for logits in told) / len(told)

    def learn(self, real_seen: list[torch.Tensor], made_seen: list[torch.Tensor]) -> bool:
        """One step of the discriminator. True where it has just been ended: the decoder is to go back."""
        loss = hinge_loss(self.discriminator(real_seen), self.discriminator([part.detach() for part in made_seen]))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.mean_loss.mul_(MEMORY).add_(loss.detach(), alpha=1 - MEMORY)
        self.ended.fill_(self.mean_loss < ENDED_BELOW)
        if self.ended:
            logger.info("discriminator ended: it told photos from pictures nearly always")
        return bool(self.ended)
