"""Detectors behind any route from prompts to their class vectors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hosts.boxes.rescoring import RescoringDetector, RescoringSettings
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..space.class_map import ClassMap
from ..space.everyday import EVERYDAY_WORDS
from ..space.vocabulary import Vocabulary, read_names
from .calibration import Calibration
from .class_prompts import ClassPrompter
from .detection import ImageBindDetectionPipeline

if TYPE_CHECKING:
    from ..hosts.boxes.detections import Detector
    from ..space.adapter import EmbeddingAdapter

RESCORING_THRESHOLD = 0.4  # with encoders in whose folder none was measured

Source = str | os.PathLike[str]


def prompted_by_words(
    detector: Detector, encoder: ImageBindModel, processor: ImageBindProcessor, vocabulary: Source,
    *, adapter: EmbeddingAdapter | None = None,
) -> ImageBindDetectionPipeline:  # fmt: skip
    """A detector whose class vectors are known for many words: a prompt is the mean of those nearest to it.

    Args:
        vocabulary: class vectors of words (.npy, .npz); of a detector with a text tower also names, one a line.
    """
    own_text = getattr(detector, "embed_text", None)
    if Path(vocabulary).suffix.lower() in (".npy", ".npz") or own_text is None:
        words = Vocabulary.from_file(vocabulary)
    else:
        words = Vocabulary.from_texts(read_names(vocabulary), own_text, source=Path(vocabulary).name)
    prompter = ClassPrompter(encoder, processor, route="words", vocabulary=words, adapter=adapter)
    return ImageBindDetectionPipeline(detector, prompter)


def prompted_by_map(
    detector: Detector, encoder: ImageBindModel, processor: ImageBindProcessor, class_map: Source
) -> ImageBindDetectionPipeline:
    """A detector whose class vectors a learned map makes of embeddings.

    Args:
        class_map: folder that ``bind2gen fit-class-map`` wrote.
    """
    learned = ClassMap.from_pretrained(class_map)
    return ImageBindDetectionPipeline(detector, ClassPrompter(encoder, processor, route="map", class_map=learned))


def rescored(
    detector: Any, encoder: ImageBindModel, processor: ImageBindProcessor,
    *, adapter: EmbeddingAdapter | None = None, nothing: Vocabulary | None = None,
    calibration: Calibration | None = None,
) -> ImageBindDetectionPipeline:  # fmt: skip
    """A detector whose boxes are cut out and scored anew by the encoder.

    Args:
        detector: or what proposes boxes.
        nothing: embeddings of sounds that no thing makes, see ``ClassPrompter``.
        calibration: what was measured of this encoder; default is a threshold of 0.4.
    """
    prompter = ClassPrompter(encoder, processor, route="rescoring", adapter=adapter, nothing=nothing)
    # What a cut-out may be besides: as CLIP names pictures, by a softmax over many words with the learned scale.
    background = prompter.class_embeddings(text=[f"a {word}" for word in EVERYDAY_WORDS]).embeds
    scale = float(encoder.logit_scale("text").detach())
    rescoring = RescoringDetector(
        detector,
        lambda crops: encoder.encode("image", processor(images=crops, device=encoder.device)["pixel_values"]),
        embed_dim=encoder.config.embed_dim,
        background=background,
        settings=RescoringSettings(temperature=1 / scale),
    )
    return ImageBindDetectionPipeline(
        rescoring, prompter, calibration=calibration or Calibration(threshold=RESCORING_THRESHOLD)
    )
