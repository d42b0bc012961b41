"""ConvNeXt backbone (arXiv 2201.03545) as the timm release of early 2022 computed it, which Detic was trained with."""

from __future__ import annotations

import torch
from torch import nn

from .config import DeticConfig
from .mlp import Mlp

EPS = 1e-6  # of all layer norms
STEM_STRIDE = 4  # pixels
KERNEL = 7  # of the depthwise convolutions
LAYER_SCALE = 1e-6  # initial factor on each residual branch


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _UnbiasedChannelNorm(_ChannelNorm):
    """The same with the variance over C - 1.

    That timm took this way for maps whose memory is channels-last, and what comes out of a stage always is; the norms
    between stages were therefore trained with it. With the plain variance the stride-8 map is 0.4 % off.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        normed = (x - mean) * torch.rsqrt(variance + EPS)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.conv_dw = nn.Conv2d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))) * self.gamma  # (B, H, W, C)
        return x + branch.permute(0, 3, 1, 2)


class _Stage(nn.Module):
    def __init__(self, channels: int, width: int, depth: int, first: bool) -> None:
        super().__init__()
        self.downsample = (
            nn.Identity() if first else nn.Sequential(_UnbiasedChannelNorm(channels), nn.Conv2d(channels, width, 2, 2))
        )
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.downsample(x))


class ConvNeXt(nn.Module):
    """(B, 3, H, W) normalised pixels to the maps at strides 8, 16 and 32."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.base = nn.Module()
        self.base.stem_0 = nn.Conv2d(3, config.widths[0], STEM_STRIDE, STEM_STRIDE)
        self.base.stem_1 = _ChannelNorm(config.widths[0])
        channels = config.widths[0]
        for i, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            self.base.add_module(f"stages_{i}", _Stage(channels, width, depth, first=i == 0))
            channels = width

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        base = self.base
        c3 = base.stages_1(base.stages_0(base.stem_1(base.stem_0(pixels))))
        c4 = base.stages_2(c3)
        return c3, c4, base.stages_3(c4)
