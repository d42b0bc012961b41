"""Measured pictures in files that Pillow does not read: NPY, NPZ, OpenEXR."""

from __future__ import annotations

import io
import math
import zipfile
from contextlib import redirect_stdout
from typing import IO

import numpy as np

from ..errors import Bind2GenError, ShapeError, TooLargeError, UnreadableError
from ..files.arrays import UNPACKED, read_header
from .muted import muted
from .sources import one_line

ARRAY_MAGICS = (b"\x93NUMPY", b"PK\x03\x04")
EXR_MAGIC = b"\x76\x2f\x31\x01"
EXR_MARK = "EXR_ERR"  # in what it writes on stderr


# ---- numpy's own ----


def read_numpy(file: IO[bytes], name: str, wanted: str, *, limit: int) -> np.ndarray:
    """The array of an NPY file, or the only picture-like one of an NPZ file; nothing is unpickled.

    Args:
        file: seekable, at its start.
        name, wanted: for messages.
        limit: numbers that an array may hold; its header is asked before its data is read.

    Raises:
        UnreadableError, ShapeError, TooLargeError: naming the source.
    """
    try:
        if not file.read(2).startswith(b"PK"):
            return _array(_rewound(file), name, wanted, limit)
        with zipfile.ZipFile(_rewound(file)) as archive:
            pictures = [key for key in archive.namelist() if len(_shape(archive, key)) >= 2]
            if len(pictures) > 1 and "depth.npy" in pictures:
                pictures = ["depth.npy"]
            if len(pictures) != 1:
                keys = ", ".join(key.removesuffix(".npy") for key in archive.namelist())
                raise ShapeError(
                    f"{name}: wanted one 2-d array (or one named depth) in the npz, found {len(pictures)} among "
                    f"{one_line(keys) or 'nothing'}; pass the array itself"
                )
            with archive.open(pictures[0]) as member:
                return _array(member, name, wanted, limit)
    except Bind2GenError:
        raise
    except Exception as error:  # numpy and zipfile raise many things on broken files
        raise UnreadableError(f"{name}: wanted {wanted}, cannot read it as npy or npz ({one_line(error)})") from None


def _array(file: IO[bytes], name: str, wanted: str, limit: int) -> np.ndarray:
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in "fui":
        raise ShapeError(f"{name}: wanted {wanted} of whole numbers or floats, got dtype {dtype}")
    count = math.prod(shape)
    if count > limit * (4 if len(shape) == 3 else 1) or count * dtype.itemsize > UNPACKED:  # colour and alpha
        raise TooLargeError(f"{name}: {wanted} of shape {shape} is refused; the limit is {limit} pixels")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise UnreadableError(f"{name}: wanted {wanted}; the npy data is cut off, it should hold {shape} of {dtype}")
    values = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))


def _shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    with archive.open(key) as member:
        return read_header(member)[0] if key.endswith(".npy") else ()


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


# ---- OpenEXR ----


def read_exr(file: IO[bytes], name: str, wanted: str, *, limit: int) -> np.ndarray:
    """An OpenEXR picture, (H, W) or (H, W, 3) float32: its one channel, of any name, or R, G and B. Alpha is left out.

    Args:
        file: seekable, at its start.
        name, wanted: for messages.
        limit: pixels that it may hold; its header is asked before its data is read.

    Raises:
        UnreadableError, TooLargeError: naming the source.
    """
    import OpenEXR

    doubts, heard = io.StringIO(), []
    try:
        # Not its InputFile, which crashes on broken data.
        with muted(EXR_MARK) as heard:
            parts = OpenEXR.File(file, header_only=True).parts
        for part in parts:
            first, last = (corner.tolist() for corner in part.header["dataWindow"])
            width, height = (end - start + 1 for start, end in zip(first, last, strict=True))
            if max(width, 1) * max(height, 1) > limit:
                raise TooLargeError(f"{name}: {wanted} of {width} x {height} is refused; the limit is {limit} pixels")
        found = sorted(channel.name for part in parts for channel in part.header["channels"])
        if any("tiles" in part.header for part in parts):  # a small broken one takes minutes and gigabytes
            raise UnreadableError(f"{name}: wanted {wanted} in lines, EXR files of tiles are not read; save it as npy")
        names = [key for key in found if key != "A"]
        if len(names) != 1 and (names != ["B", "G", "R"] or len(parts) > 1):
            raise UnreadableError(
                f"{name}: wanted {wanted} with one channel, or R, G and B; found {one_line(', '.join(found))}; save it "
                "as npy, float TIFF or EXR with one channel Y"
            )
        with redirect_stdout(doubts), muted(EXR_MARK) as heard:  # it prints on both that data is broken
            channels = OpenEXR.File(_rewound(file), num_threads=0).channels()
        [pixels] = (channel.pixels.astype(np.float32) for key, channel in channels.items() if key != "A")
    except Bind2GenError:
        raise
    except Exception as error:  # it raises many things on broken files
        reason = one_line(doubts.getvalue() or (heard[0] if heard else error))
        raise UnreadableError(f"{name}: wanted {wanted}, cannot read it as EXR ({reason})") from None
    return pixels[..., :3] if pixels.ndim == 3 else pixels  # alpha is the fourth
