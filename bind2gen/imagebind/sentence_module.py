"""The encoder as sentence-transformers' first and only module: text, pictures, sounds and videos in one list.

``modules.json`` beside an encoder's weights names the class below, so that ``SentenceTransformer(FOLDER,
trust_remote_code=True)`` finds it; nothing else of bind2gen needs sentence-transformers. Modalities that it has no
word for (depth, thermal, motion) stay with :meth:`ImageBindModel.encode`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers.base.modality import infer_modality, is_message_dict
from sentence_transformers.base.modules import InputModule

from ..errors import InputError, ShapeError
from ..files.bundled import PROCESSOR_PART
from ..modality import MODALITIES, clip_mask_key
from .loading import load_imagebind, load_processor
from .model import ImageBindModel
from .processor import ImageBindProcessor

# Its trainer knows a column's features by the ends of transformers' names.
FEATURES = {"text": "input_ids", "image": "pixel_values", "audio": "input_features", "video": "pixel_values_videos"}
EMBEDDING = "sentence_embedding"


class ImageBindSentenceModule(InputModule):
    """Encoder and processor behind ``SentenceTransformer.encode``.

    An input is a string (the name of an existing sound, picture or film is that file), a PIL image, an array, what
    :class:`ImageBindProcessor` takes for a modality as ``{"audio": ...}``, or sentence-transformers' dicts of arrays.
    Of several things in one input (a dict of modalities, a tuple, a chat message's parts) the unit vectors are added,
    as the paper's arithmetic does, and the sum has unit norm.

    Args:
        model: the encoder, on any device.
        processor: its own.
    """

    def __init__(self, model: ImageBindModel, processor: ImageBindProcessor) -> None:
        super().__init__()
        self.model = model
        # Not "processor": the trainer of transformers would look for a tokenizer in it.
        self.front_ends = processor

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> ImageBindSentenceModule:
        """Called by sentence-transformers: a folder or hub id with an encoder of ours and its processor.

        Args:
            model_kwargs: ``dtype`` and ``modalities`` of :func:`load_imagebind`.

        Raises:
            CheckpointError, ModalityError: of :func:`load_imagebind` and :func:`load_processor`.
            InputError: ``model_kwargs`` holds anything else, or processor and model disagree.
        """
        options = dict(model_kwargs or {})
        if unknown := options.keys() - {"dtype", "modalities"}:
            raise InputError(f"model_kwargs: wanted dtype or modalities, got {', '.join(sorted(unknown))}")
        hub = dict(token=token, cache_folder=cache_folder, revision=revision, local_files_only=local_files_only)
        folder = cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub)
        model = load_imagebind(folder, **options)
        beside = cls.load_dir_path(model_name_or_path, subfolder=PROCESSOR_PART, **hub) if subfolder else folder
        processor = load_processor(beside)
        processor.check(model.config)
        return cls(model.eval(), processor)

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Encoder and processor in one folder, which ``from_pretrained`` of either loads, too."""
        self.model.save_pretrained(output_path)
        self.front_ends.save_pretrained(output_path)

    @property
    def modalities(self) -> list[str]:
        """What sentence-transformers calls modalities; ``"message"`` stands for inputs of several of them."""
        kinds = [name for name in FEATURES if MODALITIES[name].tower in self.model.towers]
        return [*kinds, "message"]

    def get_embedding_dimension(self) -> int:
        return self.model.config.embed_dim

    @property
    def max_seq_length(self) -> int:
        return self.front_ends.text.context_length

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        processing_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Inputs to tensors by modality, with the rows of the batch that they belong to where not one after the other.

        Args:
            prompt: put before every text.
            processing_kwargs: ``{"audio": {"sampling_rate": Hz}}``, of sounds given as mere arrays.
        """
        found: dict[str, list[tuple[int, Any]]] = {}
        for row, item in enumerate(inputs):
            for kind, part in self._parts(item):
                found.setdefault(kind, []).append((row, prompt + part if prompt and kind == "text" else part))
        rate = (processing_kwargs or {}).get("audio", {}).get("sampling_rate")
        features: dict[str, Any] = {}
        for kind, parts in found.items():
            rows = [row for row, _ in parts]
            made = self.front_ends(**{kind: [part for _, part in parts]}, sampling_rate=rate)
            features[FEATURES[kind]] = made[MODALITIES[kind].input_key]
            if (mask := made.get(clip_mask_key(MODALITIES[kind]))) is not None:
                features[f"{kind}_mask"] = mask
            if rows != list(range(len(inputs))):
                features |= {f"{kind}_rows": torch.tensor(rows), "count": len(inputs)}
        return features

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding``, (B, D) float32 of unit norm.

        Raises:
            ShapeError: a training batch holds inputs of several modalities, which its losses would cut apart.
        """
        given = [kind for kind, key in FEATURES.items() if key in features]
        embeds = [self._embedded(kind, features) for kind in given]
        places = [features.get(f"{kind}_rows") for kind in given]
        if self.training and "count" in features:
            raise ShapeError("training: wanted one modality a column, or the same ones in all of its inputs; got a mix")
        if len(given) == 1 and places[0] is None:
            return features | {EMBEDDING: embeds[0]}
        total = torch.zeros(features.get("count", len(embeds[0])), embeds[0].shape[1], device=embeds[0].device)
        for vectors, rows in zip(embeds, places, strict=True):
            total = total + vectors if rows is None else total.index_add(0, rows, vectors)
        return features | {EMBEDDING: F.normalize(total, dim=-1)}

    def _embedded(self, kind: str, features: Mapping[str, Any]) -> torch.Tensor:
        names = {MODALITIES[kind].input_key: FEATURES[kind], clip_mask_key(MODALITIES[kind]): f"{kind}_mask"}
        given = {name: features[key] for name, key in names.items() if key in features}
        return getattr(self.model, f"get_{kind}_features")(**given)

    def _parts(self, item: Any) -> Iterator[tuple[str, Any]]:
        """Modality and raw input of each thing in one input."""
        if is_message_dict(item):
            content = item["content"]
            yield from self._parts([content] if isinstance(content, str) else [_named(part) for part in content])
        elif isinstance(item, list | tuple):
            for part in item:
                yield from self._parts(part)
        elif isinstance(item, Mapping) and "array" not in item:
            kinds = infer_modality(item)  # refuses other names
            for kind in [kinds] if isinstance(kinds, str) else kinds:
                values = item[kind] if isinstance(item[kind], list) else [item[kind]]
                yield from ((kind, _raw(kind, value)) for value in values)
        else:
            item = os.fspath(item) if isinstance(item, os.PathLike) else item
            kind = infer_modality(item, self.modalities)
            yield kind, _raw(kind, item)


def _named(part: Any) -> Any:
    """A part of a chat message, ``{"type": "image", "image": ...}``, as ``{"image": ...}``."""
    if isinstance(part, str):
        return part
    if part.get("type") not in part:
        raise InputError(f"part of a message: wanted {{'type': KIND, KIND: input}}, got {sorted(part)}")
    return {part["type"]: part[part["type"]]}


def _raw(kind: str, value: Any) -> Any:
    """sentence-transformers' films, {"array", "video_metadata"}, as ours: (frames, frames a second)."""
    if kind == "video" and isinstance(value, Mapping) and "array" in value:
        return value["array"], (value.get("video_metadata") or {}).get("fps")
    return value
