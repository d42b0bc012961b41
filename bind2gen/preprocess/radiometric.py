"""Infrared JPEGs of cameras that keep what they measured beside a painted preview: FLIR's and DJI's."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from ..errors import Bind2GenWarning, DependencyError, TooLargeError, UnreadableError
from .pillow import open_picture, quiet_pillow
from .sources import is_file_source, one_line, opened, source_name

FLIR, DJI = "FLIR JPEG", "DJI R-JPEG"
FLIR_SEGMENT = b"FLIR\0"  # of an APP1 segment; three bytes, the number and the count of the parts, follow
FLIR_FILES = (b"FFF\0", b"AFF\0")  # .fff, .seq, .csq
PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # width and height follow, big-endian
MOST_RECORDS = 1024  # of a FLIR JPEG, 14 as a rule; read the wrong way round the count is in the millions
MOST_PIXELS = 1 << 24  # of a PNG in a FLIR JPEG: sensors have up to 2048 x 1536, the photos beside them 5 million


class Taken(NamedTuple):
    """What is read of an input: a source, how it is encoded, and what it is in words."""

    source: Any
    encoding: str
    words: str = ""


def taken_of(source: Any, encoding: str, wanted: str) -> Taken:
    """Temperatures of FLIR's radiometric JPEGs, known by their content; anything else as it is.

    Args:
        source: a path, bytes, a file object or a PIL image; what else comes is not looked at.
        encoding: ``"auto"`` and ``"radiometric"`` ask for temperatures, anything else for the preview.
        wanted: what it should be, for messages.

    Returns:
        Degrees Celsius as a PIL image of mode F with the name and the orientation of the source, or the source.

    Raises:
        UnreadableError: it is FLIR's own format.
        DependencyError: flyr is not installed.
        TooLargeError: see :data:`MOST_PIXELS`.
    """
    name = source_name(getattr(source, "filename", None) or source)
    picture = source if isinstance(source, Image.Image) else _opened(source, name, wanted)
    segments = getattr(picture, "applist", None) or []  # of JPEGs only
    parts = [content for app, content in segments if app == "APP1" and content.startswith(FLIR_SEGMENT)]
    if parts and encoding in ("auto", "radiometric"):
        data = b"".join(content[8:] for content in parts)
        _check_size(data, name, wanted)
        try:
            if int.from_bytes(data[28:32], "big") > MOST_RECORDS:
                raise ValueError("its numbers are little-endian, as in DJI's XT; flyr would look for a minute")
            celsius = Image.fromarray(_celsius(parts, name))
        except DependencyError:
            raise
        except Exception as error:  # flyr checks little
            reason = f"{type(error).__name__}: {one_line(error)}"
            words = f"{name}: flyr finds no temperatures in this {FLIR} ({reason}); its preview is taken"
            warnings.warn(words, Bind2GenWarning, stacklevel=4)
        else:
            celsius.filename = name
            celsius.getexif()[ExifTags.Base.Orientation] = picture.getexif().get(ExifTags.Base.Orientation, 1)
            return Taken(celsius, "radiometric", f"temperatures of a {FLIR} in degrees Celsius")
    if parts:
        return Taken(source, encoding, f"preview of a {FLIR}")
    made_by_dji = picture is not None and str(picture.getexif().get(ExifTags.Base.Make, "")).strip("\0 ") == "DJI"
    if made_by_dji and any(app == "APP3" for app, _ in segments):
        words = f"preview of a {DJI} (its temperatures need DJI's Thermal SDK: pass what that gives as NPY or array)"
        return Taken(source, encoding, words)
    return Taken(source, encoding)


def _opened(source: Any, name: str, wanted: str) -> Image.Image | None:
    """A picture with its segments, not decoded; None where Pillow opens none, which is said where it is read."""
    if not is_file_source(source):
        return None
    with opened(source, wanted) as file, quiet_pillow():
        if file.read(4) in FLIR_FILES:
            raise UnreadableError(
                f"{name}: wanted {wanted}, FLIR's own format (fff, seq, csq) is not read; export it with FLIR's "
                "software as radiometric JPEG, or as CSV of temperatures"
            )
        file.seek(0)
        try:
            picture = open_picture(file)
            picture.getexif()
        except Exception:
            return None
        return picture


def _celsius(parts: list[bytes], name: str) -> np.ndarray:
    """(H, W) float32, with the parameters that the camera wrote (emissivity, distance, air); NaN is no temperature."""
    try:
        import flyr
    except ImportError:
        raise DependencyError(
            f'{name}: the temperatures of a {FLIR} need flyr: pip install "bind2gen[flir]"; to take its preview, name '
            "the colours of that, e.g. encoding='iron', or encoding='grey'"
        ) from None
    # In a JPEG of one pixel: the preview may be broken, and flyr looks at each byte up to the segments.
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "JPEG")
    start, rest = file.getvalue()[:2], file.getvalue()[2:]
    segments = (b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content for content in parts)
    with np.errstate(all="ignore"):
        return flyr.unpack(io.BytesIO(start + b"".join(segments) + rest)).celsius.astype(np.float32)


def _check_size(data: bytes, name: str, wanted: str) -> None:
    at = data.find(PNG_HEADER)
    while at >= 0:
        place = at + len(PNG_HEADER)
        width, height = struct.unpack(">II", data[place : place + 8].ljust(8, b"\0"))
        if width * height > MOST_PIXELS:
            size = f"{width} x {height}"
            raise TooLargeError(f"{name}: {wanted} of {size} in a {FLIR} is refused; the limit is {MOST_PIXELS} pixels")
        at = data.find(PNG_HEADER, place)
