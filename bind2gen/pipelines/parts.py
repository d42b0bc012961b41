"""Which parts belong together: a host, an encoder, its processor, and the adapter that was measured on both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import copy
from pathlib import Path

from ..files.bundled import ADAPTER_PART, ENCODER_PART
from ..files.hub import pipeline_index, saved_file
from ..imagebind.model import ImageBindModel
from ..space.adapter import GUIDANCE, EmbeddingAdapter

OF_THE_HOST = (*GUIDANCE, "norm")  # what an adapter's config says of the host, whatever the encoder

Source = str | os.PathLike[str]


def saved_adapter(source: Source) -> EmbeddingAdapter | None:
    """The adapter of a pipeline or encoder (folder, file or hub id), in the folder of that name; None without one.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    folder = Path(source).parent if Path(source).is_file() else source
    if saved_file(folder, f"{ADAPTER_PART}/config.json") is None:
        return None
    adapter = load_adapter(folder, ADAPTER_PART)
    # Of pipelines that were saved before the adapter carried these, the index and the encoder itself tell.
    values = pipeline_index(folder) or {}
    adapter.register_to_config(**{name: values[name] for name in GUIDANCE if name in values})
    if adapter.config.encoder is None and values:
        adapter.claim(ImageBindModel.from_pretrained(folder, subfolder=ENCODER_PART))
    return adapter


def load_adapter(folder: Source, part: str = "") -> EmbeddingAdapter:
    """The adapter in a folder or hub id, or in the subfolder ``part`` of it.

    Raises:
        CheckpointError: there is none, or it cannot be loaded.
    """
    return EmbeddingAdapter.from_pretrained(folder, subfolder=part or None)


def fitting_adapter(
    encoder: ImageBindModel, own: EmbeddingAdapter | None, source: ImageBindModel | Source
) -> EmbeddingAdapter:
    """The host's own adapter if it is this encoder's too, else the one beside the encoder, else one without means.

    Args:
        own: of the host, where it has one.
        source: from where the encoder was loaded.
    """
    if own is not None and own.fits(encoder):
        return own
    place = source.name_or_path if isinstance(source, ImageBindModel) else source
    found = saved_adapter(place) if str(place) else None
    # One with anchors or a last map is another host's.
    others = found is not None and (found.config.num_anchors or found.config.target_dim)
    if found is None or others or (found.config.encoder and not found.fits(encoder)):
        found = EmbeddingAdapter(encoder.config.embed_dim)
    # Guidance is that of a host that it was saved with; the length is of the encoder's own image vectors, and counts
    # where the host has not said its own.
    found.register_to_config(**dict.fromkeys(GUIDANCE))
    return with_facts(found, {name: own.config[name] for name in OF_THE_HOST} if own is not None else {})


def of_host(adapter: EmbeddingAdapter, own: EmbeddingAdapter | None) -> EmbeddingAdapter:
    """``adapter`` with what it does not know of the host from the host's ``own``."""
    unknown = [name for name in OF_THE_HOST if own is not None and adapter.config[name] is None]
    return with_facts(adapter, {name: own.config[name] for name in unknown})


def with_facts(adapter: EmbeddingAdapter, facts: Mapping[str, float | None]) -> EmbeddingAdapter:
    """``adapter`` with ``facts`` in its config, those that are None left out; shares the tensors with the one given.

    That one stays as it is: it may be another pipeline's.
    """
    new = {name: value for name, value in facts.items() if value not in (None, adapter.config[name])}
    if new:
        adapter = copy(adapter)
        adapter.register_to_config(**new)
    return adapter
