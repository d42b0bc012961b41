"""Seeds of several inputs: each has its own, made of what it holds."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UnreadableError

SPREAD = 1_000_000  # seeds that inputs are spread over: short enough to be typed
BLOCK = 1 << 20  # bytes read at a time


def first_seeds(inputs: Mapping[str, Sequence[str]], seed: int, kept: Sequence[int] | None = None) -> list[int]:
    """The seed of each input's first picture.

    A single input has ``seed``. Of several each has ``seed`` plus a number below :data:`SPREAD` made of the bytes of
    its file (or text) alone, so that in whatever order and folder, and beside whatever else, it gives the same picture;
    what all inputs share does not count.

    Args:
        inputs: modality -> files or texts, one or equally many of each.
        seed: that all are shifted by.
        kept: numbers of the inputs that seeds are wanted of; default is all.
    """
    count = max(map(len, inputs.values()))
    if count == 1:
        return [seed]
    own = {name: values for name, values in inputs.items() if len(values) == count}
    return [
        seed + _number({name: values[i] for name, values in own.items()})
        for i in (range(count) if kept is None else kept)
    ]


def _number(row: Mapping[str, str]) -> int:
    checksum = 0
    for name, value in sorted(row.items()):
        checksum = zlib.crc32(name.encode(), checksum)
        files = [] if name == "text" else files_of(Path(value))
        if not files:
            checksum = zlib.crc32(value.encode("utf-8", "surrogateescape"), checksum)
        for file in files:
            checksum = _with_file(file, checksum)
    return checksum % SPREAD


def files_of(path: Path) -> list[Path]:
    """A file, or those of an exported folder; none of a pipe, which can be read only once."""
    return [file for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]


def _with_file(path: Path, checksum: int) -> int:
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    return checksum
