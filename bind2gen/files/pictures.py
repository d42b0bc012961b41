"""Pictures to take home: what they were made of is written into the file, and small ones are enlarged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .. import __version__

MAKER = f"bind2gen {__version__}"  # in what is written, so that it is known again
DESCRIPTION = 0x010E  # EXIF's ImageDescription


def png_text(about: Mapping[str, Any]) -> PngInfo:
    """Text chunks for Pillow's ``pnginfo=``: the software, and one a key; values that are no text as JSON."""
    info = PngInfo()
    info.add_text("Software", MAKER)
    for key, value in about.items():
        info.add_itxt(key, _text(value))
    return info


def exif_text(about: Mapping[str, Any]) -> Image.Exif:
    """The same for formats without text chunks, for Pillow's ``exif=``: one description, in JSON."""
    exif = Image.Exif()
    exif[DESCRIPTION] = json.dumps({"Software": MAKER, **about})
    return exif


def enlarged(picture: Image.Image, least: int) -> Image.Image:
    """A picture whose longer side is at least ``least`` pixels: the same one, or a whole number of times as large."""
    times = -(-least // max(picture.size))
    if times <= 1:
        return picture
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()
