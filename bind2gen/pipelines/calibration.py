"""When to draw no box: the thresholds that were measured of a detector, on one route."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, UnreadableError
from ..files.atomic import written_whole
from ..files.parsed import parse_json

if TYPE_CHECKING:
    from ..hosts.boxes.detections import Detections, Detector
    from .class_vectors import ClassPrompts

SETTINGS = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """What was measured of one detector and one route.

    Attributes:
        threshold: score that boxes must exceed.
        known_text: ``ClassPrompter.known_text`` of the encoder that the prompts come from, or None.
        known_prompt: likeness (see ``ClassPrompts``) under which a sound or a text is like none of the detector's
            words, or None where that was not measured. It depends on the encoder, too.
        known_sound: the same by how probable it is that a sound is known, see ``ClassPrompts.familiar``.

    Raises:
        InputError: a value that is no finite number.
    """

    threshold: float = 0.5
    known_text: float | None = None
    known_prompt: float | None = None
    known_sound: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "threshold" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"Calibration: wanted {name} as a finite number, got {value!r}")

    def detect(self, detector: Detector, encoded: Any, prompts: ClassPrompts, **options: Any) -> Detections:
        """Boxes of the prompts that exceed the threshold; none of prompts that are like sounds of nothing.

        Args:
            options: of the detector's ``detect``, such as ``max_detections`` and ``masks``.
        """
        limits = torch.full((len(prompts.labels),), float(self.threshold))
        if any(prompts.nothing):
            limits[torch.tensor(prompts.nothing)] = 1.0  # which no score exceeds
        found = detector.detect(encoded, prompts.embeds, labels=prompts.labels, threshold=limits, **options)
        return found if prompts.words is None else replace(found, understood=tuple(map(dict, prompts.words)))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``calibration.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / SETTINGS) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            UnreadableError: the file is missing or damaged.
        """
        try:
            return cls(**parse_json((Path(folder) / SETTINGS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            raise UnreadableError(f"{folder}: wanted a saved calibration, cannot read it ({reason})") from None
