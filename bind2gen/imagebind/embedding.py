"""Raw inputs of any modality straight to embeddings: processor and encoder in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import Bind2GenWarning, ModalityError, did_you_mean
from ..modality import MODALITIES, clip_mask_key
from .model import ImageBindModel
from .processor import ImageBindProcessor


@torch.no_grad()
def embed_inputs(
    encoder: ImageBindModel,
    processor: ImageBindProcessor,
    inputs: Mapping[str, Any],
    *,
    sampling_rate: float | None = None,
    device: torch.device | None = None,
    name: str = "encoder",
) -> dict[str, torch.Tensor]:
    """Raw inputs, modality -> one or a list, to (N, D) unit norm float32 embeddings.

    Args:
        sampling_rate: Hz, of sounds given as arrays without a rate.
        device: where the encoder computes; default is where its weights are, which is not so under offloading.
        name: what the caller knows the encoder as, for the warning that it is in training mode.

    Raises:
        ModalityError: an unknown modality, or one without a tower.
        InputError: an input cannot be read.
    """
    if unknown := [modality for modality in inputs if modality not in MODALITIES]:
        hint = did_you_mean(unknown[0], MODALITIES, "{}=")
        raise ModalityError(f"{', '.join(unknown)}: no such modality; known are {', '.join(MODALITIES)}{hint}")
    for modality in inputs:
        encoder.tower(modality)  # refused before the inputs are read
    if encoder.training:
        words = f"{name} is in training mode, its embeddings are partly random; call {name}.eval()"
        warnings.warn(words, Bind2GenWarning, stacklevel=3)
    output = encoder(**processor(**inputs, sampling_rate=sampling_rate, device=device or encoder.device))
    return {modality: output[MODALITIES[modality].embeds_key] for modality in inputs}


@torch.no_grad()
def encode_inputs(
    encoder: ImageBindModel, processor: ImageBindProcessor, modality: str, inputs: list[Any], **options: Any
) -> torch.Tensor:
    """Raw inputs of one modality to (N, D) float32, not of unit norm where ``options`` say so.

    Args:
        options: of :meth:`ImageBindModel.encode`.

    Raises:
        InputError: an input cannot be read.
    """
    kind, features = MODALITIES[modality], processor(**{modality: inputs}, device=encoder.device)
    mask = features.get(clip_mask_key(kind))
    return encoder.encode(modality, features[kind.input_key], clip_mask=mask, **options)
