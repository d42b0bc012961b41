"""Windows over a picture as proposals: rescoring with no detector at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...preprocess.image import upright
from .detections import Proposals
from .selection import checked_count

SCALES = (1.0, 0.7, 0.5, 0.35)  # of the root of the picture's area
ASPECTS = (1.0, 0.6, 1 / 0.6)  # width to height
OVERLAP = 0.5  # of neighbours of one size, at least

Window = tuple[float, float, float, float]


class GridProposer:
    """Windows of several sizes and shapes, evenly spaced, that cover the picture; the largest first.

    It looks at nothing: all score 1. A window overlaps a thing of its own size by about half or better, so boxes are
    coarse; a detector's proposals are tighter. By default there are about 130 windows, whatever the picture's size.

    Args:
        scales: sides of windows, 1 being the whole picture.
        aspects: width over height of windows; those of scale 1 are the picture itself.
        overlap: 0..1 (below 1), share of a window that the next one covers as well, at least.

    Raises:
        InputError: values out of their range.
    """

    def __init__(
        self, *, scales: Sequence[float] = SCALES, aspects: Sequence[float] = ASPECTS, overlap: float = OVERLAP
    ) -> None:
        if not len(scales) or not all(0 < scale <= 1 for scale in scales):
            raise InputError(f"scales: wanted numbers above 0, up to 1, got {list(scales)}")
        if not len(aspects) or not all(0.05 <= aspect <= 20 for aspect in aspects):
            raise InputError(f"aspects: wanted numbers in 0.05..20, got {list(aspects)}")
        if not 0 <= overlap < 1:
            raise InputError(f"overlap: wanted 0 or more, below 1, got {overlap!r}")
        self.scales, self.aspects, self.overlap = tuple(scales), tuple(aspects), overlap

    def encode_image(self, image: Any) -> tuple[int, int]:
        """All that a grid needs to know of a picture: its (width, height) in pixels."""
        return upright(image).size

    def propose(self, encoded: tuple[int, int], *, max_proposals: int = 256) -> Proposals:
        """Windows in pixels, the larger scales first; of the scale that does not fit in whole, an even choice."""
        checked_count("max_proposals", max_proposals)
        found: dict[Window, None] = {}  # an ordered set: on narrow pictures windows repeat
        for scale in sorted(self.scales, reverse=True):
            windows = [w for w in dict.fromkeys(self._windows(scale, *encoded)) if w not in found]
            if len(windows) > (room := max_proposals - len(found)):
                windows = [windows[i] for i in np.linspace(0, len(windows) - 1, room).round().astype(int)]
            found |= dict.fromkeys(windows)
        boxes = np.array(list(found), np.float32).reshape(-1, 4)
        boxes = np.minimum(boxes, np.float32([*encoded, *encoded]))  # rounding
        return Proposals(boxes, np.ones(len(boxes)))

    def _windows(self, scale: float, width: int, height: int) -> Iterator[Window]:
        side = scale * math.sqrt(width * height)
        for aspect in self.aspects if scale < 1 else (width / height,):
            w, h = min(side * math.sqrt(aspect), width), min(side / math.sqrt(aspect), height)
            yield from ((x, y, x + w, y + h) for y in self._starts(h, height) for x in self._starts(w, width))

    def _starts(self, side: float, limit: float) -> list[float]:
        """Evenly spaced, the first at one edge, the last at the other."""
        step = max(side * (1 - self.overlap), 1.0)
        count = 1 + math.ceil((limit - side) / step - 1e-9)
        return np.linspace(0, limit - side, max(count, 1)).tolist()
