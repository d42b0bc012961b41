"""Stems: one clip of raw tensor to a row of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ModalityError
from .config import NETWORK_ARGS, TowerConfig

STEM_NORM_EPS = 1e-5  # stems keep LayerNorm's default; blocks and heads use 1e-6


class FramePatches(nn.Conv3d):
    """Patches that span all frames of a clip: (B, C, frames, H, W), or a still (B, C, H, W), to (B, width, h, w).

    A still is one frame shown several times, which equals a 2-d convolution with the kernel summed over time: the same
    result for a part of the work.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 4:
            return F.conv2d(x, self.weight.sum(dim=2), stride=self.stride[1:])
        return super().forward(x).squeeze(2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip (arXiv 1512.03385): (B, width, H, W) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class PatchStem(nn.Module):
    """Pictures and spectrograms: convolutional patches. (B, C, H, W) or (B, C, frames, H, W) -> (B, T, width)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        channels = config.input_shape[0]
        layers: list[nn.Module] = []
        for width in config.stem_channels:
            convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
            layers += [ResidualBlock(width) for _ in range(config.stem_blocks)]
            channels = width
        self.early = nn.Sequential(*layers)
        if config.frames == 1:
            self.projection = nn.Conv2d(channels, config.width, config.kernel, stride=config.stride, bias=False)
        else:
            kernel, stride = (config.frames, *config.kernel), (config.frames, *config.stride)
            self.projection = FramePatches(channels, config.width, kernel, stride=stride, bias=False)
        self.norm = nn.LayerNorm(config.width, eps=STEM_NORM_EPS) if config.stem_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 5 and x.shape[2] == 1:
            x = x.squeeze(2)  # a clip of one frame
        x = self.projection(self.early(x))
        return self.norm(x.flatten(2).transpose(1, 2))  # (B, T, width)


class NetworkStem(nn.Module):
    """Pictures and spectrograms: last features of a convolutional network of timm. (B, C, H, W) -> (B, T, width)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.network = _network(config)
        self.projection = nn.Conv2d(self.network.num_features, config.width, 1, bias=False)
        self.norm = nn.LayerNorm(config.width, eps=STEM_NORM_EPS) if config.stem_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 5:
            x = x.squeeze(2)  # a clip of one frame
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.projection(self.network.forward_features(x))
        return self.norm(x.flatten(2).transpose(1, 2))  # (B, T, width)

    def train(self, mode: bool = True) -> NetworkStem:
        self.network.to(memory_format=torch.channels_last)  # faster on any processor; reading weights undoes it
        return super().train(mode)


def _network(config: TowerConfig) -> nn.Module:
    import timm  # heavy, and most models do without

    name, given = config.network, config.network_args
    if not timm.is_model(name):  # timm would look for other names on the hub
        raise ModalityError(f"wanted a tower that begins with {name!r}, timm {timm.__version__} has none")
    if set(given) - set(NETWORK_ARGS):
        raise ModalityError(f"network_args: wanted {' and '.join(NETWORK_ARGS)} only, got {given}")
    try:
        return timm.create_model(name, in_chans=config.input_shape[0], num_classes=0, **given)
    except (KeyError, TypeError) as error:
        raise ModalityError(f"network_args: timm's {name} does not take {given} ({error})") from None


class WindowStem(nn.Module):
    """IMU: non-overlapping windows of all channels. (B, C, L) -> (B, T, width)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.window, self.hop = config.kernel[0], config.stride[0]
        self.projection = nn.Linear(config.input_shape[0] * self.window, config.width, bias=False)
        self.norm = nn.LayerNorm(config.width, eps=STEM_NORM_EPS) if config.stem_norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = x.unfold(-1, self.window, self.hop).transpose(1, 2)  # (B, T, C, window)
        return self.norm(self.projection(windows.flatten(2)))


class TokenStem(nn.Module):
    """Text: a table look-up. (B, T) integer ids -> (B, T, width)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.token_embedding(ids)


STEMS: dict[str, type[nn.Module]] = {
    "patches": PatchStem,
    "network": NetworkStem,
    "windows": WindowStem,
    "tokens": TokenStem,
}
