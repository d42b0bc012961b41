"""Films in files, opened to take frames from them: whatever FFmpeg reads, and animated WebP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import InputError
from .animations import AnimationReader, is_animated_webp, opened_animation
from .containers import opened_container
from .frames import FrameReader, timeline, video_stream
from .sources import opened, source_name

WANTED = "a video"
HELD = 60.0  # s that a film's last frame may be shown; what its header says beyond that is not there


@contextmanager
def opened_film(source: Any) -> Iterator[FrameReader | AnimationReader]:
    """Open a file of anything that FFmpeg reads, or an animated WebP, to take frames of it one after another.

    Raises:
        UnreadableError, EmptyInputError, TooLargeError: naming the file.
    """
    name = source_name(source)
    with opened(source, WANTED) as file:
        if is_animated_webp(file):
            with opened_animation(file, name, WANTED) as reader:
                yield reader
            return
        with opened_container(file, name, WANTED) as container:
            line = timeline(container, video_stream(container, name), name)
        with opened_container(file, name, WANTED) as container:
            yield FrameReader(container, video_stream(container, name), line)


def frames_of(source: Any, every: float) -> Iterator[tuple[float, np.ndarray]]:
    """A frame each ``every`` seconds, while the file is being read: its time in seconds and (H, W, 3) uint8, upright.

    Raises:
        InputError: ``every`` is no time.
        UnreadableError, EmptyInputError: naming the file.
    """
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < math.inf:
        raise InputError(f"every: wanted seconds above zero, got {every!r}")
    with opened_film(source) as film:
        step = max(1, round(every * film.line.rate))
        for index in range(0, film.line.count, step):
            pixels, shown = film.at(index)
            if index / film.line.rate - shown > HELD:
                return
            yield index / film.line.rate, np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
