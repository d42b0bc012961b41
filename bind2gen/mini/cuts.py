"""Photos cut to their object."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .data import ImageSet

MARGIN, SKY_MARGIN = 1.12, 1.25  # a square's side over the longer side of its object
SMALLEST_CUT = 32  # pixels of a side that are enlarged to a whole picture
SMALLEST_OBJECT = 22  # pixels of the longer side: smaller ones are not shown plainly
SKY_CONTRAST = 25  # levels of 255 by which an object in the sky differs from the picture's median
SKY_SHARE = 0.04  # of a picture's pixels that such an object covers at least

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def object_box(pixels: np.ndarray, row: dict[str, str]) -> Box | None:
    """Where a picture (H, W, 3) uint8 shows its object, or None if that is unknown or too small to be seen well.

    Args:
        row: its csv row. ``x0`` to ``y1`` give the box; in a video's crop, what stands out against the sky is taken.
    """
    if row.get("x0"):
        box = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
    elif row.get("video"):
        sky = np.median(pixels.reshape(-1, 3), axis=0)
        apart = np.abs(pixels - sky).max(axis=-1) > SKY_CONTRAST
        if apart.mean() < SKY_SHARE:
            return None
        y, x = np.nonzero(apart)
        box = (np.quantile(x, 0.01), np.quantile(y, 0.01), np.quantile(x, 0.99) + 1, np.quantile(y, 0.99) + 1)
    else:
        return None
    return box if max(box[2] - box[0], box[3] - box[1]) >= SMALLEST_OBJECT else None


def cut_out(pixels: np.ndarray, row: dict[str, str], size: int | None = None) -> np.ndarray:
    """The square around a picture's object, enlarged; the whole picture if none is known.

    Args:
        pixels: (S, S, 3) uint8.
        size: of the result in pixels; absent: the picture's own.
    """
    whole, box = float(len(pixels)), object_box(pixels, row)
    if box is None:
        side, x, y = whole, whole / 2, whole / 2
    else:
        side = max(box[2] - box[0], box[3] - box[1]) * (SKY_MARGIN if row.get("video") else MARGIN)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    side = min(max(side, SMALLEST_CUT), whole)
    left, top = (min(max(value - side / 2, 0), whole - side) for value in (x, y))
    square = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((size or len(pixels),) * 2, Image.Resampling.BICUBIC, box=square))


def cut_outs(images: ImageSet) -> ImageSet:
    """Every picture cut to its object (see :func:`cut_out`)."""
    pairs = zip(images.pixels, images.samples, strict=True)
    return ImageSet(np.stack([cut_out(pixels, sample.row) for pixels, sample in pairs]), images.samples)
