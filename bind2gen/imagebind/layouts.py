"""The parameter names that published ImageBind weight files use, beside ours. Names only; no tensor is touched here.

Sources of the names: the state dict of facebookresearch/ImageBind (``imagebind_huge.pth``; the hub's
``nielsr/imagebind-huge`` keeps them), and the conversion scripts of two open transformers pull requests, 26310 and
30690 (the hub's ``EduardoPacheco/imagebind-huge``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Keys = tuple[str, ...]  # one parameter of ours: a single key, or several to join along the first axis (q, k, v)

_REFERENCE_STEMS = {"vision": "rgbt", "audio": "rgbt", "thermal": "rgbt", "depth": "depth", "imu": "imu"}
_BLOCK_KEY = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Layout:
    """How one family of files names its parameters.

    Attributes:
        name: for messages.
        marker: a pattern that some key of every such file matches, and no key of another layout.
        keys: ``(tower, our key without "towers.<tower>.")`` to the ways a file may spell it, the usual one first.
        scale: the key of a tower's logarithmic output factor.
        extra: keys that carry nothing the model needs.
        partial: whether files hold only some towers (the others are then left out when none is asked for).
    """

    name: str
    marker: re.Pattern[str]
    keys: Callable[[str, str], tuple[Keys, ...]]
    scale: Callable[[str], str]
    extra: re.Pattern[str]
    partial: bool = False

    def matches(self, keys: Iterable[str]) -> bool:
        return any(self.marker.match(key) for key in keys)


# ---- facebookresearch/ImageBind ----


def reference_key(tower: str, key: str) -> str:
    """Our key, without ``towers.<tower>.``, as ``imagebind_huge.pth`` spells it."""
    if block := _BLOCK_KEY.fullmatch(key):
        part = block[2].replace("attention.in_proj.", "attn.in_proj_").replace("attention.", "attn.")
        part = part.replace("norm1", "norm_1").replace("norm2", "norm_2")
        return f"modality_trunks.{tower}.blocks.{block[1]}.{part}"
    stem = f"modality_preprocessors.{tower}.{_REFERENCE_STEMS.get(tower)}_stem"
    # A Sequential puts Linear after norm and selection; the IMU head has a dropout between, and text its own module.
    norm, projection = ("proj.0", "proj.1") if tower == "text" else ("0", "3" if tower == "imu" else "2")
    positions = "pos_embed" if tower in ("text", "imu") else "pos_embedding_helper.pos_embed"
    renamed = {
        "class_token": f"modality_preprocessors.{tower}.cls_token",
        "position_embedding": f"modality_preprocessors.{tower}.{positions}",
        "stem.token_embedding.weight": f"modality_preprocessors.{tower}.token_embedding.weight",
        "stem.projection.weight": f"{stem}.proj.{'1.' if tower == 'vision' else ''}weight",
        "head.projection.weight": f"modality_heads.{tower}.{projection}.weight",
        "log_logit_scale": _reference_scale(tower),
    }
    for leaf in ("weight", "bias"):
        renamed[f"stem.norm.{leaf}"] = f"{stem}.norm_layer.{leaf}"
        renamed[f"input_norm.{leaf}"] = f"modality_trunks.{tower}.pre_transformer_layer.0.{leaf}"
        renamed[f"head.norm.{leaf}"] = f"modality_heads.{tower}.{norm}.{leaf}"
    return renamed[key]


def _reference_scale(tower: str) -> str:
    return f"modality_postprocessors.{tower}.1.log_logit_scale"


REFERENCE = Layout(
    "imagebind_huge.pth",
    marker=re.compile(r"modality_(preprocessors|trunks|heads)\."),
    keys=lambda tower, key: ((reference_key(tower, key),),),
    scale=_reference_scale,
    extra=re.compile(r"modality_preprocessors\.text\.mask"),  # the causal mask, a constant
)


# ---- the transformers pull requests ----


def _transformers_keys(tower: str, key: str) -> tuple[Keys, ...]:
    """Spelling of pull request 30690 first, then of 26310, where they differ."""
    if block := _BLOCK_KEY.fullmatch(key):
        return tuple(
            tuple(f"{tower}_model.encoder.layers.{block[1]}.{part}" for part in parts)
            for parts in _transformers_block(block[2])
        )
    part, _, leaf = key.rpartition(".")
    inside = {
        "class_token": ("embeddings.cls_token", "embeddings.class_embedding"),
        "position_embedding": ("embeddings.position_embeddings", "embeddings.position_embedding.weight"),
        "stem.token_embedding.weight": ("embeddings.token_embedding.weight",),
        "stem.projection.weight": ("embeddings.patch_embedding.projection.weight", "embeddings.patch_embedding.weight"),
        f"stem.norm.{leaf}": (f"embeddings.patch_embedding.layernorm.{leaf}", f"embeddings.norm_layer.{leaf}"),
        f"input_norm.{leaf}": (f"pre_layernorm.{leaf}",),
        f"head.norm.{leaf}": tuple(f"{n}.{leaf}" for n in ("layernorm", "post_layernorm", "final_layer_norm")),
    }
    if key in inside:
        return tuple((f"{tower}_model.{name}",) for name in inside[key])
    if key == "log_logit_scale":
        return ((_transformers_scale(tower),),)
    assert part == "head.projection"
    return ((f"{tower}_projection.weight",), *([("visual_projection.weight",)] if tower == "vision" else []))


def _transformers_block(key: str) -> tuple[Keys, ...]:
    part, _, leaf = key.rpartition(".")
    if part == "attention.in_proj":
        return ((f"self_attn.qkv_proj.{leaf}",), tuple(f"self_attn.{name}_proj.{leaf}" for name in "qkv"))
    if part in ("norm1", "norm2"):
        place = "before" if part == "norm1" else "after"
        return ((f"layernorm_{place}.{leaf}",), (f"layer_{part}.{leaf}",))
    spelled = {"attention.bias_k": "self_attn.k_bias", "attention.bias_v": "self_attn.v_bias"}
    return ((spelled.get(key, key.replace("attention.", "self_attn.")),),)


def _transformers_scale(tower: str) -> str:
    return f"{tower}_postprocessor.log_logit_scale"


TRANSFORMERS = Layout(
    "transformers pull request",
    marker=re.compile(r"(vision|text|audio|depth|thermal|imu)_model\.(embeddings|encoder)\."),
    keys=_transformers_keys,
    scale=_transformers_scale,
    extra=re.compile(r"\w+_model\.embeddings\.position_ids"),  # 0, 1, 2, ...
    partial=True,
)

LAYOUTS: tuple[Layout, ...] = (REFERENCE, TRANSFORMERS)
