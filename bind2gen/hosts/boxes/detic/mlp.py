"""What Swin and ConvNeXt share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

MLP_RATIO = 4


class Mlp(nn.Module):
    """Linear, exact GELU, linear, over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
