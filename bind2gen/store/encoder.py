"""The encoder of a store, its front ends and its way over the modality gap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files.bundled import ENCODER_PART, bundled_names, bundled_path
from ..files.hub import INDEX, saved_file
from ..imagebind.embedding import embed_inputs
from ..imagebind.loading import load_imagebind, load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipelines.parts import fitting_adapter, saved_adapter
from ..space.adapter import EmbeddingAdapter


@dataclass(frozen=True)
class Encoder:
    """What embeds the files of a store and the queries to it."""

    model: ImageBindModel
    processor: ImageBindProcessor
    adapter: EmbeddingAdapter

    @classmethod
    def of(cls, model: ImageBindModel, processor: ImageBindProcessor, source: str | Path) -> Encoder:
        """With the adapter of the pipeline ``source``, if it is this encoder's, or the one beside the encoder."""
        whole = saved_file(source, INDEX) is not None
        return cls(model, processor, fitting_adapter(model, saved_adapter(source) if whole else None, model))

    @classmethod
    def load(
        cls, model: str = "mini", imagebind: str | None = None, *, modalities: list[str] | None = None,
        device: str | torch.device = "cpu", dtype: torch.dtype | None = None,
    ) -> Encoder:  # fmt: skip
        """Read it.

        Args:
            model: a bundled name, or a pipeline's folder.
            imagebind: an encoder to take instead of the pipeline's own.
            modalities: whose towers are wanted; None is all.

        Raises:
            Bind2GenError: it cannot be loaded.
        """
        source = bundled_path(model) if model in bundled_names() else Path(model)
        place = source / ENCODER_PART if imagebind is None else imagebind
        loaded = load_imagebind(place, modalities=modalities, dtype=dtype)
        return cls.of(loaded.to(device).eval(), load_processor(place), source if imagebind is None else place)

    def embed(self, modality: str, inputs: list[Any]) -> torch.Tensor:
        """(N, D) unit norm float32 on the CPU, of N raw inputs."""
        return embed_inputs(self.model, self.processor, {modality: inputs})[modality].cpu()
