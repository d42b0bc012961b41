"""The trunk: pre-norm transformer blocks on PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth
from transformers.modeling_layers import GradientCheckpointingLayer

from .config import TowerConfig
from .fused import added_linear, linear, linear_gelu

NORM_EPS = 1e-6
MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head self-attention; with ``bias_kv`` one learned key and value is appended to the sequence.

    ``readout`` limits the queries to some rows: the last block of a tower feeds only its head, so only the
    class (or end-of-text) row needs an output there. ``kept`` is what the result, after ``drop_path``, is added to.
    """

    def __init__(self, width: int, heads: int, *, bias_kv: bool, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.bias_k = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None
        self.bias_v = nn.Parameter(torch.zeros(1, 1, width)) if bias_kv else None

    def forward(
        self, x: torch.Tensor, kept: torch.Tensor, drop_path: nn.Module, readout: torch.Tensor | None = None
    ) -> torch.Tensor:
        q, k, v = linear(self.in_proj, x).chunk(3, dim=-1)
        if readout is not None:
            q = take_rows(q, readout)
        if self.bias_k is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(len(k), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(len(v), -1, -1)], dim=1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))  # (B, heads, T, width/heads)
        mask = None
        if self.causal and readout is not None:
            mask = (torch.arange(x.shape[1], device=x.device) <= readout[:, None])[:, None, None]  # (B, 1, 1, T)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal and readout is None)
        return added_linear(kept, self.out_proj, mixed.transpose(1, 2).flatten(2), drop_path)


class MLP(nn.Module):
    """Linear, exact GELU, linear, added to ``kept``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: torch.Tensor, kept: torch.Tensor, drop_path: nn.Module) -> torch.Tensor:
        return added_linear(kept, self.fc2, linear_gelu(self.fc1, x), drop_path)


class Block(GradientCheckpointingLayer):
    """x + attention(norm(x)), then x + mlp(norm(x)); with ``readout`` only those rows come out: (B, 1, width)."""

    def __init__(self, config: TowerConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attention = Attention(config.width, config.heads, bias_kv=config.bias_kv, causal=config.causal)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp = MLP(config.width)
        self.drop_path = StochasticDepth(drop_path, mode="row") if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor, readout: torch.Tensor | None = None) -> torch.Tensor:
        kept = x if readout is None else take_rows(x, readout)
        kept = self.attention(self.norm1(x), kept, self.drop_path, readout)
        return self.mlp(self.norm2(kept), kept, self.drop_path)


def take_rows(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """One row of each sequence: (B, T, W) and (B,) -> (B, 1, W)."""
    return x.gather(1, rows[:, None, None].expand(-1, 1, x.shape[-1]))


def build_blocks(config: TowerConfig) -> nn.ModuleList:
    """The trunk, stochastic depth growing linearly from 0 to ``config.drop_path``."""
    steps = max(1, config.depth - 1)
    return nn.ModuleList(Block(config, config.drop_path * i / steps) for i in range(config.depth))
