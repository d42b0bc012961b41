"""Karlo's image variations (an unCLIP in pixels, 64 and then 256 wide): embeddings, no words, its own negative half.

diffusers has deprecated the pipeline, and it still draws. Its decoder learned what to be guided away from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ...errors import HostError, InputError, ShapeError
from ...files.hub import DOWNLOAD_OPTIONS
from ...imagebind.agreement import check_loaded
from .contract import SPACES, Host, Slot, bound_method, check_saved
from .stated_parts import check_parts, load_parts

SLOT = Slot(
    name="Karlo", space="vit-l", width=SPACES["vit-l"][0], norm="measured", negative="internal", media="image",
    needs="an adapter with a map to its space (fit-map)", prompt=False, licence="CreativeML OpenRAIL-M", gigabytes=5.0,
    weights="kakaobrain/karlo-v1-alpha-image-variations", goes_with="nothing else",
)  # fmt: skip
PART = "text_proj"


class Karlo(Host):
    """Karlo's image variations (diffusers' UnCLIPImageVariationPipeline)."""

    SLOTS = (SLOT,)
    pipelines = ("UnCLIPImageVariationPipeline",)
    width_at = (PART, "clip_embeddings_dim")
    unused = ("image_encoder", "feature_extractor")
    names = MappingProxyType(
        {"guidance_scale": "decoder_guidance_scale", "num_inference_steps": "decoder_num_inference_steps"}
    )
    scheduler = "decoder_scheduler"
    float32_on_cpu = True

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        num_inference_steps: int = 25,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`.

        Args:
            num_inference_steps: 2 or more: the scheduler divides by one less.
        """
        if num_inference_steps < 2:
            raise InputError(f"num_inference_steps: wanted 2 or more of {SLOT.name}, got {num_inference_steps}")
        dtype, device = pipe.super_res_first.dtype, pipe._execution_device
        if dtype != torch.float32 and device.type == "cpu":  # where torch resizes no others as it wants
            raise HostError(f"{SLOT.name}: wanted float32 on a CPU, got {dtype}; load it in that (--dtype float32)")
        if negative is not None:
            raise HostError(f"{SLOT.name}: wanted no negative embedding; it learned what to be guided away from")
        if embeds.ndim != 2:
            raise ShapeError(f"{SLOT.name}: wanted one embedding a picture, (B, D), got {tuple(embeds.shape)}")

        def encode(image: Any, device: Any, pictures: int, rows: torch.Tensor) -> torch.Tensor:
            """The pipeline's own asks its image encoder for a dtype, also where there is none."""
            return rows.to(device, pipe.text_proj.dtype).repeat_interleave(pictures, dim=0)

        with bound_method(pipe, "_encode_image", encode):
            yield {"image_embeddings": embeds, "image": None, "decoder_num_inference_steps": num_inference_steps}

    def load(self, folder: str | os.PathLike[str], *, embed_dim: int | None = None, **options: Any) -> Any:
        """As of :class:`Host`. diffusers does not find the class of ``text_proj`` again since it moved it."""
        from diffusers import UnCLIPImageVariationPipeline
        from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

        class WithoutOnePart(UnCLIPImageVariationPipeline):
            @classmethod
            def load_config(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
                return {name: value for name, value in super().load_config(*args, **kwargs).items() if name != PART}

        check_saved(self, folder, embed_dim)
        own = {name: value for name, value in options.items() if name in ("dtype", *DOWNLOAD_OPTIONS)}
        check_parts(folder, options.get("variant"))
        part = {PART: UnCLIPTextProjModel.from_pretrained(folder, subfolder=PART, **own)}
        check_loaded(part[PART], str(Path(folder, PART)))
        pipe = load_parts(WithoutOnePart.from_pretrained, folder, **dict.fromkeys(self.unused), **part, **options)
        return UnCLIPImageVariationPipeline(**pipe.components)
