"""The encoder: six towers into one embedding space, as a transformers model."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from ..errors import ModalityError, ShapeError
from ..files import forking  # noqa: F401
from ..files.hub import HUB_OPTIONS
from ..files.weights import weights_beside
from ..modality import MODALITIES, clip_mask_key
from ..modality import modality as find_modality
from .agreement import build_on_meta, check_loaded, compare
from .config import ImageBindConfig, TowerConfig, read_config, tower_names
from .tower import Tower

MARKS = 8  # weights of a tower in the fingerprint
ROUNDING = 0.01  # relative, of these; bfloat16 rounds weights by up to 0.4 %


@dataclass
class ImageBindOutput(ModelOutput):
    """Unit-norm embeddings, (B, D) float32 each, of the modalities that were given."""

    text_embeds: torch.FloatTensor | None = None
    image_embeds: torch.FloatTensor | None = None
    video_embeds: torch.FloatTensor | None = None
    audio_embeds: torch.FloatTensor | None = None
    depth_embeds: torch.FloatTensor | None = None
    thermal_embeds: torch.FloatTensor | None = None
    imu_embeds: torch.FloatTensor | None = None


def marks(projection: torch.Tensor) -> list[float]:
    """Of a tower's projection (D, width) what its fingerprint holds: six digits outlast any dtype's rounding."""
    return [float(f"{x:.6g}") for x in projection[0, :MARKS].tolist()]


def same_towers(known: Mapping[str, Sequence[float]], found: Mapping[str, Sequence[float]]) -> list[bool]:
    """For each tower that two fingerprints share, whether it is the same but for rounding."""
    pairs = [(torch.tensor(known[name]), torch.tensor(found[name])) for name in known if name in found]
    return [torch.allclose(ours, theirs, rtol=ROUNDING, atol=1e-6) for ours, theirs in pairs]


class ImageBindModel(PreTrainedModel):
    """ImageBind's encoders with clean shapes (architecture: arXiv 2305.05665).

    Every input has an explicit clip axis S: (B, S, *sample). Embeddings are unit norm by default; the reference's
    per-modality factors are available as :meth:`logit_scale`, its exact output with ``reference_scale=True``.

    Args:
        config: sizes of the towers.
        modalities: build only the towers that these need, e.g. ``["audio"]``; default is ``config.modalities``.
    """

    config_class = ImageBindConfig
    base_model_prefix = "imagebind"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _supports_sdpa = True
    # In bfloat16 the factor exp(x) of text would be off by up to 1.6 %.
    _keep_in_fp32_modules_strict = ["log_logit_scale"]

    def __init__(self, config: ImageBindConfig, modalities: list[str] | None = None) -> None:
        config = copy.deepcopy(config)  # the caller may build another subset from the same one
        config.modalities = tower_names(config.modalities if modalities is None else modalities, tuple(config.towers))
        # A file may hold more towers than were asked for; those keys are left on disk without a word.
        unbuilt = [name for name in config.towers if name not in config.modalities]
        # What is saved later describes what is in that file.
        config.towers = {name: config.towers[name] for name in config.modalities}
        super().__init__(config)
        self.towers = nn.ModuleDict({name: Tower(config.tower(name), config.embed_dim) for name in config.modalities})
        self._keys_to_ignore_on_load_unexpected = [rf"^towers\.{name}\." for name in unbuilt]
        self.post_init()

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, **options: Any) -> ImageBindModel:
        """As transformers has it.

        Raises:
            CheckpointError: ``config.json`` describes no model, or another one than the weights beside it are of.
        """
        known = {name: options[name] for name in HUB_OPTIONS if options.get(name) is not None}
        replaced = options.keys() & {"state_dict", "ignore_mismatched_sizes", "variant"}
        if source is not None and not replaced and (weights := weights_beside(source, **known)) is not None:
            config = read_config(source, options.get("config"), known)
            network = build_on_meta(
                lambda: cls(config, options.get("modalities")), len(weights), config.to_dict(), weights.where
            )
            passed_over = re.compile("|".join(network._keys_to_ignore_on_load_unexpected) or "(?!)")
            kept = {key: weights[key] for key in weights if not passed_over.match(key)}
            compare(network.state_dict(), kept, weights.where)
        found = super().from_pretrained(source, *args, **options)
        if not options.keys() & {"state_dict", "ignore_mismatched_sizes"}:
            check_loaded(found[0] if isinstance(found, tuple) else found, str(source))
        return found

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            fan_in = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=fan_in**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Tower):
            nn.init.trunc_normal_(module.position_embedding, std=0.02)
            if module.class_token is not None:
                nn.init.trunc_normal_(module.class_token, std=0.02)
            if module.config.learned_logit_scale:
                nn.init.constant_(module.log_logit_scale, math.log(module.config.logit_scale))
        elif getattr(module, "bias_k", None) is not None:
            nn.init.xavier_normal_(module.bias_k)
            nn.init.xavier_normal_(module.bias_v)

    def tower(self, name: str) -> Tower:
        """The tower that encodes a modality.

        Raises:
            ModalityError: the modality is unknown, or this model was built without its tower.
        """
        wanted = find_modality(name).tower
        if wanted not in self.towers:
            built = ", ".join(self.towers)
            raise ModalityError(f"no {wanted} tower: this model was built for {built}; add {name!r} to modalities")
        return self.towers[wanted]

    def fingerprint(self) -> dict[str, list[float]]:
        """By tower the first few weights of its projection: tell encoders apart, in any dtype."""
        heads = {name: tower.head.projection.weight for name, tower in self.towers.items()}
        return {name: marks(weight) for name, weight in heads.items() if not weight.is_meta}  # offloaded: no values

    def logit_scale(self, modality: str) -> torch.Tensor:
        """The reference's factor on this modality's unit-norm embeddings (1/temperature of training); 1 for vision."""
        return self.tower(modality).logit_scale

    def encode(
        self,
        modality: str,
        x: torch.Tensor,
        *,
        clip_mask: torch.Tensor | None = None,
        reference_scale: bool = False,
        unit_norm: bool = True,
        pool: bool = True,
        batch_size: int | None = None,
    ) -> torch.Tensor:
        """Embed clips of one modality.

        Args:
            modality: ``"text"``, ``"image"``, ``"video"``, ``"audio"``, ``"depth"``, ``"thermal"`` or ``"imu"``.
            x: (B, S, *sample) on the model's device; S clips of each item are embedded and averaged. For the huge
                model a sample is text (77,) int, image (3, 224, 224) or (3, 2, 224, 224), audio (1, 128, 204),
                depth and thermal (1, 224, 224), imu (6, 2000).
            clip_mask: (B, S) bool, False for clips that only pad the batch.
            reference_scale: give the reference's own output: unit norm times :meth:`logit_scale`, clips averaged
                after scaling and not renormalised.
            unit_norm: with False the head's own output, clips averaged: images then have the length that generators
                know, which were trained on such vectors.
            pool: average the clips; with False the result is (B, S, D), one embedding a clip.
            batch_size: clips a forward pass, to bound memory; default is all at once.

        Returns:
            (B, D) float32; unit norm unless ``reference_scale`` or ``unit_norm`` say otherwise.

        Raises:
            ModalityError: no tower for the modality.
            ShapeError: ``x`` does not have the shape that the tower takes.
        """
        tower = self.tower(modality)
        x = self._checked(modality, tower.config, x)
        batch, clips = x.shape[:2]
        flat = x.flatten(0, 1)
        if tower.config.causal:
            flat = self._without_padding(flat)
        parts = [tower(part, unit_norm=unit_norm) for part in flat.split(batch_size or len(flat))]
        embeds = torch.cat(parts).unflatten(0, (batch, clips))
        if reference_scale:
            embeds = embeds * tower.logit_scale
        if not pool:
            return embeds
        if clip_mask is None:
            pooled = embeds.mean(1)
        else:
            weights = self._clip_weights(clip_mask, embeds)
            pooled = (embeds * weights).sum(1) / weights.sum(1)
        return F.normalize(pooled, dim=-1) if unit_norm and not reference_scale else pooled

    def forward(
        self, return_dict: bool | None = None, **inputs: torch.Tensor | None
    ) -> ImageBindOutput | tuple[Any, ...]:
        """Embed whatever the processor made: ``model(**processor(audio=..., text=...))``.

        Takes ``input_ids``, ``pixel_values``, ``video_values``, ``audio_values``, ``depth_values``,
        ``thermal_values``, ``imu_values``, each (B, S, *sample), and their ``*_clip_mask`` (B, S).
        """
        embeds: dict[str, torch.Tensor] = {}
        for kind in MODALITIES.values():
            mask = inputs.pop(clip_mask_key(kind), None)
            x = inputs.pop(kind.input_key, None)
            if x is not None:
                embeds[kind.embeds_key] = self.encode(kind.name, x, clip_mask=mask)
        if unknown := [name for name, value in inputs.items() if value is not None]:
            known = ", ".join(kind.input_key for kind in MODALITIES.values())
            raise ModalityError(f"unknown model inputs {sorted(unknown)}; known are {known}")
        if not embeds:
            known = ", ".join(kind.input_key for kind in MODALITIES.values())
            raise ModalityError(f"no input given; pass at least one of {known}")
        output = ImageBindOutput(**embeds)
        return output if return_dict is None or return_dict else output.to_tuple()

    # transformers' names, by which other libraries call a model

    def get_text_features(self, input_ids: torch.Tensor) -> torch.Tensor:
        """:meth:`encode` of what the processor makes of text."""
        return self.encode("text", input_ids)

    def get_image_features(
        self, pixel_values: torch.Tensor, pixel_clip_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """:meth:`encode` of what the processor makes of pictures."""
        return self.encode("image", pixel_values, clip_mask=pixel_clip_mask)

    def get_audio_features(
        self, audio_values: torch.Tensor, audio_clip_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """:meth:`encode` of what the processor makes of sounds."""
        return self.encode("audio", audio_values, clip_mask=audio_clip_mask)

    def get_video_features(
        self, video_values: torch.Tensor, video_clip_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """:meth:`encode` of what the processor makes of videos."""
        return self.encode("video", video_values, clip_mask=video_clip_mask)

    def _checked(self, modality: str, config: TowerConfig, x: torch.Tensor) -> torch.Tensor:
        """Check the shape, cast to the dtype of the weights."""
        shapes = [config.input_shape]
        if find_modality(modality).tower == "vision":
            channels, *size = config.input_shape
            shapes.append((channels, config.frames, *size))
        if not isinstance(x, torch.Tensor) or x.shape[2:] not in shapes or 0 in x.shape[:2]:
            wanted = " or ".join(str(("B", "S", *shape)).replace("'", "") for shape in shapes)
            came = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
            raise ShapeError(f"{modality}: wanted {wanted} with the clip axis S, got {came}")
        if config.causal:
            if x.dtype.is_floating_point or bool((x < 0).any()) or bool((x >= config.vocab_size).any()):
                came = f"{x.dtype} in {x.min()}..{x.max()}; is the processor this model's own?"
                raise ShapeError(f"text: wanted integer token ids in 0..{config.vocab_size - 1}, got {came}")
            return x.long()
        return x.to(self.dtype)

    @staticmethod
    def _clip_weights(clip_mask: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        """(B, S, 1) zeros and ones; every row has a clip that counts."""
        batch, clips = embeds.shape[:2]
        if clip_mask.shape != (batch, clips) or bool((clip_mask.sum(1) == 0).any()):
            came = tuple(clip_mask.shape)
            raise ShapeError(f"clip_mask: wanted ({batch}, {clips}) with a real clip in every row, got {came}")
        return clip_mask.to(embeds.device, torch.float32)[..., None]

    @staticmethod
    def _without_padding(ids: torch.Tensor) -> torch.Tensor:
        """Drop the columns after the last end-of-text: attention is causal, so nothing reads them."""
        return ids[:, : int(ids.argmax(dim=-1).max()) + 1]


AutoModel.register(ImageBindConfig, ImageBindModel, exist_ok=True)
