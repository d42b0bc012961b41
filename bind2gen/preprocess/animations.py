"""Animated WebP as a film: FFmpeg does not read it, Pillow does."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import IO

import numpy as np
import torch
from PIL import Image

from ..errors import EmptyInputError, InputError, TooLargeError, UnreadableError
from .frames import Timeline
from .image import MAX_PIXELS, on_white
from .pillow import open_picture, quiet_pillow
from .sources import one_line

ANIMATED = 2  # bit of a VP8X chunk's first byte
INSTANT = 100  # ms that browsers give to frames that state none
ROUNDING = 1e-6  # s
MOST_DRAWN = 1 << 33  # pixels of all frames: each is drawn on those before it, whatever its bytes


def is_animated_webp(file: IO[bytes]) -> bool:
    """By the first bytes of a file at its start, where it is left."""
    head = file.read(21)
    file.seek(0)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & ANIMATED)


class AnimationReader:
    """Frames of an animated WebP, as :class:`~bind2gen.preprocess.frames.FrameReader` gives those of a film.

    Attributes:
        line: its length.
        height, width: pixels.
        decoded: frames decoded so far.
    """

    codec, has_sound = "webp", False

    def __init__(self, picture: Image.Image, durations: list[int], name: str) -> None:
        self._picture, self.name, self.decoded = picture, name, 0
        self.width, self.height = picture.size
        *self._starts, length = accumulate((ms / 1000 for ms in durations), initial=0.0)  # s
        self.line = Timeline(len(durations), len(durations) / length)

    def at(self, index: int) -> tuple[torch.Tensor, float]:
        """The frame shown at the time of frame ``index`` at the mean rate, (3, H, W) uint8, and that time, s."""
        time = index / self.line.rate
        number = bisect_right(self._starts, time + ROUNDING) - 1
        self._picture.seek(number)
        self.decoded = number + 1
        pixels = np.array(on_white(self._picture))
        return torch.from_numpy(pixels).permute(2, 0, 1), time


@contextmanager
def opened_animation(file: IO[bytes], name: str, wanted: str) -> Iterator[AnimationReader]:
    """Open a file of which :func:`is_animated_webp` holds.

    Raises:
        UnreadableError, EmptyInputError, TooLargeError: naming the file; the first also while frames are taken.
    """
    width, height, durations = _stated(file)
    if width * height > MAX_PIXELS:  # before it is opened: the decoder has two frames of memory cleared at once
        raise TooLargeError(f"{name}: {wanted} of frames so large is refused; the limit is {MAX_PIXELS} pixels")
    if len(durations) * width * height > MOST_DRAWN:
        raise TooLargeError(f"{name}: {wanted} of {len(durations)} frames of {width} x {height} is refused")
    file.seek(0)
    try:
        with quiet_pillow(), open_picture(file) as picture:
            if not (count := min(len(durations), picture.n_frames)):
                raise EmptyInputError(f"{name}: the video has no frames")
            yield AnimationReader(picture, [ms or INSTANT for ms in durations[:count]], name)
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(f"{name}: {wanted} of frames so large is refused") from None
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise UnreadableError(f"{name}: wanted {wanted}, cannot decode it ({one_line(error)})") from None


def _stated(file: IO[bytes]) -> tuple[int, int, list[int]]:
    """Width and height, and the milliseconds of each frame: bytes 4 to 9 of the VP8X chunk, which is the first, and 12
    to 14 of each ANMF chunk (WebP Container Specification)."""
    found = []
    file.seek(24)
    width, height = (int.from_bytes(file.read(3), "little") + 1 for _ in range(2))
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, size = struct.unpack("<4sI", head)
        content = file.read(15) if kind == b"ANMF" else b""
        if content:
            found.append(int.from_bytes(content[12:], "little"))
        file.seek(size + (size & 1) - len(content), 1)
    return width, height, found
