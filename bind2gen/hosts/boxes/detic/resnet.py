"""ResNet-18 and ResNet-50 backbones (arXiv 1512.03385), stride in the 3x3 convolution of a bottleneck.

Released Detic files froze the batch norms' statistics: in eval mode, which ``DeticModel`` is loaded in, that is what
``BatchNorm2d`` computes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .config import DeticConfig

STEM_KERNEL, STEM_STRIDE, STEM_PADDING = 7, 2, 3  # pixels
EXPANSION = 4  # of a bottleneck's output


class _Block(nn.Module):
    """Convolutions beside a shortcut: two 3x3, or with ``bottleneck`` 1x1, 3x3 and a widening 1x1."""

    def __init__(self, channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = width * (EXPANSION if bottleneck else 1)
        shapes = (  # input, output, kernel, stride
            [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            if bottleneck
            else [(channels, width, 3, stride), (width, out, 3, 1)]
        )
        self.count = len(shapes)
        for i, (before, after, kernel, step) in enumerate(shapes, start=1):
            setattr(self, f"conv{i}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(after))
        self.downsample = None
        if stride > 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = x
        for i in range(1, self.count + 1):
            branch = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(branch))
            branch = F.relu(branch) if i < self.count else branch
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class _Base(nn.Module):
    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        stem = config.widths[0]
        self.conv1 = nn.Conv2d(3, stem, STEM_KERNEL, STEM_STRIDE, STEM_PADDING, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        channels = stem
        for i, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True)):
            blocks = []
            for j in range(depth):
                blocks.append(_Block(channels, width, 2 if i and not j else 1, config.bottleneck))
                channels = width * (EXPANSION if config.bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))


class ResNet(nn.Module):
    """(B, 3, H, W) normalised pixels to the maps at strides 8, 16 and 32."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.base = _Base(config)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        base = self.base
        x = F.max_pool2d(F.relu(base.bn1(base.conv1(pixels))), 3, 2, 1)  # (B, C, H/4, W/4)
        c3 = base.layer2(base.layer1(x))
        c4 = base.layer3(c3)
        return c3, c4, base.layer4(c4)
