"""ConvNeXt backbone (arXiv 2201.03545) as the timm release of early 2022 computed it, which Detic was trained with."""

from __future__ import annotations

import torch
from timm import create_model
from timm.layers import LayerNorm2d
from torch import nn

from .config import DeticConfig


class _UnbiasedChannelNorm(LayerNorm2d):
    """Layer norm over the channels of (B, C, H, W) with the variance over C - 1.

    The timm of that time took this way for maps whose memory is channels-last, and what comes out of a stage always is;
    the norms between stages were therefore trained with it. With the plain variance the stride-8 map is 0.4 % off.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(x, dim=1, keepdim=True)
        normed = (x - mean) * torch.rsqrt(variance + self.eps)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class ConvNeXt(nn.Module):
    """(B, 3, H, W) normalised pixels to the maps at strides 8, 16 and 32."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.base = create_model(
            "convnext_tiny", features_only=True, out_indices=(1, 2, 3), depths=config.depths, dims=config.widths
        )
        for i, width in enumerate(config.widths[:-1], start=1):
            getattr(self.base, f"stages_{i}").downsample[0] = _UnbiasedChannelNorm(width)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return tuple(self.base(pixels))
