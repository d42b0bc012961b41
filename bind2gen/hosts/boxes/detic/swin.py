"""Swin Transformer backbone (arXiv 2103.14030) for pictures of any size, as in its authors' detection code (MIT)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import nn

from .config import DeticConfig

PATCH = 4  # pixels
MLP_RATIO = 4
OTHER_REGION = -100.0  # added to the logits of two patches that only the cyclic shift made neighbours
BIAS_STD = 0.02


def _relative_positions(window: int, device: torch.device) -> torch.Tensor:
    """(N, N) rows of the bias table for each pair of the N = window * window patches of a window."""
    axis = torch.arange(window, device=device)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    down = rows[:, None] - rows[None, :] + window - 1
    right = columns[:, None] - columns[None, :] + window - 1
    return down * (2 * window - 1) + right


def _windows(x: torch.Tensor, window: int) -> torch.Tensor:
    """(B, H, W, C) -> (B * windows, window * window, C); H and W are multiples of ``window``."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def _unwindowed(windows: torch.Tensor, window: int, height: int, width: int) -> torch.Tensor:
    """Back from :func:`_windows` to (B, H, W, C)."""
    x = windows.reshape(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


def _shift_mask(height: int, width: int, window: int, shift: int, like: torch.Tensor) -> torch.Tensor:
    """(windows, N, N): 0 within a region, ``OTHER_REGION`` between regions that the shift brought into one window."""

    def regions(size: int) -> torch.Tensor:
        position = torch.arange(size, device=like.device)
        return (position >= size - window).long() + (position >= size - shift).long()

    labels = regions(height)[:, None] * 3 + regions(width)[None, :]
    labels = _windows(labels[None, :, :, None], window)[..., 0]  # (windows, N)
    return (labels[:, :, None] != labels[:, None, :]).to(like.dtype) * OTHER_REGION


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=BIAS_STD)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, windows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Args: ``windows`` (B * W, N, C), ``mask`` (W, N, N) or None."""
        count, tokens, width = windows.shape
        qkv = self.qkv(windows).reshape(count, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B * W, heads, N, C / heads) each
        bias = self.relative_position_bias_table[_relative_positions(self.window, windows.device)]
        bias = bias.permute(2, 0, 1)[None]  # (1, heads, N, N)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(count // len(mask), 1, 1, 1)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(count, tokens, width))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, MLP_RATIO * width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Args: ``x`` (B, H, W, C), ``mask`` for blocks that shift."""
        height, width = x.shape[1:3]
        # Padding comes after the norm, so that padded patches are zero but do take part in attention.
        y = F.pad(self.norm1(x), (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded = y.shape[1:3]
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = self.attn(_windows(y, self.window), mask if self.shift else None)
        y = _unwindowed(y, self.window, *padded)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        x = x + y[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class _Merging(nn.Module):
    """Four neighbouring patches to one of twice the width: (B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2C)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, out, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # The order of the four is that of the trained matrix: down a column first.
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class _Stage(nn.Module):
    def __init__(self, config: DeticConfig, index: int) -> None:
        super().__init__()
        width, heads, window = config.widths[index], config.heads[index], config.window
        self.window = window
        self.blocks = nn.ModuleList(
            _Block(width, heads, window, shift=window // 2 if i % 2 else 0) for i in range(config.depths[index])
        )
        last = index == len(config.widths) - 1
        self.downsample = None if last else _Merging(width, config.widths[index + 1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = (-(-size // self.window) * self.window for size in x.shape[1:3])
        mask = _shift_mask(height, width, self.window, self.window // 2, x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Swin(nn.Module):
    """(B, 3, H, W) normalised pixels to the maps at strides 8, 16 and 32."""

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, config.widths[0], PATCH, PATCH)
        self.patch_embed.norm = nn.LayerNorm(config.widths[0])
        self.layers = nn.ModuleList(_Stage(config, i) for i in range(len(config.depths)))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for width in config.widths[1:])

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.patch_embed.norm(self.patch_embed.proj(pixels).permute(0, 2, 3, 1))  # (B, H/4, W/4, C)
        maps = []
        for stage, norm in zip(self.layers, (None, self.norm1, self.norm2, self.norm3), strict=True):
            x = stage(x)
            if norm is not None:
                maps.append(norm(x).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                x = stage.downsample(x)
        return tuple(maps)
