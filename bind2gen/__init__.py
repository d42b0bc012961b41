"""bind2gen: one embedding space for text, pictures, video and sound (ImageBind), and generators and detectors
driven by it.

The names below load on first use (PEP 562), so that ``import bind2gen`` and the command line's help need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import auto_classes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .adapter import EmbeddingAdapter
    from .arithmetic import blend, gap_shift, match_norm, normalize, slerp, subtract
    from .bundled import bundled_path
    from .class_prompts import ClassPrompter
    from .detection import ImageBindDetectionPipeline
    from .errors import Bind2GenError, Bind2GenWarning
    from .hosts.detection_drawing import draw_detections
    from .hosts.detections import Detections
    from .hosts.detic.detector import DeticDetector
    from .hosts.owl import OwlDetector
    from .imagebind.checkpoint import convert_checkpoint, load_official_checkpoint
    from .imagebind.config import HUGE, TINY, ImageBindConfig
    from .imagebind.model import ImageBindModel, ImageBindOutput
    from .imagebind.processor import ImageBindProcessor
    from .modality import MODALITIES
    from .pipeline import ImageBindUnCLIPPipeline
    from .retrieval.index import EmbeddingIndex
    from .timeline import embed_timeline

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
    "ImageBindConfig",
    "ImageBindDetectionPipeline",
    "ImageBindModel",
    "ImageBindOutput",
    "ImageBindProcessor",
    "ImageBindUnCLIPPipeline",
    "OwlDetector",
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
    "ClassPrompter": "class_prompts",
    "Detections": "hosts.detections",
    "DeticDetector": "hosts.detic.detector",
    "EmbeddingAdapter": "adapter",
    "EmbeddingIndex": "retrieval.index",
    "ImageBindConfig": "imagebind.config",
    "ImageBindDetectionPipeline": "detection",
    "ImageBindModel": "imagebind.model",
    "ImageBindOutput": "imagebind.model",
    "ImageBindProcessor": "imagebind.processor",
    "ImageBindUnCLIPPipeline": "pipeline",
    "OwlDetector": "hosts.owl",
    "blend": "arithmetic",
    "bundled_path": "bundled",
    "convert_checkpoint": "imagebind.checkpoint",
    "draw_detections": "hosts.detection_drawing",
    "embed_timeline": "timeline",
    "gap_shift": "arithmetic",
    "load_official_checkpoint": "imagebind.checkpoint",
    "match_norm": "arithmetic",
    "normalize": "arithmetic",
    "slerp": "arithmetic",
    "subtract": "arithmetic",
}

# diffusers loads components given as ["bind2gen", class] only if the package also shows their base classes.
_BASES: dict[str, str] = {
    "ModelMixin": "diffusers",
    "PreTrainedModel": "transformers",
    "ProcessorMixin": "transformers",
}
_PARTS: dict[str, str] = {  # found by diffusers, not meant for users
    "FeatureAutoencoder": "hosts.feature_autoencoder",
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
