"""What the studio gives while it draws and when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL.Image import Image

from ..hosts.boxes.detections import Detections
from ..hosts.boxes.drawing import PALETTE, draw_detections
from .limits import finite
from .understood import Understood

MIN_DRAWN = 640  # pixels; smaller pictures are enlarged for their boxes and labels


@dataclass(frozen=True)
class Progress:
    """A sign of life.

    Attributes:
        step, steps: denoising steps done, and of all batches together; 0 while the inputs are encoded.
        pictures: previews, or empty if nothing new is to be shown.
        doing: what is done now, in words, where it is not denoising.
    """

    step: int
    steps: int
    pictures: tuple[Image, ...] = ()
    doing: str = ""


@dataclass(frozen=True)
class Drawing:
    """Pictures of one blend of inputs.

    Attributes:
        pictures: one a seed.
        seeds: of the pictures.
        round_trip: of each picture: cosine, -1..1, of its own embedding and the one that it was drawn from.
        heard: the blend's nearest words, nearest first: word -> probability, 0..1, among the studio's words.
        shows: of each picture: the nearest word of its own embedding.
        understood: modality -> what it is, of the things that the model knows; empty where no words are known.
        notes: what was assumed or repaired, for the visitor.
        stopped: the visitor stopped it; the pictures are previews.
        seconds: wall time, the wait for others left out.
    """

    pictures: tuple[Image, ...]
    seeds: tuple[int, ...]
    round_trip: tuple[float, ...]
    heard: dict[str, float]
    shows: tuple[str, ...]
    understood: dict[str, Understood]
    notes: tuple[str, ...]
    stopped: bool
    seconds: float


@dataclass(frozen=True)
class Found:
    """A row of a store.

    Attributes:
        name: of the file, without its folders.
        modality: what it was indexed as.
        score: cosine with the query, -1..1.
        probability: 0..1 that it shows what was asked for; None where that was not measured.
        start, end: s, of a window; None of whole files.
        thumbnail: WebP; empty where there is none.
    """

    name: str
    modality: str
    score: float
    probability: float | None
    start: float | None
    end: float | None
    thumbnail: bytes


@dataclass(frozen=True)
class Finds:
    """What a search found, best first.

    Attributes:
        found: the rows.
        nothing: none of them is likely to be what was meant.
        notes, seconds: as of a :class:`Drawing`.
    """

    found: tuple[Found, ...]
    nothing: bool
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Slide:
    """Pictures between two things, and of what one has over the other.

    Attributes:
        pictures: from the first thing to the second, all from one seed.
        fractions: 0..1 of the way at each picture.
        words: the nearest word of each place on the way.
        differences: the first less the second, and the second less the first; shorter if a difference has no direction.
        animation: an endless WebP that slides there and back, or None where it was stopped.
        notes, stopped, seconds: as of a :class:`Drawing`.
    """

    pictures: tuple[Image, ...]
    fractions: tuple[float, ...]
    words: tuple[str, ...]
    differences: tuple[Image, ...]
    animation: bytes | None
    notes: tuple[str, ...]
    stopped: bool
    seconds: float


@dataclass(frozen=True)
class Prompt:
    """What was looked for.

    Attributes:
        label: "sound 1", or the words themselves.
        kind: "audio" or "text".
        nearest: what it was taken for: word -> probability, 0..1, nearest first.
    """

    label: str
    kind: str
    nearest: dict[str, float]


@dataclass(frozen=True)
class Spotting:
    """What was found in one picture: far more boxes than are shown, so that the threshold can be moved afterwards.

    Attributes:
        picture: as it is shown, perhaps shrunk.
        packed: all boxes in the form of ``Detections.to_dict``: masks take kilobytes.
        prompts: in the order of the boxes' numbers.
        size: (width, height) of the picture as it was uploaded, in pixels.
        threshold: score, 0..1, that a box must exceed to be shown.
        notes, seconds: as of a :class:`Drawing`.
    """

    picture: Image
    packed: Mapping[str, Any]
    prompts: tuple[Prompt, ...]
    size: tuple[int, int]
    threshold: float
    notes: tuple[str, ...]
    seconds: float

    def at(self, threshold: Any) -> Spotting:
        """The same with another threshold; no network runs.

        Raises:
            InputError: not a number in 0..1.
        """
        return replace(self, threshold=finite("threshold", threshold, 0.0, 1.0))

    @cached_property
    def shown(self) -> Detections:
        """The boxes above the threshold, in pixels of the picture as it is shown."""
        return Detections.from_dict(self.packed).above(self.threshold)

    def draw(self) -> Image:
        """The picture with these boxes and masks, each prompt in its colour."""
        return draw_detections(self.picture, self.shown, min_side=MIN_DRAWN)

    def legend(self) -> list[tuple[Prompt, str, int]]:
        """Of each prompt: its colour as "#rrggbb", and how many boxes of it are shown."""
        counts = [int((self.shown.prompts == number).sum()) for number in range(len(self.prompts))]
        return [
            (prompt, PALETTE[number % len(PALETTE)], count)
            for number, (prompt, count) in enumerate(zip(self.prompts, counts, strict=True))
        ]

    def boxes(self) -> list[dict[str, Any]]:
        """The shown boxes as plain values: label, score, and xyxy in pixels of the picture as it was uploaded."""
        across, down = self.size[0] / self.picture.width, self.size[1] / self.picture.height
        found, factors = self.shown, (across, down, across, down)
        return [
            {"label": name, "score": round(float(score), 4),
             "xyxy": [round(float(v) * f, 1) for v, f in zip(box, factors, strict=True)]}
            for name, score, box in zip(found.names, found.scores, found.xyxy, strict=True)
        ]  # fmt: skip
