"""The feature pyramid (arXiv 1612.03144): five maps of one width, at strides 8 to 128, over any of the backbones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .config import DeticConfig
from .convnext import ConvNeXt
from .resnet import ResNet
from .swin import Swin

BACKBONES: dict[str, type[nn.Module]] = {"resnet": ResNet, "swin": Swin, "convnext": ConvNeXt}
STRIDES = (8, 16, 32, 64, 128)  # pixels, of p3 to p7
Pyramid = tuple[torch.Tensor, ...]  # p3 to p7, (B, C, H / stride, W / stride) each


class FeaturePyramid(nn.Module):
    """Backbone maps, each widened and joined by the coarser one; two further levels on top of the coarsest OUTPUT."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        width = config.fpn_width
        self.bottom_up = BACKBONES[config.backbone](config)
        for level, channels in zip((3, 4, 5), config.map_widths, strict=True):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(channels, width, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(width, width, 3, padding=1))
        self.top_block = nn.Module()
        self.top_block.p6 = nn.Conv2d(width, width, 3, 2, 1)
        self.top_block.p7 = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, pixels: torch.Tensor) -> Pyramid:
        """Args: ``pixels`` (B, 3, H, W), normalised; H and W multiples of 32."""
        c3, c4, c5 = self.bottom_up(pixels)
        m5 = self.fpn_lateral5(c5)
        m4 = self.fpn_lateral4(c4) + F.interpolate(m5, scale_factor=2.0, mode="nearest")
        m3 = self.fpn_lateral3(c3) + F.interpolate(m4, scale_factor=2.0, mode="nearest")
        p5 = self.fpn_output5(m5)
        p6 = self.top_block.p6(p5)
        return self.fpn_output3(m3), self.fpn_output4(m4), p5, p6, self.top_block.p7(F.relu(p6))
