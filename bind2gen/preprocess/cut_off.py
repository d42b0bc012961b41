"""Pictures whose last bytes are missing (a full card, a broken transfer), read as viewers read them."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from ..errors import Bind2GenWarning, UnreadableError
from .pillow import open_picture

END_OF_IMAGE = b"\xff\xd9"  # with which libjpeg fills up what is missing
GREY = 128  # what it fills up with
MOST_MISSING = 0.1  # share of the rows; with more the picture is refused


def loaded(image: Image.Image, name: str, wanted: str) -> Image.Image:
    """Decode a picture; a JPEG without its end is filled up with grey, with a warning.

    Raises:
        UnreadableError: more is missing than :data:`MOST_MISSING`.
        OSError: Pillow cannot decode it.
    """
    try:
        image.load()
        return image
    except OSError as error:
        if image.format not in ("JPEG", "MPO") or "truncated" not in str(error):
            raise
    image.fp.seek(0)
    filled = open_picture(io.BytesIO(image.fp.read() + END_OF_IMAGE))
    filled.load()
    rows = (np.asarray(filled).reshape(filled.height, -1) == GREY).all(1)
    missing = int(rows[::-1].argmin()) if not rows.all() else len(rows)
    lost = f"{missing} of its {filled.height} rows"
    if missing > MOST_MISSING * filled.height:
        raise UnreadableError(f"{name}: wanted {wanted}, the file is cut off: {lost} are missing; copy it again")
    words = f"{name}: the file is cut off; " + (f"{lost} stay grey" if missing else "its last pixels may be grey")
    warnings.warn(words, Bind2GenWarning, stacklevel=4)
    return filled
