"""Measured pictures in files that Pillow does not read: NPY and NPZ by numpy, OpenEXR by FFmpeg."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from dataclasses import dataclass
from typing import IO

import numpy as np

from ..errors import Bind2GenError, ShapeError, TooLargeError, UnreadableError
from .containers import opened_container
from .sources import one_line

ARRAY_MAGICS = (b"\x93NUMPY", b"PK\x03\x04")
EXR_MAGIC = b"\x76\x2f\x31\x01"
HEADER_BYTES = 1 << 16  # of an EXR file; a header longer than that is broken
LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)  # of one EXR block, by number of its compression
TILED, PARTS = 0x200, 0x1000  # bits of the version field
READABLE = ({"Y"}, {"R", "G", "B"})  # the sets of EXR channels that FFmpeg's decoder knows; alpha may be added


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
    shape, fortran, dtype = _header(file)
    if dtype.kind not in "fui":
        raise ShapeError(f"{name}: wanted {wanted} of whole numbers or floats, got dtype {dtype}")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    count = math.prod(shape)
    if count > limit * (4 if len(shape) == 3 else 1):  # colour and alpha
        raise TooLargeError(f"{name}: {wanted} of shape {shape} is refused; the limit is {limit} pixels")
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise UnreadableError(f"{name}: wanted {wanted}; the npy data is cut off, it should hold {shape} of {dtype}")
    values = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


def _shape(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    with archive.open(key) as member:
        return _header(member)[0] if key.endswith(".npy") else ()


def _rewound(file: IO[bytes]) -> IO[bytes]:
    file.seek(0)
    return file


# ---- OpenEXR ----


@dataclass(frozen=True)
class ExrHeader:
    """What is asked of an EXR file before it is decoded.

    Attributes:
        channels: name and the place of the name in the file.
        width, height: pixels.
        blocks: how many blocks of lines follow.
        table: place of the table of their offsets in the file.
    """

    channels: dict[str, int]
    width: int
    height: int
    blocks: int
    table: int


def read_exr(file: IO[bytes], name: str, wanted: str, *, limit: int) -> np.ndarray:
    """An OpenEXR picture, (H, W) or (H, W, 3) float32.

    A single channel of any one-letter name (Z, V, D ...) is read; colour files need R, G and B.

    Raises:
        UnreadableError, TooLargeError: naming the source.
    """
    advice = "save it as npy, float TIFF or EXR with one channel Y"
    data = file.read()
    try:
        header = _exr_header(data[:HEADER_BYTES])
    except (struct.error, ValueError, LookupError) as error:
        raise UnreadableError(
            f"{name}: wanted {wanted}, cannot read the EXR header ({one_line(error)}); {advice}"
        ) from None
    if header.width * header.height > limit or min(header.width, header.height) < 1:
        size = f"{header.width} x {header.height}"
        raise TooLargeError(f"{name}: {wanted} of {size} is refused; the limit is {limit} pixels")
    names = set(header.channels)
    if len(names) == 1 and len(only := names.pop()) == 1:
        # FFmpeg knows a single channel only as Y (luminance); cameras and renderers write Z or V.
        place = header.channels[only]
        data = data[:place] + b"Y" + data[place + 1 :]
    elif set(header.channels) - {"A"} not in READABLE:
        found = one_line(", ".join(sorted(header.channels)))
        raise UnreadableError(f"{name}: wanted {wanted} with one channel, or R, G and B; found {found}; {advice}")
    if not _is_whole(data, header):  # FFmpeg would leave lost lines at zero and say nothing
        raise UnreadableError(f"{name}: wanted {wanted}; the EXR file is cut off")
    try:
        with opened_container(io.BytesIO(data), name, wanted) as container:
            frame = next(container.decode(video=0))
            if frame.format.name != "grayf32le":
                frame = frame.reformat(format="gbrpf32le")
            return frame.to_ndarray()
    except (StopIteration, Bind2GenError) as error:
        raise UnreadableError(f"{name}: cannot decode the EXR ({one_line(error) or 'no picture'}); {advice}") from None


def _exr_header(data: bytes) -> ExrHeader:
    """Channels and size. Layout: OpenEXR's file format: name, type, size in bytes, value; an empty name ends it."""
    if struct.unpack_from("<I", data, 4)[0] & (TILED | PARTS):
        raise ValueError("tiled and multi-part files are not read")
    at, channels, attributes = 8, {}, {}
    while data[at : at + 1] != b"\0":
        key, at = _text(data, at)
        _, at = _text(data, at)
        (length,) = struct.unpack_from("<i", data, at)
        at += 4
        if length < 0:
            raise ValueError("an attribute of negative size")
        attributes[key] = data[at : at + length]
        if key == "channels":
            place = at
            while data[place : place + 1] != b"\0":
                channel, end = _text(data, place)
                channels[channel], place = place, end + 16  # type, linearity and sampling
        at += length
    left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
    lines = LINES[attributes["compression"][0]]
    height = bottom - top + 1
    return ExrHeader(channels, right - left + 1, height, -(-height // lines), at + 1)


def _is_whole(data: bytes, header: ExrHeader) -> bool:
    """Whether every block of lines lies within the file; a block is its line, its size and so many bytes."""
    end = header.table + 8 * header.blocks
    if end > len(data):
        return False
    for start in struct.unpack_from(f"<{header.blocks}Q", data, header.table):
        if start + 8 > len(data) or start + 8 + struct.unpack_from("<I", data, start + 4)[0] > len(data):
            return False
    return True


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("latin-1"), end + 1
