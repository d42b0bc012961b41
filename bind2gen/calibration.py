"""When to draw no box: thresholds, temperature and background of a detector.

Collect scores on held-out pictures, some with the prompts' objects and some without; :func:`fit_threshold` says where
to cut, and :class:`Calibration` keeps that and applies it.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou

from .atomic import written_whole
from .calibration_fits import (
    TemperatureFit,
    ThresholdFit,
    fit_temperature,
    fit_threshold,
    fit_thresholds,
    judge_threshold,
)
from .errors import Bind2GenWarning, InputError, NonFiniteError, ShapeError, UnreadableError
from .null_sounds import null_sounds
from .sounds import SAMPLE_RATE

if TYPE_CHECKING:
    from .class_prompts import ClassPrompter, ClassPrompts
    from .hosts.detections import Detections, Detector

__all__ = [
    "Calibration", "TemperatureFit", "ThresholdFit", "fit_temperature", "fit_threshold", "fit_thresholds",
    "judge_threshold", "null_background",
]  # fmt: skip

SETTINGS, BACKGROUND = "calibration.json", "background.safetensors"
SAME_PLACE = 0.5  # overlap from which a background box takes a prompt's box away


def null_background(
    prompter: ClassPrompter, *, route: str | None = None, copies: int = 2, seed: int = 0
) -> torch.Tensor:
    """(K, D) class vectors of :func:`~bind2gen.null_sounds.null_sounds`: what a prompt must beat to get a box."""
    sounds = [(sound, SAMPLE_RATE) for sound in null_sounds(copies=copies, seed=seed).values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # that one of them is silent
        return prompter.class_embeddings(audio=sounds, route=route).embeds


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was fitted for one detector and one route.

    Attributes:
        threshold: score that boxes must exceed.
        temperature: of a softmax over cosines, such as ``RescoringSettings.temperature``.
        thresholds: label -> score, of prompts that have one of their own.
        background: (K, D) class vectors of what is no prompt, or None.
        known_text: ``ClassPrompter.known_text`` of the encoder that the prompts come from, or None.
        known_prompt: likeness (see ``ClassPrompts``) under which a sound or a text is like none of the detector's
            words, or None where that was not measured. It depends on the encoder, too.

    Raises:
        InputError, ShapeError, NonFiniteError: values out of range.
    """

    threshold: float = 0.5
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    background: torch.Tensor | None = None
    known_text: float | None = None
    known_prompt: float | None = None

    def __post_init__(self) -> None:
        numbers = {"threshold": self.threshold, "temperature": self.temperature, **dict(self.thresholds)}
        cosines = {"known_text": self.known_text, "known_prompt": self.known_prompt}
        numbers |= {name: value for name, value in cosines.items() if value is not None}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"Calibration: wanted {name} as a finite number, got {value!r}")
        if self.temperature <= 0:
            raise InputError(f"Calibration: wanted a temperature above zero, got {self.temperature!r}")
        if self.background is not None:
            background = torch.as_tensor(self.background).detach().float().cpu()
            if background.ndim != 2 or not len(background):
                raise ShapeError(f"Calibration: wanted a background (K, D), got {tuple(background.shape)}")
            if not bool(background.isfinite().all()):
                raise NonFiniteError("Calibration: the background holds NaN or infinite values")
            object.__setattr__(self, "background", background)
        object.__setattr__(self, "thresholds", MappingProxyType(dict(self.thresholds)))

    def thresholds_for(self, labels: Sequence[str]) -> torch.Tensor:
        """(C,) float32, for ``detector.detect(threshold=...)``."""
        return torch.tensor([float(self.thresholds.get(label, self.threshold)) for label in labels])

    def detect(self, detector: Detector, encoded: Any, prompts: ClassPrompts, **options: Any) -> Detections:
        """Boxes of the prompts that exceed their thresholds and that no background box outscores in their place.

        Args:
            options: of the detector's ``detect``, such as ``max_detections`` and ``masks``.

        Raises:
            ShapeError: the background is of another width than the prompts.
        """
        limits = self.thresholds_for(prompts.labels)
        if any(prompts.nothing):
            limits[torch.tensor(prompts.nothing)] = 1.0  # which no score exceeds
        if self.background is not None and self.background.shape[1] != prompts.embeds.shape[1]:
            wanted, came = prompts.embeds.shape[1], self.background.shape[1]
            raise ShapeError(f"Calibration: wanted a background of width {wanted} like the prompts, got {came}")
        found = detector.detect(encoded, prompts.embeds, labels=prompts.labels, threshold=limits, **options)
        if prompts.words is not None:
            found = replace(found, understood=tuple(dict(words) for words in prompts.words))
        if self.background is None or not len(found):
            return found
        # Apart from the prompts: a detector that lets classes compete, or stops at a number of boxes, must not
        # answer a prompt otherwise because there is a background.
        names = tuple(f"background {i}" for i in range(1, len(self.background) + 1))
        lowest = float(found.scores.min())
        others = detector.detect(
            encoded, self.background.to(prompts.embeds), labels=names, threshold=lowest, masks=False,
            max_detections=max(1000, len(found)),
        )  # fmt: skip
        overlap = box_iou(torch.from_numpy(found.xyxy), torch.from_numpy(others.xyxy)).numpy() >= SAME_PLACE
        beaten = (overlap & (others.scores[None] > found.scores[:, None])).any(1)
        return found[~beaten]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``calibration.json`` and, with a background, ``background.safetensors``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        values = {"threshold": self.threshold, "temperature": self.temperature, "thresholds": dict(self.thresholds)}
        values |= {"background": self.background is not None}
        values |= {"known_text": self.known_text, "known_prompt": self.known_prompt}
        if self.background is not None:
            with written_whole(folder / BACKGROUND) as temporary:
                save_file({"background": self.background.contiguous()}, temporary)
        with written_whole(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            UnreadableError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            values = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            has_background = values.pop("background")
            background = load_file(folder / BACKGROUND)["background"] if has_background else None
            return cls(**values, background=background)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise UnreadableError(f"{folder}: wanted a saved calibration, cannot read it ({reason})") from None
