"""Image and text towers from an OpenCLIP model: what the paper starts from, and freezes (ImageBind, section 4)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from ..errors import CheckpointError
from ..imagebind.config import ImageBindConfig
from ..imagebind.model import ImageBindModel

TOWERS = ("vision", "text")
# OpenCLIP's names, without "visual." for the picture side, beside ours.
_BLOCK_NAMES = {
    "norm1": "ln_1", "norm2": "ln_2", "attention.in_proj.weight": "attn.in_proj_weight",
    "attention.in_proj.bias": "attn.in_proj_bias", "attention.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
_VISION_NAMES = {
    "class_token": "visual.class_embedding", "position_embedding": "visual.positional_embedding",
    "stem.projection.weight": "visual.conv1.weight", "input_norm": "visual.ln_pre", "head.norm": "visual.ln_post",
    "head.projection.weight": "visual.proj",
}  # fmt: skip
_TEXT_NAMES = {
    "stem.token_embedding.weight": "token_embedding.weight", "position_embedding": "positional_embedding",
    "head.norm": "ln_final", "head.projection.weight": "text_projection", "log_logit_scale": "logit_scale",
}  # fmt: skip
_BLOCK_KEY = re.compile(r"blocks\.(\d+)\.(.+)")


def openclip_key(tower: str, key: str) -> str:
    """Our parameter name, without ``towers.<tower>.``, as OpenCLIP spells it."""
    if block := _BLOCK_KEY.fullmatch(key):
        prefix = "visual.transformer" if tower == "vision" else "transformer"
        return f"{prefix}.resblocks.{block[1]}.{_renamed(block[2], _BLOCK_NAMES)}"
    return _renamed(key, _VISION_NAMES if tower == "vision" else _TEXT_NAMES)


def _renamed(key: str, names: dict[str, str]) -> str:
    if key in names:
        return names[key]
    part, _, leaf = key.rpartition(".")
    if part in names:
        return f"{names[part]}.{leaf}"
    raise CheckpointError(f"our {key} has no counterpart in OpenCLIP; wanted towers of CLIP's structure")


def load_openclip(
    weights: nn.Module | Mapping[str, torch.Tensor], config: ImageBindConfig, *, modalities: list[str] | None = None
) -> ImageBindModel:
    """A model whose image and text towers are OpenCLIP's; towers of other modalities are new.

    A still then gives OpenCLIP's embedding: the first convolution is spread evenly over the frames of a patch. The
    norms of ImageBind's blocks have eps 1e-6 where OpenCLIP has 1e-5, which changes embeddings by less than 1e-3.

    Args:
        weights: an OpenCLIP model with the standard text tower (``open_clip.create_model("ViT-H-14", ...)``), or its
            state dict.
        config: sizes of the towers; ``HUGE()`` fits ViT-H-14.
        modalities: towers to build; default is the config's.

    Raises:
        CheckpointError: a tensor is missing or has another shape, or the model uses quick GELU.
    """
    if isinstance(weights, nn.Module):
        if any(type(part).__name__ == "QuickGELU" for part in weights.modules()):
            raise CheckpointError("OpenCLIP model with quick GELU: ImageBind's towers have exact GELU; take ViT-H-14")
        weights = weights.state_dict()
    model = ImageBindModel(config, modalities)
    with torch.no_grad():
        for name in TOWERS:
            if name in model.towers:
                for key, parameter in model.towers[name].named_parameters():
                    parameter.copy_(_fitted(weights, name, key, parameter.shape))
    return model


def _fitted(weights: Mapping[str, torch.Tensor], tower: str, key: str, wanted: torch.Size) -> torch.Tensor:
    theirs = openclip_key(tower, key)
    if theirs not in weights:
        raise CheckpointError(f"OpenCLIP weights: {theirs} is missing (for our {tower} {key})")
    value = weights[theirs].float()
    if key == "head.projection.weight":
        value = value.T
    if key == "stem.projection.weight" and len(wanted) == 5:
        frames = wanted[2]
        value = value[:, :, None].expand(-1, -1, frames, -1, -1) / frames
    if value.numel() != wanted.numel() or value.squeeze().shape != torch.Size(s for s in wanted if s != 1):
        raise CheckpointError(f"OpenCLIP weights: {theirs} is {tuple(value.shape)}, our {tower} {key} {tuple(wanted)}")
    return value.reshape(wanted)
