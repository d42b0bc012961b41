"""ImageBind in front of any loaded diffusers pipeline that has a slot for image embeddings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any, Self

import torch

from ..errors import HostError, InputError
from ..hosts.pictures.contract import Host, check_width, host_of, length_of
from ..hosts.pictures.prompts import prompts_for
from ..hosts.pictures.steering import Steering
from ..hosts.pictures.turns import one_at_a_time
from ..imagebind.loading import load_config, load_imagebind, load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..modality import MODALITIES
from ..space.adapter import EmbeddingAdapter
from .conditioning import ImageBindConditioning, call_defaults, check_inputs
from .parts import fitting_adapter, load_adapter

PROMPTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")


def bind(
    pipe: Any,
    *,
    imagebind: ImageBindModel | str | os.PathLike[str],
    processor: ImageBindProcessor | None = None,
    adapter: EmbeddingAdapter | str | os.PathLike[str] | None = None,
    modalities: list[str] | None = None,
    dtype: torch.dtype | None = None,
    steer: bool = False,
) -> BoundPipeline:
    """Put ImageBind in front of a loaded pipeline: ``with bind(pipe, imagebind=...) as sounding: sounding(audio=...)``.

    Nothing of the pipeline is changed but during a call.

    Args:
        pipe: of one of the kinds in :data:`bind2gen.hosts.pictures.contract.HOSTS`.
        imagebind: a loaded model, its folder or hub id, or the official ``imagebind_huge.pth``, which is then loaded to
            where the pipeline is.
        processor: default is the one saved with ``imagebind``, for released weights the known one.
        adapter: or the folder that ``bind2gen fit-gap`` wrote; default is the one in ``adapter`` beside ``imagebind``,
            else one that blends without a shift over the modality gap, with a warning. A pipeline whose embeddings are
            of another space than the encoder's needs one with a map, of ``bind2gen fit-map``.
        modalities: load only these towers, where ``imagebind`` is a path; default is all.
        dtype: of what is loaded here; default is the pipeline's.
        steer: use no slot, but look at each step at what is about to be drawn; for pipelines that have none. Needs the
            encoder's image tower, and takes several times as long. See :mod:`bind2gen.hosts.pictures.steering`.

    Raises:
        HostError: the pipeline has no slot that is known, or is not as it can be used, or takes another width.
        ModalityError: ``steer``, and the encoder has no image tower.
        CheckpointError: ``imagebind`` cannot be loaded, or has no processor.
    """
    if isinstance(pipe, ImageBindConditioning):
        raise HostError(f"{type(pipe).__name__}: wanted a diffusers pipeline, this one has ImageBind in front already")
    source, name = imagebind, getattr(pipe, "name_or_path", "") or type(pipe).__name__
    if isinstance(adapter, str | os.PathLike):
        adapter = load_adapter(adapter)
    loaded = isinstance(imagebind, ImageBindModel)
    config = imagebind.config if loaded else load_config(imagebind)
    host = Steering(config.embed_dim) if steer else host_of(pipe)[0]
    slot = host.slot(pipe)
    modalities = modalities and [*modalities, *(["image"] if steer else [])]
    check_width(name, config.embed_dim if adapter is None else adapter.width, slot)  # before gigabytes are read
    if not loaded:
        processor = processor or load_processor(imagebind)
        imagebind = load_imagebind(imagebind, modalities=modalities, dtype=dtype or pipe.dtype).to(pipe.device)
    processor = processor or load_processor(imagebind)
    processor.check(imagebind.config)
    adapter = adapter or fitting_adapter(imagebind, None, source)
    if (space := adapter.config.target_space) and slot.space and space != slot.space:
        raise HostError(f"adapter: its map leads to {space}, embeddings of {slot.name} are of {slot.space}")
    adapter.claim(imagebind)
    return BoundPipeline(pipe, imagebind, processor, adapter, host)


class BoundPipeline(ImageBindConditioning):
    """What :func:`bind` gives: called like the pipeline, with inputs of any modality beside its own arguments.

    Attributes:
        pipe: the pipeline, as it was.
        host, slot: what it is, and where it takes embeddings.
    """

    def __init__(
        self,
        pipe: Any,
        imagebind: ImageBindModel,
        processor: ImageBindProcessor,
        adapter: EmbeddingAdapter,
        host: Host,
    ) -> None:
        self.pipe, self.imagebind, self.processor, self.adapter = pipe, imagebind, processor, adapter
        self.host, self.slot = host, host.slot(pipe)
        if isinstance(host, Steering):
            imagebind.tower("image")  # refused before anything is drawn
            host.look, host.eyes, self.anchored = self.look, imagebind, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to undo: a call puts back what it changed."""

    @property
    def host_norm(self) -> float:
        return length_of(self.host.norm(self.pipe), self.adapter.config.norm, self.slot.width)

    @property
    def defaults(self) -> dict[str, Any]:
        found = call_defaults(self.pipe)
        return found | {name: found[own] for name, own in self.host.names.items()}

    @property
    def _execution_device(self) -> torch.device:
        return self.imagebind.device

    @torch.no_grad()
    def __call__(
        self,
        audio: Any = None,
        image: Any = None,
        text: Any = None,
        video: Any = None,
        depth: Any = None,
        thermal: Any = None,
        imu: Any = None,
        *,
        weights: Mapping[str, float] | None = None,
        sampling_rate: float | None = None,
        image_embeds: torch.Tensor | None = None,
        rescale_embeds: bool = True,
        together: bool = False,
        negative: Mapping[str, Any] | torch.Tensor | None = None,
        host: Mapping[str, Any] | None = None,
        best_of: int = 1,
        return_roundtrip: bool = False,
        **arguments: Any,
    ) -> Any:
        """Draw what is heard, seen or said.

        Args:
            audio, image, text, video, depth, thermal, imu: one input or a list of them (a batch), any mix; a single
                one is shared by the batch.
            weights, sampling_rate: as of :class:`bind2gen.ImageBindUnCLIPPipeline`.
            image_embeds: (B, D) conditioning instead of inputs, scaled to the host's length unless ``rescale_embeds``
                is False; where the host takes several embeddings a picture, also (B, S, D).
            together: all of the batch go into one picture. ``masks`` say so too.
            negative: inputs by modality, or (1 or B, D): what the pictures are guided away from.
            host: arguments of the pipeline that have a modality's name, such as the picture that img2img begins with:
                ``host={"image": picture}``.
            best_of, return_roundtrip: as of :class:`bind2gen.ImageBindUnCLIPPipeline`; the output gets a ``roundtrip``.
            arguments: of the pipeline (``prompt``, one or one a picture, ``generator``, ``num_inference_steps`` ...)
                and of its host, as of its ``conditioned`` (IP-Adapter's ``scale``, ``start``, ``end``, ``masks``;
                steering's ``strength``, ``rounds``, ``start``, ``end``).

        Returns:
            What the pipeline gives.

        Raises:
            InputError: an input cannot be read; nothing was given; an argument that nobody takes.
            ShapeError, HostError: batch sizes, widths or options that do not fit.
        """
        raw = dict(audio=audio, image=image, text=text, video=video, depth=depth, thermal=thermal, imu=imu)
        given = {name: value for name, value in raw.items() if value is not None}
        check_inputs(given, image_embeds, weights, arguments.get("prompt"))
        own, options, known, kind = dict(host or {}), self._options(), self.defaults, type(self.pipe).__name__
        arguments = arguments | own
        chosen = {name: arguments.pop(name) for name in options & arguments.keys()}
        if unknown := sorted(arguments.keys() - known.keys()):
            words = f"{', '.join(unknown)}: {kind} takes no such argument"
            raise InputError(f"{words}; of its slot's own there are {', '.join(sorted(options)) or 'none'}")

        rows = self.condition(self.embed(**given, sampling_rate=sampling_rate), weights) if given else None
        rows = self._several(image_embeds, rescale_embeds) if rows is None else rows
        if (together or chosen.get("masks") is not None) and rows.ndim == 2:
            rows = rows[None]
        for name in PROMPTS:
            always = name == "prompt" and arguments.get("prompt_embeds") is None  # a batch is counted by its prompts
            if name in known and (always or arguments.get(name) is not None):
                arguments[name] = prompts_for(arguments.get(name), len(rows), name)
        arguments = {self.host.names.get(name, name): value for name, value in arguments.items()}
        scale, counted = (self.host.names.get(n, n) for n in (self.host.guidance, "num_images_per_prompt"))
        guidance, num = arguments.get(scale, known.get(scale)), arguments.get(counted, 1)
        guided = guidance is not None and guidance > 1
        able = guided or isinstance(self.host, Steering)  # which moves away itself
        negative = self._away(negative, rescale_embeds, guided=able, scale=self.host.guidance)
        if guided and negative is None and self.slot.negative == "vector":
            negative = self._negative()
        looks = return_roundtrip or best_of > 1
        if looks and (self.slot.media == "video" or arguments.get("output_type", "pil") != "pil"):
            raise InputError("best_of and return_roundtrip: they look at pictures; leave output_type as it is")
        if best_of > 1:
            if counted not in known:
                raise InputError(f"best_of: {kind} draws one picture at a time")
            arguments[counted] = num = num * best_of
        call, turn = {"num": num, "guided": guided, "negative": negative}, getattr(self.pipe, self.host.scheduler)
        with one_at_a_time(turn), self.host.conditioned(self.pipe, rows, **call, **chosen) as wanted:
            if lost := [name for name in MODALITIES if name in known and name not in wanted.keys() | own.keys()]:
                raise InputError(f"{lost[0]}: {kind} begins with one of its own: host={{'{lost[0]}': ...}}")
            if taken := sorted(own.keys() & wanted.keys() - options):
                raise InputError(f"{taken[0]}: {kind} takes the embedding in its place")
            output = self.pipe(**_merged(arguments, wanted))
        if looks:
            whole = rows.mean(1) if rows.ndim == 3 else rows
            kept, output.roundtrip = self.nearest(output.images, whole, best_of)
            output.images = [output.images[i] for i in kept]
        return output

    def _options(self) -> set[str]:
        """What this host's ``conditioned`` takes beside what all do."""
        return set(inspect.signature(self.host.conditioned).parameters) - set(
            inspect.signature(Host.conditioned).parameters
        )

    def _negative(self) -> torch.Tensor:
        if self.adapter.negative is None:
            words = f"{self.slot.name}: wanted a vector to be guided away from, the adapter has none"
            raise HostError(f"{words}; bind2gen fit-map writes one with it, or take guidance_scale=1")
        return self.adapter.negative[None]

    def _several(self, image_embeds: Any, rescale: bool) -> torch.Tensor:
        if not isinstance(image_embeds, torch.Tensor) or image_embeds.ndim != 3:
            return self._direct(image_embeds, rescale)
        return self._direct(image_embeds.flatten(0, 1), rescale).unflatten(0, image_embeds.shape[:2])


def _merged(arguments: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The host's arguments over the caller's; of two mappings, such as ``cross_attention_kwargs``, both count."""
    both = {
        name: {**arguments[name], **value} for name, value in wanted.items()
        if isinstance(value, Mapping) and isinstance(arguments.get(name), Mapping)
    }  # fmt: skip
    return {**arguments, **wanted, **both}
