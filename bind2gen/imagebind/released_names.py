"""The parameter names of released ImageBind weights (``imagebind_huge.pth``), beside ours. No tensor is touched here.

Source of the names: the state dict of facebookresearch/ImageBind; the hub's ``nielsr/imagebind-huge`` keeps them.
"""

from __future__ import annotations

import re

_STEMS = {"vision": "rgbt", "audio": "rgbt", "thermal": "rgbt", "depth": "depth", "imu": "imu"}
_BLOCK_KEY = re.compile(r"blocks\.(\d+)\.(.+)")
RELEASED = re.compile(r"modality_(preprocessors|trunks|heads)\.")  # some key of every released file begins so
MASK = "modality_preprocessors.text.mask"  # the causal one, a constant


def reference_key(tower: str, key: str) -> str:
    """Our key, without ``towers.<tower>.``, as ``imagebind_huge.pth`` spells it."""
    if block := _BLOCK_KEY.fullmatch(key):
        part = block[2].replace("attention.in_proj.", "attn.in_proj_").replace("attention.", "attn.")
        part = part.replace("norm1", "norm_1").replace("norm2", "norm_2")
        return f"modality_trunks.{tower}.blocks.{block[1]}.{part}"
    stem = f"modality_preprocessors.{tower}.{_STEMS.get(tower)}_stem"
    # A Sequential puts Linear after norm and selection; the IMU head has a dropout between, and text its own module.
    norm, projection = ("proj.0", "proj.1") if tower == "text" else ("0", "3" if tower == "imu" else "2")
    positions = "pos_embed" if tower in ("text", "imu") else "pos_embedding_helper.pos_embed"
    renamed = {
        "class_token": f"modality_preprocessors.{tower}.cls_token",
        "position_embedding": f"modality_preprocessors.{tower}.{positions}",
        "stem.token_embedding.weight": f"modality_preprocessors.{tower}.token_embedding.weight",
        "stem.projection.weight": f"{stem}.proj.{'1.' if tower == 'vision' else ''}weight",
        "head.projection.weight": f"modality_heads.{tower}.{projection}.weight",
        "log_logit_scale": scale_key(tower),
    }
    for leaf in ("weight", "bias"):
        renamed[f"stem.norm.{leaf}"] = f"{stem}.norm_layer.{leaf}"
        renamed[f"input_norm.{leaf}"] = f"modality_trunks.{tower}.pre_transformer_layer.0.{leaf}"
        renamed[f"head.norm.{leaf}"] = f"modality_heads.{tower}.{norm}.{leaf}"
    return renamed[key]


def scale_key(tower: str) -> str:
    """Where the file keeps the logarithm of a tower's output factor."""
    return f"modality_postprocessors.{tower}.1.log_logit_scale"
