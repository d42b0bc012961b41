"""LanceDB's registry of embedding functions finds us: ``get_registry().get("bind2gen")``.

With it LanceDB embeds what it is asked by itself, on our tables and on others: ``table.search("a dog")``,
``table.search("bark.wav")``, ``table.search(Image.open("dog.jpg"))``.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from lancedb.embeddings import EmbeddingFunction, register
from PIL.Image import Image
from pydantic import PrivateAttr

from ..errors import InputError
from .contents import recognise
from .encoder import Encoder
from .places import Part, moved

NAME = "bind2gen"


@register(NAME)
class Bind2GenEmbeddings(EmbeddingFunction):
    """Words, pictures, and files of sounds, pictures and films, to where ``target`` lies.

    Attributes:
        model, imagebind: of :meth:`bind2gen.store.encoder.Encoder.load`.
        device: where it computes.
        target: modality of the rows that queries are to find; they are moved over the gap to it.
    """

    model: str = "mini"
    imagebind: str | None = None
    device: str = "cpu"
    target: str = "image"
    max_retries: int = 0  # what cannot be read once cannot be read seven times
    _encoder: Encoder | None = PrivateAttr(default=None)

    def ndims(self) -> int:
        return self._loaded().model.config.embed_dim

    def compute_query_embeddings(self, query: Any, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """(1, D) of one query: a picture, a file that is there, or words."""
        modality, raw = _meant(query)
        vector = self._loaded().embed(modality, [raw])[0]
        return [moved(Part(modality, vector), self.target, self._loaded().adapter).numpy()]

    def compute_source_embeddings(self, inputs: Any, *args: Any, **kwargs: Any) -> list[np.ndarray]:
        """(N, D) of rows, each as it is: no row is moved over the gap."""
        return [self._loaded().embed(*_alone(_meant(one)))[0].numpy() for one in self.sanitize_input(inputs)]

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            self._encoder = Encoder.load(self.model, self.imagebind, device=self.device)
        return self._encoder


def _alone(meant: tuple[str, Any]) -> tuple[str, list[Any]]:
    return meant[0], [meant[1]]


def _meant(value: Any) -> tuple[str, Any]:
    """Modality and raw input."""
    if isinstance(value, Image | np.ndarray):
        return "image", value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"query: wanted words, a file or a picture, got {type(value).__name__}")
    if os.path.isfile(value):
        content = recognise(os.fspath(value))
        return {"picture": "image", "film": "video", "sound": "audio"}.get(content.kind, "text"), value
    return "text", value
