"""IP-Adapter (arXiv 2308.06721) for Stable Diffusion 1.5 and SDXL: a second cross-attention, to an image embedding.

diffusers' own ``ip_adapter_image_embeds`` has no meaning of a batch: (2 N, 1, D) with N prompts is one and the same
mixture for all. So the one method that prepares them is replaced for the length of a call.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection
from PIL import Image
from safetensors.torch import save_file

from ...errors import HostError, InputError, ShapeError
from ...files.weights import load_pickle, open_tensors
from ...imagebind.agreement import check_loaded, read_json, refuse_not_finite
from . import IP_ADAPTER_FILE
from .contract import SPACES, VIT_H, Host, Slot, away_from, bound_method, check_width, slot_of
from .stated_parts import load_parts

KINDS = ("image_proj", "ip_adapter")  # the two halves of an adapter's file
TOKENS = 4  # that an embedding becomes
NOT_POOLED = "wanted an IP-Adapter of one embedding a picture, this one (plus or face) takes a grid of tokens or a face"
SLOT = Slot(
    name="Stable Diffusion 1.5 + IP-Adapter", space="vit-h", width=SPACES["vit-h"][0], norm="any", negative="zeros",
    media="image", needs="an IP-Adapter file", prompt=True, licence="Apache-2.0; CreativeML OpenRAIL-M",
    weights=VIT_H + "models/ip-adapter_sd15.safetensors of h94/IP-Adapter", gigabytes=2.2,
    goes_with="prompt, ControlNet, LoRA, masks, img2img, inpaint",
)  # fmt: skip
SDXL = replace(
    SLOT, name="SDXL + IP-Adapter", licence="Apache-2.0; CreativeML OpenRAIL++-M",
    weights=VIT_H + "sdxl_models/ip-adapter_sdxl_vit-h.safetensors of h94/IP-Adapter", gigabytes=7.6,
)  # fmt: skip
# SDXL's blocks by what they decide: InstantStyle (arXiv 2404.02733), as in diffusers' guide.
PRESETS = {
    "style": {"up": {"block_0": [0.0, 1.0, 0.0]}},
    "layout": {"down": {"block_2": [0.0, 1.0]}},
    "style and layout": {"up": {"block_0": [0.0, 1.0, 0.0]}, "down": {"block_2": [0.0, 1.0]}},
}

Scale = float | str | Mapping[str, Any] | Sequence[float]


class IPAdapter(Host):
    """Stable Diffusion 1.5 or SDXL with an IP-Adapter."""

    SLOTS = (SLOT, SDXL)
    UNET: type = UNet2DConditionModel
    pipelines = ("IPAdapterMixin",)
    file = IP_ADAPTER_FILE

    def slot(self, pipe: Any) -> Slot | None:
        unet = getattr(pipe, "unet", None)
        if not self.takes(type(pipe)) or not isinstance(unet, self.UNET):
            return None
        kind, name = self.SLOTS[-1 if unet.config.addition_embed_type == "text_time" else 0], type(pipe).__name__
        layers = getattr(unet.encoder_hid_proj, "image_projection_layers", [])
        if len(layers) != 1:
            raise HostError(
                f"{name}: wanted one IP-Adapter, found {len(layers) or 'none'}; pipe.load_ip_adapter(FOLDER_OR_ID, "
                f"subfolder=..., weight_name=..., image_encoder_folder=None) loads {kind.weights}"
            )
        if not isinstance(layers[0], ImageProjection):
            raise HostError(f"{name}: {NOT_POOLED}; use {kind.weights}")
        if wrong := {type(p).__name__ for p in crossing(pipe) if not hasattr(p, "to_k_ip")}:
            raise HostError(
                f"{name}: attention slicing, or set_attn_processor, took the IP-Adapter's layers away (there are "
                f"{', '.join(sorted(wrong))}); call pipe.disable_attention_slicing() and load the adapter again"
            )
        return slot_of(kind, layers[0].image_embeds.in_features)

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        scale: Scale | None = None,
        start: float = 0.0,
        end: float = 1.0,
        masks: Sequence[Any] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`; ``embeds`` are (B, D), or (B, S, D) for S of them in one picture.

        Args:
            scale: weight of the adapter: a number; the name of one of :data:`PRESETS` (SDXL); a mapping of blocks, as
                of diffusers' ``set_ip_adapter_scale``; or S numbers with masks. Default is what the pipeline has.
            start, end: shares of the steps, 0..1, between which the adapter takes part.
            masks: S pictures or arrays (H, W) of 0..1, of the drawn picture's aspect: where each embedding counts.

        Raises:
            HostError: layers of the adapter are gone, or the UNet has not a preset's blocks.
            InputError, ShapeError: numbers, masks or a negative embedding that do not fit.
        """
        self.slot(pipe)  # attention may have been replaced since
        rows = (embeds[:, None] if embeds.ndim == 2 else embeds).repeat_interleave(num, dim=0)  # (B num, S, D)
        if not 0 <= start <= end <= 1:
            raise InputError(f"start and end: wanted 0 <= start <= end <= 1, got {start!r} and {end!r}")
        away = away_from(negative, rows, num)

        def prepare(image: Any, given: Any, device: Any, pictures: int, guided: bool) -> list[torch.Tensor]:
            if pictures != len(rows):
                raise ShapeError(f"prompt: wanted prompts for {len(rows)} pictures, one an embedding, got {pictures}")
            return [(torch.cat([away, rows]) if guided else rows).to(device)]

        arguments: dict[str, Any] = {"ip_adapter_image_embeds": [rows]}
        if masks is not None:
            arguments["cross_attention_kwargs"] = {"ip_adapter_masks": [_planes(masks, rows.shape[1])]}
        timed = nullcontext() if (start, end) == (0, 1) else _between(pipe, start, end)
        with bound_method(pipe, "prepare_ip_adapter_image_embeds", prepare), _scaled(pipe, scale, masks), timed:
            yield arguments

    def save(self, pipe: Any, folder: str | os.PathLike[str]) -> None:
        """diffusers finds no IP-Adapter again in what it saves: its file goes beside that. Scales are not saved."""
        self.slot(pipe)
        projection = pipe.unet.encoder_hid_proj.image_projection_layers[0].state_dict()
        layers = {f"image_proj.{key.replace('image_embeds', 'proj')}": value for key, value in projection.items()}
        for number, processor in enumerate(crossing(pipe)):
            layers[f"ip_adapter.{2 * number + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            layers[f"ip_adapter.{2 * number + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
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
        """The pipeline with the adapter of ``file`` (.safetensors or .bin), which :meth:`save` leaves in the folder.

        Args:
            embed_dim: one for other embeddings is refused before any weights are read.

        Raises:
            HostError: it is no adapter, of another width, a plus or face one, or for another UNet.
            CheckpointError: the file is missing or damaged.
        """
        layers, config = read_adapter(file or Path(folder) / IP_ADAPTER_FILE), Path(folder, "unet", "config.json")
        projection = layers["image_proj"]["proj.weight"]
        if embed_dim is not None:
            check_width(str(file or folder), embed_dim, slot_of(SLOT, projection.shape[1]))
        wanted = read_json(config.parent).get("cross_attention_dim") if config.is_file() else None
        if wanted not in (None, projection.shape[0] // TOKENS):
            words = f"wanted an IP-Adapter for a UNet of width {wanted}, found one for {projection.shape[0] // TOKENS}"
            raise HostError(f"{file or folder}: {words}; {SLOT.weights} is for SD 1.5, {SDXL.weights} for SDXL")
        pipe = load_parts(DiffusionPipeline.from_pretrained, folder, **options)
        pipe.load_ip_adapter(layers, subfolder="", weight_name="", image_encoder_folder=None)
        check_loaded(pipe.unet, str(file or folder))
        return pipe


def read_adapter(path: str | os.PathLike[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The two halves of an adapter's file, mapped and not yet read; errors as of :meth:`IPAdapter.load`."""
    path = Path(path)
    if path.suffix == ".bin" and path.is_file():
        found = load_pickle(path)
    else:
        flat = open_tensors(path)
        found = {kind: {key.partition(".")[2]: flat[key] for key in flat if key.startswith(kind)} for kind in KINDS}
    if not isinstance(found, dict) or not all(isinstance(found.get(kind), dict) and found[kind] for kind in KINDS):
        raise HostError(f"{path}: wanted an IP-Adapter, with {' and '.join(KINDS)}; use {SLOT.weights}")
    if not all(isinstance(part, torch.Tensor) for kind in KINDS for part in found[kind].values()):
        raise HostError(f"{path}: wanted an IP-Adapter of tensors, found others in it; use {SLOT.weights}")
    if found["image_proj"].get("proj.weight", torch.empty(0)).ndim != 2:
        raise HostError(f"{path}: {NOT_POOLED}; use {SLOT.weights}")
    for kind in KINDS:
        for key, tensor in found[kind].items():
            refuse_not_finite(tensor, f"{kind}.{key}", str(path))
    return found


def crossing(pipe: Any) -> list[Any]:
    """The processors that an adapter has layers in, in the order in which its file numbers them."""
    places = pipe.unet.attn_processors.items()
    return [p for place, p in places if place.endswith("attn2.processor") and "motion_modules" not in place]


def _planes(masks: Sequence[Any], count: int) -> torch.Tensor:
    """Masks as (1, S, H, W)."""
    pictures = [np.asarray(m.convert("L")) / 255 if isinstance(m, Image.Image) else np.asarray(m) for m in masks]
    shapes = {plane.shape for plane in pictures}
    if len(pictures) != count or len(shapes) != 1 or pictures[0].ndim != 2:
        raise ShapeError(f"masks: wanted {count}, (H, W) of one size each, got {len(pictures)} of {sorted(shapes)}")
    planes = torch.from_numpy(np.stack(pictures).astype(np.float32))[None]
    if not bool(((planes >= 0) & (planes <= 1)).all()):
        raise InputError("masks: wanted numbers of 0..1")
    return planes


@contextmanager
def _scaled(pipe: Any, scale: Scale | None, masks: Sequence[Any] | None) -> Iterator[None]:
    """Within the block the adapter has that weight."""
    before = [(processor, processor.scale) for processor in crossing(pipe)]
    try:
        for processor, values in before:
            processor.scale = list(values)
        if isinstance(scale, str):
            if scale not in PRESETS or pipe.unet.config.addition_embed_type != "text_time":
                raise InputError(f"scale: wanted a number or, of SDXL, one of {', '.join(PRESETS)}, got {scale!r}")
            scale = PRESETS[scale]
        if isinstance(scale, list | tuple) and (masks is None or len(scale) != len(masks)):
            raise InputError(f"scale: wanted one number, or one for each of the masks, got {scale!r}")
        if scale is not None:
            try:
                pipe.set_ip_adapter_scale([list(scale)] if isinstance(scale, list | tuple) else scale)
            except (ValueError, AttributeError, TypeError) as error:
                raise InputError(f"scale: {scale!r} is not of this UNet's blocks: {error}") from error
        yield
    finally:
        for processor, values in before:
            processor.scale = values


@contextmanager
def _between(pipe: Any, start: float, end: float) -> Iterator[None]:
    """Within the block the adapter takes part in those shares of a call's steps; the caller puts its scale back."""
    on, steps = [(processor, processor.scale) for processor in crossing(pipe)], itertools.count()

    def switch(unet: Any, given: Any) -> None:
        share = next(steps) % pipe.num_timesteps / pipe.num_timesteps
        for processor, values in on:
            processor.scale = values if start <= share < end else [0.0] * len(values)

    hook = pipe.unet.register_forward_pre_hook(switch)
    try:
        yield
    finally:
        hook.remove()
