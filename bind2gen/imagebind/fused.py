"""Linear layers in bfloat16 on a CPU: bias, GELU and sum within oneDNN's product, not in passes of their own.

What torch.compile does without a wait or a compiler. Nothing here has gradients: with them torch's own ways are taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def linear(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``layer(x)``."""
    if not fusible(layer, x):
        return layer(x)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")


def linear_gelu(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``gelu(layer(x))``, the exact one."""
    if not fusible(layer, x):
        return F.gelu(layer(x))
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "gelu", [], "none")


def added_linear(kept: torch.Tensor, layer: nn.Module, x: torch.Tensor, drop_path: nn.Module) -> torch.Tensor:
    """``kept + drop_path(layer(x))``; ``kept`` (B, T, N) may be a view."""
    if not fusible(layer, x) or drop_path.training and not isinstance(drop_path, nn.Identity):
        return kept + drop_path(layer(x))
    return torch.ops.mkldnn._linear_pointwise.binary(x, kept.contiguous(), layer.weight, layer.bias, "add")


def fusible(layer: nn.Module, x: torch.Tensor) -> bool:
    """Whether oneDNN may be asked: no gradient, a linear layer as torch made it, that nothing wraps or listens to."""
    if x.dtype is not torch.bfloat16 or x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    if type(layer) is not nn.Linear:
        return False
    watched = layer._forward_hooks or layer._forward_pre_hooks or "forward" in layer.__dict__  # accelerate replaces it
    plain = type(layer.weight) is nn.Parameter and layer.weight.dtype is x.dtype and layer.weight.device == x.device
    return plain and not watched and not torch.compiler.is_compiling() and computes_bfloat16()


def fast_bfloat16() -> str:
    """What this processor multiplies bfloat16 with, at 2 to 8 times the speed of float32; empty where it cannot."""
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else ""


def computes_bfloat16() -> bool:
    """Whether this build's oneDNN has products of bfloat16 for this processor, fast or not."""
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
