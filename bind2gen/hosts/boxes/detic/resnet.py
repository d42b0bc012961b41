"""ResNet-18 and ResNet-50 backbones (arXiv 1512.03385), stride in the 3x3 convolution of a bottleneck: timm's blocks.

Released Detic files froze the batch norms' statistics: in eval mode, which ``DeticModel`` is loaded in, that is what
``BatchNorm2d`` computes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, Bottleneck, make_blocks
from torch import nn

from .config import DeticConfig

STEM_KERNEL, STEM_STRIDE, STEM_PADDING = 7, 2, 3  # pixels


class ResNet(nn.Module):
    """(B, 3, H, W) normalised pixels to the maps at strides 8, 16 and 32."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        stem = config.widths[0]  # timm's whole network would fix it at 64
        stages, _ = make_blocks(
            (Bottleneck if config.bottleneck else BasicBlock,) * 4, config.widths, config.depths, inplanes=stem
        )
        self.base = nn.Module()
        self.base.conv1 = nn.Conv2d(3, stem, STEM_KERNEL, STEM_STRIDE, STEM_PADDING, bias=False)
        self.base.bn1 = nn.BatchNorm2d(stem)
        for name, stage in stages:
            self.base.add_module(name, stage)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        base = self.base
        x = F.max_pool2d(F.relu(base.bn1(base.conv1(pixels))), 3, 2, 1)  # (B, C, H/4, W/4)
        c3 = base.layer2(base.layer1(x))
        c4 = base.layer3(c3)
        return c3, c4, base.layer4(c4)
