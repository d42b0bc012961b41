"""Arrays in NPY and NPZ files of strangers: nothing is unpickled, and no room is made for what is not there."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from typing import IO

import numpy as np

from ..errors import TooLargeError

UNPACKED = 1 << 30  # bytes that the members of a small archive may unpack to
FOLD = 4  # times as large as itself a larger one may be


def read_arrays(file: IO[bytes], name: str) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an NPY file, or those of an NPZ file by their names.

    Args:
        file: seekable, at its start.
        name: for messages.

    Raises:
        TooLargeError: it would unpack to far more than it is.
        Exception: many kinds, of numpy and zipfile, where it is neither or is damaged.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not file.read(2).startswith(b"PK"):
        return _array(file, size)
    with zipfile.ZipFile(file) as archive:
        check_unpacked(archive, size, name)
        arrays = {}
        for info in archive.infolist():
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = _array(member, info.file_size)
        return arrays


def check_unpacked(archive: zipfile.ZipFile, size: int, name: str) -> None:
    """Refuse an archive of ``size`` bytes whose members say that they are far larger (a decompression bomb)."""
    total = sum(info.file_size for info in archive.infolist())
    if total > max(UNPACKED, FOLD * size):
        raise TooLargeError(f"{name}: {size:,} bytes that would unpack to {total:,} are refused")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order (Fortran's?) and dtype of an NPY file at its start; what is behind them comes next."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():  # Python's, of what a damaged header spells
        warnings.simplefilter("ignore", SyntaxWarning)
        shape, fortran, dtype = read(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """Of a file of ``size`` bytes."""
    file.seek(0)
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    if math.prod(shape) * max(dtype.itemsize, 1) > size:
        raise ValueError(f"cut off: {size} bytes cannot hold {shape} of {dtype}")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
