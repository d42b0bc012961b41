"""Pillow, opened in one place: it runs no other program, says nothing on its own, and nor does the libtiff below it."""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import PIL
from PIL import Image

RUN_BY_OTHERS = ("EPS",)  # that Pillow has Ghostscript draw


def open_picture(file: IO[bytes] | str | os.PathLike[str]) -> Image.Image:
    """``Image.open``, for files of strangers; raises what that raises."""
    _mute_libtiff()
    return Image.open(file, formats=_formats())


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Within the block Pillow warns of nothing: not of damaged tags, nor of sizes, on which limits of ours decide."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _formats() -> list[str]:
    """What may be opened: all that Pillow and its plug-ins know by now but :data:`RUN_BY_OTHERS`."""
    Image.init()
    return [name for name in Image.ID if name not in RUN_BY_OTHERS]


@cache
def _mute_libtiff() -> None:
    """Pillow leaves libtiff's own handler of errors in place, which prints them; where it is linked in, it goes on."""
    package = Path(PIL.__file__).parent
    for folder in (package.parent / "pillow.libs", package / ".dylibs"):  # of wheels for Linux, for macOS
        for library in folder.glob("libtiff*"):
            ctypes.CDLL(str(library)).TIFFSetErrorHandler(None)
