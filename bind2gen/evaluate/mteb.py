"""The encoder on mteb (pip install "bind2gen[mteb]"), the field's harness of embedding benchmarks.

``mteb.get_model("bind2gen/mini")`` knows it once bind2gen is imported, in either order: ``imagebind/auto_classes.py``
has this module imported when mteb's list of models is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Audio, Dataset, Video
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_implementations import MODEL_REGISTRY
from mteb.models.model_meta import ModelMeta, ScoringFunction
from sentence_transformers.util import batch_to_device
from tqdm.auto import tqdm

from .. import __version__
from ..errors import ModalityError
from ..files.bundled import ENCODER_PART, bundled_path
from ..imagebind.loading import load_imagebind, load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.sentence_module import EMBEDDING, FEATURES, ImageBindSentenceModule

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

MINI, HUGE = "bind2gen/mini", "bind2gen/imagebind-huge"
RELEASED = "nielsr/imagebind-huge"  # hub id of the released weights
# mteb's names of tasks whose data, or a part of it, a model was trained on.
ESC = ("ESC50", "ESC50AudioReranking", "ESC50Clustering", "ESC50PairClassification", "ESC50_Zeroshot")
URBAN = (
    "UrbanSound8KA2TRetrieval", "UrbanSound8KAudioReranking", "UrbanSound8KT2ARetrieval", "UrbanSound8k",
    "UrbanSound8kClustering", "UrbanSound8kZeroshot",
)  # fmt: skip
PHOTOS = ("Caltech101", "Caltech101ZeroShot", "TinyImageNetClustering")
TRAINED_ON = {MINI: {*ESC, *URBAN, *PHOTOS}, HUGE: {"AudioSet", "AudioSetMini"}}


class _Meta(ModelMeta):
    def _resolve_extras_groups(self) -> list[str]:
        return []  # mteb asks for torchcodec wherever there are sounds or films; our own readers do without


class ImageBindEncoder(AbsEncoder):
    """Text, pictures, sounds, films, and sums of unit vectors where a task gives several of an item.

    Files are read by our own front ends, with their clips and crops; mteb's collators, and torchcodec, are not used.

    Args:
        model: the encoder, on its device, in its dtype.
        processor: its own.
        meta: what mteb is to know of it; the default has modalities and width alone.
    """

    def __init__(self, model: ImageBindModel, processor: ImageBindProcessor, meta: ModelMeta | None = None) -> None:
        self.module = ImageBindSentenceModule(model.eval(), processor)
        kinds = [kind for kind in self.module.modalities if kind in FEATURES]
        self.mteb_model_meta = meta or describe("bind2gen/encoder", kinds, embed_dim=model.config.embed_dim)

    @torch.inference_mode()
    def encode(self, inputs: DataLoader, *, show_progress_bar: bool = False, **_: Any) -> np.ndarray:
        """Called by tasks.

        Args:
            inputs: over a :class:`datasets.Dataset` with columns named after modalities; an item may lack some.

        Returns:
            (N, D) float32, of unit norm.

        Raises:
            ModalityError: no column is of a modality that the model has a tower for.
            InputError: an item cannot be read.
        """
        data = _undecoded(inputs.dataset)
        kinds = [kind for kind in FEATURES if kind in data.column_names and kind in self.module.modalities]
        if not kinds:
            raise ModalityError(f"wanted a column of {', '.join(self.module.modalities)}, got {data.column_names}")
        data, found, size = data.select_columns(kinds), [], inputs.batch_size or 1
        for batch in tqdm(data.iter(size), total=-(-len(data) // size), disable=not show_progress_bar, leave=False):
            columns = [[(kind, value) for value in batch[kind]] for kind in kinds]
            items = [{kind: value for kind, value in row if value is not None} for row in zip(*columns, strict=True)]
            features = batch_to_device(self.module.preprocess(items), self.module.model.device)
            found.append(self.module(features)[EMBEDDING].float().cpu())
        return torch.cat(found).numpy()


def load(
    name: str,
    revision: str | None = None,
    device: str | None = None,
    *,
    source: str | os.PathLike[str] | None = None,
    dtype: torch.dtype | None = None,
    **_: Any,
) -> ImageBindEncoder:
    """``mteb.get_model``'s loader.

    Args:
        device: default is cuda, mps or cpu, the first there is.
        source: our folder, released weights or hub id; default is the bundled model, or :data:`RELEASED`.
    """
    place = source or (bundled_path("mini") / ENCODER_PART if name == MINI else RELEASED)
    model = load_imagebind(place, modalities=list(FEATURES), dtype=dtype)
    backends = {"cuda": torch.cuda, "mps": torch.backends.mps}
    there = next((kind for kind, backend in backends.items() if backend.is_available()), "cpu")
    return ImageBindEncoder(model.to(device or there), load_processor(place), MODEL_REGISTRY.get(name))


def describe(name: str, modalities: list[str], **known: Any) -> ModelMeta:
    """What mteb keeps of a model; what is not ``known`` is None."""
    unknown = dict.fromkeys(
        ("release_date", "n_parameters", "memory_usage_mb", "max_tokens", "embed_dim", "license", "open_weights",
         "public_training_code", "public_training_data", "use_instructions", "training_datasets")
    )  # fmt: skip
    fixed = dict(
        loader=load, name=name, revision=__version__, modalities=modalities, languages=["eng-Latn"],
        framework=["PyTorch", "Sentence Transformers"], similarity_fn_name=ScoringFunction.COSINE,
    )  # fmt: skip
    return _Meta(**unknown | fixed | known)


def register() -> None:
    """Add our models to those that mteb knows by name."""
    shared = dict(open_weights=True, use_instructions=False)
    sizes = {
        MINI: dict(n_parameters=18_776_389, n_embedding_parameters=5_120_768, memory_usage_mb=72, max_tokens=32,
                   embed_dim=256, license="not specified"),
        HUGE: dict(n_parameters=1_200_781_057, n_embedding_parameters=50_593_792, memory_usage_mb=4581, max_tokens=77,
                   embed_dim=1024, license="cc-by-nc-sa-4.0", release_date="2023-05-09",
                   reference="https://huggingface.co/nielsr/imagebind-huge"),
    }  # fmt: skip
    for name, known in sizes.items():
        MODEL_REGISTRY[name] = describe(name, list(FEATURES), **shared, training_datasets=TRAINED_ON[name], **known)


def _undecoded(data: Dataset) -> Dataset:
    """Sounds and films as the files that they lie in."""
    for name, feature in data.features.items():
        if isinstance(feature, Audio | Video):
            data = data.cast_column(name, type(feature)(decode=False))
    return data


register()
