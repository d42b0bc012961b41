"""FLUX.1 with XLabs' IP-Adapter: 4 (or 16) tokens of an embedding beside each of the double blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection
from safetensors.torch import save_file

from ...errors import HostError, InputError
from ...files.weights import open_tensors
from ...imagebind.agreement import check_loaded, refuse_not_finite
from . import IP_ADAPTER_FILE, NOT_GUIDED
from .contract import SPACES, Host, Slot, away_from, bound_method, check_width, slot_of
from .prompts import prompts_for

SLOT = Slot(
    name="FLUX.1 + IP-Adapter", space="vit-l", width=SPACES["vit-l"][0], norm="any", negative="zeros", media="image",
    needs="an IP-Adapter file, an adapter with a map to its space (fit-map)", prompt=True, gigabytes=35.0,
    licence="Apache-2.0; FLUX.1 [dev] non-commercial", weights="ip_adapter.safetensors of XLabs-AI/flux-ip-adapter",
    goes_with="prompt, ControlNet, LoRA, img2img, inpaint",
)  # fmt: skip
# XLabs' names in a file, and diffusers'.
PROJECTION, BLOCKS, STREAM = "ip_adapter_proj_model.", "double_blocks.", "ip_adapter_double_stream_{}_proj"


class Flux(Host):
    """FLUX.1 with an IP-Adapter."""

    SLOTS = (SLOT,)
    pipelines = ("FluxIPAdapterMixin",)
    file = IP_ADAPTER_FILE
    guidance = "true_cfg_scale"  # guidance_scale is what its distillation reads, and has no negative half

    def slot(self, pipe: Any) -> Slot | None:
        if not self.takes(type(pipe)):
            return None
        layers, name = getattr(pipe.transformer.encoder_hid_proj, "image_projection_layers", []), type(pipe).__name__
        if len(layers) != 1 or not isinstance(layers[0], ImageProjection):
            raise HostError(
                f"{name}: wanted one IP-Adapter of one embedding a picture, found {len(layers) or 'none'}; "
                f"bind2gen.hosts.pictures.flux.Flux().load(FOLDER, file=FILE) loads {SLOT.weights}"
            )
        return slot_of(SLOT, layers[0].image_embeds.in_features)

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        scale: float | list[float] | None = None,
        negative_prompt: str | list[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`; ``embeds`` are (B, D), or (B, S, D) for S of them in one picture.

        Args:
            scale: weight of the adapter, one or one a double block; default is what the pipeline has.
            negative_prompt: with ``true_cfg_scale`` above 1; the pipeline would not guide without any.

        Raises:
            InputError, ShapeError: numbers or a negative embedding that do not fit.
        """
        if not guided and negative_prompt is not None:
            raise InputError(NOT_GUIDED.format("negative", self.guidance))
        rows = (embeds[:, None] if embeds.ndim == 2 else embeds).repeat_interleave(num, dim=0)  # (B num, S, D)
        wanted: dict[str, Any] = {
            "ip_adapter_image_embeds": [rows],
            "negative_ip_adapter_image_embeds": [away_from(negative, rows, num)],  # else it encodes a black picture
        }
        if guided:
            wanted["negative_prompt"] = prompts_for(negative_prompt, len(embeds), "negative_prompt")

        def prepare(image: Any, given: list[torch.Tensor], device: Any, pictures: int) -> list[torch.Tensor]:
            """The pipeline's own repeats the whole of them for each picture."""
            return [half.to(device, pipe.transformer.dtype) for half in given]

        before = [(processor, processor.scale) for processor in _double(pipe)]
        try:
            if scale is not None:
                scales = [scale] * len(before) if isinstance(scale, int | float) else list(scale)
                if len(scales) != len(before):
                    raise InputError(f"scale: wanted one number, or {len(before)}, one a block, got {len(scales)}")
                for (processor, _), value in zip(before, scales, strict=True):
                    processor.scale = [value]
            with bound_method(pipe, "prepare_ip_adapter_image_embeds", prepare):
                yield wanted
        finally:
            for processor, value in before:
                processor.scale = value

    def save(self, pipe: Any, folder: str | os.PathLike[str]) -> None:
        """diffusers finds no IP-Adapter again in what it saves: its file goes beside that, under XLabs' names."""
        self.slot(pipe)
        projection = pipe.transformer.encoder_hid_proj.image_projection_layers[0].state_dict()
        layers = {PROJECTION + key.replace("image_embeds", "proj"): value for key, value in projection.items()}
        for number, processor in enumerate(_double(pipe)):
            for part in "kv":
                linear = getattr(processor, f"to_{part}_ip")[0]
                for kind in ("weight", "bias"):
                    layers[f"{BLOCKS}{number}.processor.{STREAM.format(part)}.{kind}"] = getattr(linear, kind)
        pipe.save_pretrained(folder)
        save_file({key: value.detach().contiguous() for key, value in layers.items()}, Path(folder) / IP_ADAPTER_FILE)

    def load(
        self,
        folder: str | os.PathLike[str],
        *,
        file: str | os.PathLike[str] | None = None,
        embed_dim: int | None = None,
        **options: Any,
    ) -> Any:
        """The pipeline with the adapter of ``file``, by default the one that :meth:`save` leaves in the folder.

        Raises:
            HostError: it is no adapter, or of another width than ``embed_dim``; no weights are read then.
            CheckpointError: the file is missing or damaged.
        """
        layers = read_adapter(file or Path(folder) / IP_ADAPTER_FILE)
        if embed_dim is not None:
            width = layers["image_proj"]["proj.weight"].shape[1]
            check_width(str(file or folder), embed_dim, slot_of(SLOT, width))
        pipe = super().load(folder, **options)
        pipe.load_ip_adapter(layers, weight_name="", image_encoder_pretrained_model_name_or_path=None)
        check_loaded(pipe.transformer, str(file or folder))
        return pipe


def read_adapter(path: str | os.PathLike[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The two halves of an adapter's file under diffusers' names, mapped and not yet read."""
    flat = open_tensors(Path(path))
    found: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key in flat:
        if key.startswith(PROJECTION):
            found["image_proj"][key.removeprefix(PROJECTION)] = flat[key]
        elif key.startswith(BLOCKS):
            name = key.removeprefix(BLOCKS).replace("processor.", "")
            for part in "kv":
                name = name.replace(STREAM.format(part), f"to_{part}_ip")
            found["ip_adapter"][name] = flat[key]
        refuse_not_finite(flat[key], key, str(path))
    if "proj.weight" not in found["image_proj"] or not found["ip_adapter"]:
        raise HostError(f"{path}: wanted an IP-Adapter of FLUX.1; use {SLOT.weights}")
    return found


def _double(pipe: Any) -> list[Any]:
    """The processors that an adapter has layers in, one a double block."""
    return [p for place, p in pipe.transformer.attn_processors.items() if not place.startswith("single")]
