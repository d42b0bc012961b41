"""bind2gen: one embedding space for text, pictures, video and sound (ImageBind), and generators and detectors
driven by it.

The names below load on first use (PEP 562), so that ``import bind2gen`` and the command line's help need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .imagebind import auto_classes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import Bind2GenError, Bind2GenWarning
    from .files.bundled import bundled_path
    from .hosts.boxes.detections import Detections
    from .hosts.boxes.detic.detector import DeticDetector
    from .hosts.boxes.drawing import draw_detections
    from .hosts.boxes.owl import OwlDetector
    from .imagebind.checkpoint import convert_checkpoint, load_official_checkpoint
    from .imagebind.config import HUGE, TINY, ImageBindConfig
    from .imagebind.model import ImageBindModel, ImageBindOutput
    from .imagebind.processor import ImageBindProcessor
    from .imagebind.timeline import embed_timeline
    from .modality import MODALITIES
    from .pipelines.binding import bind
    from .pipelines.class_prompts import ClassPrompter
    from .pipelines.detection import ImageBindDetectionPipeline
    from .pipelines.unclip import ImageBindUnCLIPPipeline
    from .space.adapter import EmbeddingAdapter
    from .space.arithmetic import blend, gap_shift, match_norm, normalize, slerp, subtract
    from .space.index import EmbeddingIndex
    from .store.store import EmbeddingStore

__all__ = [
    "HUGE",
    "MODALITIES",
    "TINY",
    "Bind2GenError",
    "Bind2GenWarning",
    "ClassPrompter",
    "Detections",
    "DeticDetector",
    "EmbeddingAdapter",
    "EmbeddingIndex",
    "EmbeddingStore",
    "ImageBindConfig",
    "ImageBindDetectionPipeline",
    "ImageBindModel",
    "ImageBindOutput",
    "ImageBindProcessor",
    "ImageBindUnCLIPPipeline",
    "OwlDetector",
    "bind",
    "blend",
    "bundled_path",
    "convert_checkpoint",
    "draw_detections",
    "embed_timeline",
    "gap_shift",
    "load_official_checkpoint",
    "match_norm",
    "normalize",
    "slerp",
    "subtract",
]

_HOMES: dict[str, str] = {  # public name -> the module that defines it
    "HUGE": "imagebind.config",
    "MODALITIES": "modality",
    "TINY": "imagebind.config",
    "Bind2GenError": "errors",
    "Bind2GenWarning": "errors",
    "ClassPrompter": "pipelines.class_prompts",
    "Detections": "hosts.boxes.detections",
    "DeticDetector": "hosts.boxes.detic.detector",
    "EmbeddingAdapter": "space.adapter",
    "EmbeddingIndex": "space.index",
    "EmbeddingStore": "store.store",
    "ImageBindConfig": "imagebind.config",
    "ImageBindDetectionPipeline": "pipelines.detection",
    "ImageBindModel": "imagebind.model",
    "ImageBindOutput": "imagebind.model",
    "ImageBindProcessor": "imagebind.processor",
    "ImageBindUnCLIPPipeline": "pipelines.unclip",
    "OwlDetector": "hosts.boxes.owl",
    "bind": "pipelines.binding",
    "blend": "space.arithmetic",
    "bundled_path": "files.bundled",
    "convert_checkpoint": "imagebind.checkpoint",
    "draw_detections": "hosts.boxes.drawing",
    "embed_timeline": "imagebind.timeline",
    "gap_shift": "space.arithmetic",
    "load_official_checkpoint": "imagebind.checkpoint",
    "match_norm": "space.arithmetic",
    "normalize": "space.arithmetic",
    "slerp": "space.arithmetic",
    "subtract": "space.arithmetic",
}

# diffusers loads components given as ["bind2gen", class] only if the package also shows their base classes.
_BASES: dict[str, str] = {
    "ModelMixin": "diffusers",
    "PreTrainedModel": "transformers",
    "ProcessorMixin": "transformers",
}
_PARTS: dict[str, str] = {  # found by diffusers, not meant for users
    "FeatureAutoencoder": "hosts.pictures.feature_autoencoder",
}


auto_classes.install()


def __getattr__(name: str) -> Any:
    if name in _BASES:
        return getattr(importlib.import_module(_BASES[name]), name)
    home = _HOMES.get(name) or _PARTS.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
