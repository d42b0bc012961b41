"""COCO's run lengths of masks (format: pycocotools, maskApi.c)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import InputError

BITS, MORE, SIGN, FIRST_CHARACTER = 5, 0x20, 0x10, 48  # of COCO's compressed run lengths


def to_rle(mask: np.ndarray, *, compressed: bool = False) -> dict[str, Any]:
    """(height, width) bool -> ``{"size": [height, width], "counts": ...}``, lengths of runs of 0, 1, 0...

    Runs go down the columns, the leftmost first, and start with 0: a mask that begins with 1 has a first run of none.
    """
    pixels = np.asarray(mask, bool).ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))
    counts = np.diff(starts, prepend=0, append=pixels.size).tolist()
    return {"size": list(mask.shape), "counts": _compress(counts) if compressed else counts}


def from_rle(rle: Any, size: tuple[int, int]) -> np.ndarray:
    """Run lengths, as lists or COCO's strings, -> (height, width) bool of a picture of ``size`` (width, height).

    Raises:
        InputError: polygons, or runs that do not fill a picture of this size.
    """
    if not isinstance(rle, Mapping) or "counts" not in rle:
        raise InputError("masks: wanted COCO run lengths (size and counts); polygons cannot be read")
    counts = rle["counts"]
    if isinstance(counts, str | bytes):
        counts = _decompress(counts)
    if not isinstance(counts, Sequence | np.ndarray) or not all(isinstance(c, int | np.integer) for c in counts):
        raise InputError(f"masks: wanted run lengths as whole numbers or COCO's strings, got {type(counts).__name__}")
    width, height = size
    if list(rle.get("size", ())) != [height, width] or sum(counts) != height * width or min(counts, default=0) < 0:
        raise InputError(
            f"masks: wanted run lengths of a mask {height} x {width}, got size {rle.get('size')}, {sum(counts)} pixels"
        )
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(pixels.reshape(height, width, order="F"))


def _compress(counts: list[int]) -> str:
    """Five bits a character, lowest first, as long as there are more; from the fourth run on, the change from the last
    but one."""
    characters = []
    for i, count in enumerate(counts):
        left = count - counts[i - 2] if i > 2 else count
        while True:
            part, left = left & (MORE - 1), left >> BITS  # Python's shift keeps the sign, as the format wants
            done = left == (-1 if part & SIGN else 0)
            characters.append(chr(FIRST_CHARACTER + (part if done else part | MORE)))
            if done:
                break
    return "".join(characters)


def _decompress(text: str | bytes) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for character in text.encode() if isinstance(text, str) else text:
        part = character - FIRST_CHARACTER
        value |= (part & (MORE - 1)) << shift
        shift += BITS
        if part & MORE:
            continue
        value -= (1 << shift) if part & SIGN else 0
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts
