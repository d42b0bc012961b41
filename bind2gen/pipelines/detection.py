"""Boxes around what is heard (or said, seen, sensed): a detector whose classes are prompts of any modality."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import torch

from ..errors import CheckpointError, HostError, InputError, did_you_mean
from ..files.bundled import DETECTOR_PART, bundled_path
from ..hosts.boxes.detections import Detections, Detector
from ..hosts.boxes.loading import load_detector
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.timeline import embed_timeline
from ..preprocess.films import frames_of
from ..preprocess.image import upright
from ..space.adapter import EmbeddingAdapter
from ..space.vocabulary import Vocabulary
from ..space.zero_shot import ZeroShotClassifier, pair_scale
from .calibration import SETTINGS, Calibration
from .class_prompts import ClassPrompter
from .class_vectors import ClassPrompts

if TYPE_CHECKING:
    from collections.abc import Sequence

CLASSES_FILE = "classes.npz"  # in it: the words that it was trained with, and its own class vectors of them
# With the encoder's embeddings: these words again, and sounds that no thing makes.
WORDS_FILE, NOTHING_FILE = "words.npz", "nothing.npz"
SOUNDS_FILE, OTHERS_FILE = "sounds.npz", "other_sounds.npz"  # what is known by its sound; what else may be heard
OF_PROMPTS = (CLASSES_FILE, WORDS_FILE, NOTHING_FILE)
SCORES_FILE = "scores.json"  # what it was measured to find
DEFAULT_THRESHOLD = 0.5  # Detic's demo
ARGUMENTS = tuple(signature(ClassPrompter.class_embeddings).parameters)[1:]  # without self


class Heard(NamedTuple):
    """What one window of a sound finds in a picture: its start and end in seconds, and the boxes."""

    start: float
    end: float
    detections: Detections


class Frame(NamedTuple):
    """What is found in one frame of a video, at ``time`` seconds."""

    time: float
    detections: Detections


class ImageBindDetectionPipeline:
    """Prompts of any modality, a picture, boxes.

    Args:
        detector: any :class:`~bind2gen.hosts.boxes.detections.Detector`.
        prompter: makes class vectors of the detector's width.
        calibration: when to draw no box; default is a threshold of 0.5.

    Raises:
        HostError: the detector takes vectors of another width than the prompter's joint space, where that is its route.
    """

    def __init__(self, detector: Detector, prompter: ClassPrompter, *, calibration: Calibration | None = None) -> None:
        width = prompter.encoder.config.embed_dim
        if prompter.route in ("joint", "rescoring") and detector.embed_dim != width:
            raise HostError(
                f"detector: takes class vectors of width {detector.embed_dim}, the encoder's are {width} wide; "
                "use the route map or words"
            )
        self.detector, self.prompter = detector, prompter
        self.calibration = calibration or Calibration(threshold=DEFAULT_THRESHOLD)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        modalities: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> ImageBindDetectionPipeline:
        """Load a pipeline folder that has a detector of its own.

        Where the folder holds the detector's class vectors of the words that it was trained with, prompts go by way of
        the nearest of them (route ``words``). Without them the detector must have been trained in the encoder's space,
        and takes embeddings as they are there (``joint``).

        Args:
            source: default is the bundled model.
            modalities: build and load only these towers, and the image tower never unless it is named.
            dtype: of the detector; prompts are embedded in float32.

        Raises:
            CheckpointError: the folder has no detector.
        """
        folder = bundled_path() if source is None else Path(source)
        if not (folder / DETECTOR_PART).is_dir():
            raise CheckpointError(
                f"{source or folder.name}: wanted a folder with {DETECTOR_PART}/ in it, found none; for Detic or OWL "
                "build the pipeline from its parts: ImageBindDetectionPipeline(detector, prompter)"
            )
        towers = None if modalities is None else list(modalities)
        encoder = ImageBindModel.from_pretrained(
            folder, subfolder="imagebind", modalities=towers, dtype=torch.float32
        ).to(device)
        part = folder / DETECTOR_PART
        known = own_calibration(part)
        prompter = own_prompter(
            encoder.eval(),
            ImageBindProcessor.from_pretrained(folder, subfolder="processor"),
            EmbeddingAdapter.from_pretrained(folder / "adapter").float(),
            part,
        )
        return cls(load_detector(part, device=device, dtype=dtype), prompter, calibration=known)

    def encode_image(self, image: Any) -> Any:
        """All that does not depend on prompts, for :meth:`find`; ``image`` as of :meth:`__call__`."""
        return self.detector.encode_image(upright(image))

    def encode_images(self, images: Sequence[Any], *, batch_size: int = 1) -> Iterator[Any]:
        """:meth:`encode_image` of several, in order.

        Args:
            batch_size: pictures at a time, where the detector can; more than one changes scores a little.
        """
        together = getattr(self.detector, "encode_images", None) if batch_size > 1 else None
        for start in range(0, len(images), batch_size):
            part = [upright(image) for image in images[start : start + batch_size]]
            yield from together(part) if together else map(self.detector.encode_image, part)

    def prompts(self, **inputs: Any) -> ClassPrompts:
        """Class vectors of prompts; arguments as of :meth:`ClassPrompter.class_embeddings`, ``like=`` being ``image=``.

        Raises:
            InputError: an unknown argument, with the one that was probably meant.
        """
        if "like" in inputs:
            inputs["image"] = inputs.pop("like")
        if unknown := [name for name in inputs if name not in ARGUMENTS]:
            known = ["like" if name == "image" else name for name in ARGUMENTS]
            hint = did_you_mean(unknown[0], known, "{}=")
            raise InputError(f"{unknown[0]}=: no such argument; prompts are {', '.join(known)}{hint}")
        return self.prompter.class_embeddings(**inputs)

    def find(
        self, encoded: Any, prompts: ClassPrompts, *, threshold: float | None = None, **options: Any
    ) -> Detections:
        """Boxes of the prompts in a picture that was encoded before.

        Args:
            threshold: instead of the calibrated ones.
            options: of the detector's ``detect``: ``max_detections``, ``masks``.
        """
        calibration = self.calibration
        if threshold is not None:
            calibration = replace(calibration, threshold=threshold)
        return calibration.detect(self.detector, encoded, prompts, **options)

    @overload
    def __call__(self, image: list[Any], **options: Any) -> list[Detections]: ...

    @overload
    def __call__(self, image: Any, **options: Any) -> Detections: ...

    def __call__(
        self,
        image: Any,
        *,
        threshold: float | None = None,
        max_detections: int = 300,
        masks: bool = True,
        batch_size: int = 1,
        **prompts: Any,
    ) -> Detections | list[Detections]:
        """Boxes around what is prompted.

        Args:
            image: a PIL image, path, bytes, array (H, W, 3) or tensor (3, H, W); or a list of them, for a list of
                results in their order. Arrays are in RGB order; one of OpenCV's goes in as ``picture[..., ::-1]``.
            threshold: score that a box must exceed; default is what was calibrated.
            batch_size: as of :meth:`encode_images`.
            prompts: ``audio=``, ``text=``, ``like=`` (a picture), ``imu=``, ``depth=``, ``thermal=``, ``video=``, each
                one input or a list, every one of them a prompt; ``mixed=``, ``labels=``, ``route=``,
                ``sampling_rate=`` as of :meth:`ClassPrompter.class_embeddings`.

        Raises:
            InputError: no prompt, or something cannot be read.
        """
        wanted = self.prompts(**prompts)  # a wrong prompt is found out before the picture is looked at
        encoded = self.encode_images(image if isinstance(image, list) else [image], batch_size=batch_size)
        options = {"threshold": threshold, "max_detections": max_detections, "masks": masks}
        found = [self.find(one, wanted, **options) for one in encoded]
        return found if isinstance(image, list) else found[0]

    def listen(
        self,
        image: Any,
        audio: Any,
        *,
        window: float | None = None,
        hop: float | None = None,
        label: str = "heard",
        threshold: float | None = None,
        **options: Any,
    ) -> Iterator[Heard]:
        """What a long recording finds in one picture, window by window; the picture is encoded once.

        Args:
            window, hop: seconds; default are one clip of the encoder and half of it.
            label: what boxes are called.
            options: of :meth:`find`.
        """
        encoded = self.encode_image(image)
        moments = embed_timeline(self.prompter.encoder, self.prompter.processor, audio, "audio", window=window, hop=hop)
        for start, end, vector in moments:
            prompts = self.prompter.from_embeds({"audio": vector[None]}, labels=[label])
            yield Heard(start, end, self.find(encoded, prompts, threshold=threshold, **options))

    def watch(
        self, video: str | os.PathLike[str], prompts: ClassPrompts, *, every: float = 0.5, **options: Any
    ) -> Iterator[Frame]:
        """What is found in a video, a frame each ``every`` seconds, while the file is being read.

        Args:
            prompts: from :meth:`prompts`.
            options: of :meth:`find`.
        """
        for time, pixels in frames_of(video, every):
            yield Frame(time, self.find(self.encode_image(pixels), prompts, **options))


def own_calibration(part: Path) -> Calibration | None:
    """Of the detector's folder ``part``; None where nothing was measured."""
    return Calibration.load(part) if (part / SETTINGS).is_file() else None


def own_prompter(
    encoder: ImageBindModel, processor: ImageBindProcessor, adapter: EmbeddingAdapter, part: Path
) -> ClassPrompter:
    """For the detector whose folder is ``part``, in a pipeline with this encoder."""
    found = {name: Vocabulary.from_file(part / name) for name in OF_PROMPTS if (part / name).is_file()}
    vocabulary, words, known = found.get(CLASSES_FILE), found.get(WORDS_FILE), own_calibration(part)
    return ClassPrompter(
        encoder, processor, adapter=adapter, nothing=found.get(NOTHING_FILE), vocabulary=vocabulary,
        route="words" if vocabulary else "joint",
        word_embeds=words.vectors if vocabulary and words else None,
        known_text=known and known.known_text, known_sound=known and known.known_sound,
        sounds=known_sounds(encoder, part),
    )  # fmt: skip


def known_sounds(encoder: ImageBindModel, part: Path) -> ZeroShotClassifier | None:
    """Tells what is known by its sound from what else may be heard, by two files in the detector's folder ``part``.

    None where they are not there, or the encoder hears nothing.
    """
    files = [part / name for name in (SOUNDS_FILE, OTHERS_FILE)]
    if "audio" not in encoder.towers or not all(file.is_file() for file in files):
        return None
    known, others = map(Vocabulary.from_file, files)
    rest = dict(zip(others.names, others.vectors, strict=True))
    return ZeroShotClassifier(known.names, known.vectors, pair_scale(encoder, "audio", "text"), others=rest)
