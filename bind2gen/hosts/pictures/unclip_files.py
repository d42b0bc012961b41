"""Reading a Stable unCLIP pipeline from a folder or the hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from diffusers import StableUnCLIPImg2ImgPipeline

from ...errors import HostError
from ...files.hub import INDEX, pipeline_index
from .packaged import KnownClassMixin
from .stated_parts import load_parts

PARTS = (
    "feature_extractor", "image_encoder", "image_normalizer", "image_noising_scheduler",
    "tokenizer", "text_encoder", "unet", "scheduler", "vae",
)  # fmt: skip
OPTIONAL_PARTS = ("feature_extractor", "image_encoder")  # ImageBind takes their place


class _HostInAPackagedPipeline(KnownClassMixin, StableUnCLIPImg2ImgPipeline):
    """The host's parts of a pipeline that was saved with an encoder of its own; the other parts are passed over."""

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        index = super().load_config(*args, **kwargs)
        return {name: value for name, value in index.items() if name in PARTS or name.startswith("_")}


def load_host(
    source: str | os.PathLike[str], *, dtype: torch.dtype | None = None, **options: Any
) -> StableUnCLIPImg2ImgPipeline:
    """Load a Stable unCLIP folder or hub id without its image encoder (1.3 GB in half precision), which is not needed.

    Args:
        source: also a folder saved by :class:`bind2gen.ImageBindUnCLIPPipeline`; its encoder is left on disk.
        options: for diffusers' ``from_pretrained``, such as ``variant="fp16"``.

    Raises:
        HostError: not a folder or reachable hub id of a Stable unCLIP pipeline, or damaged.
    """
    kind = StableUnCLIPImg2ImgPipeline
    if Path(source).is_dir():
        kind = _HostInAPackagedPipeline if isinstance(_index(source)["_class_name"], list) else kind
    if dtype is not None:
        options["dtype"] = dtype
    return load_parts(kind.from_pretrained, str(source), **dict.fromkeys(OPTIONAL_PARTS), **options)


def _index(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """model_index.json of a local folder, its parts checked before any weights are read."""
    found = pipeline_index(folder)
    if found is None:
        raise HostError(f"{folder}: wanted a diffusers pipeline folder with {INDEX}, found none")
    index = {"_class_name": "an unknown pipeline"} | found
    if missing := [name for name in PARTS if name not in OPTIONAL_PARTS and not index.get(name, [None])[0]]:
        raise HostError(
            f"{folder}: wanted a Stable unCLIP pipeline, found {index['_class_name']} without {', '.join(missing)}"
        )
    return index
