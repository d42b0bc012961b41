"""Detections drawn on their picture: boxes, translucent masks, labels with scores; by Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ...errors import InputError
from ...preprocess.image import upright
from .detections import Detections

# Okabe and Ito's colours (2008), which colour-blind people tell apart too; without black, the bright ones first.
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2")
DARK, LIGHT = (18, 18, 20), (255, 255, 255)
MIN_SIDE = 320  # pixels; smaller pictures are enlarged, for no text is readable on them
MASK_OPACITY = 0.4
MAX_COVER = 0.5  # of any box, by one label
LONG_LABEL = 14  # times its height, to which a label is cut where that is more than half of the picture's width
TEXT_SHARE, MIN_TEXT, MAX_TEXT = 1 / 38, 11, 44  # of the picture's mean side; pixels
LINE_SHARE = 1 / 220  # of the picture's mean side

Box = tuple[float, float, float, float]
Colour = tuple[int, int, int]


def draw_detections(
    image: Any,
    detections: Detections,
    *,
    colours: Sequence[str | Colour] | None = None,
    track_ids: Sequence[int] | None = None,
    min_side: int = MIN_SIDE,
) -> Image.Image:
    """A copy of a picture with detections on it; the best are drawn last, on top.

    Outlines run outside of their boxes, and labels look for a place where they hide no box and no other label.

    Args:
        image: the picture that the detections belong to, as it was searched: see
            :func:`bind2gen.preprocess.image.upright`. Orientation marks (EXIF) are obeyed, for boxes are of the upright
            picture.
        colours: one a prompt, as names, "#rrggbb" or RGB in 0..255. Otherwise seven colours that colour-blind people
            tell apart, again from the first where there are more prompts.
        track_ids: (N,) of :func:`bind2gen.hosts.boxes.tracking.track`, written behind the names.
        min_side: pixels; a picture whose longer side is shorter is enlarged by a whole factor, to be readable.

    Returns:
        RGB, as large as the picture, or the enlarged one.

    Raises:
        InputError: the picture cannot be read or is of another size than that of the detections, or colours or ids are
            too few or unknown.
    """
    stored, image = getattr(image, "size", None), upright(image)
    if image.size != detections.image_size:
        turned = ", turned upright by its orientation mark" if stored == detections.image_size else ""
        raise InputError(
            f"wanted the picture of the detections, {detections.image_size} pixels, got {image.size}{turned}"
        )
    if track_ids is not None and len(track_ids) != len(detections):
        raise InputError(f"track_ids: wanted {len(detections)}, one a box, got {len(track_ids)}")
    palette = _palette(colours, len(detections.labels))
    factor = max(1, math.ceil(min_side / max(image.size)))
    size = (image.width * factor, image.height * factor)
    order = np.argsort(detections.scores, kind="stable")
    paints = [palette[prompt] for prompt in detections.prompts]
    sheet = image.resize(size, Image.Resampling.BICUBIC) if factor > 1 else image.copy()
    if detections.masks is not None and len(detections):
        sheet = _with_masks(sheet, detections.masks[order], [paints[i] for i in order], factor)
    draw, boxes = ImageDraw.Draw(sheet), [tuple(box) for box in (detections.xyxy * factor).tolist()]
    line = max(1, round(math.sqrt(size[0] * size[1]) * LINE_SHARE))
    for i in order:
        _outline(draw, boxes[i], paints[i], line, size)
    names = detections.names
    if track_ids is not None:
        names = [f"{name} #{track}" for name, track in zip(names, track_ids, strict=True)]
    texts = [f"{name} {score:.2f}" for name, score in zip(names, detections.scores, strict=True)]
    _labels(draw, size, [(boxes[i], texts[i], paints[i]) for i in order[::-1]], line)
    return sheet


def _palette(colours: Sequence[str | Colour] | None, count: int) -> list[Colour]:
    if colours is None:
        colours = [PALETTE[i % len(PALETTE)] for i in range(count)]
    if isinstance(colours, str) or len(colours) < count:
        raise InputError(f"colours: wanted {count}, one a prompt, got {colours!r}")
    try:
        return [ImageColor.getrgb(c)[:3] if isinstance(c, str) else _rgb(c) for c in colours]
    except (TypeError, ValueError) as error:
        raise InputError(f"colours: wanted names, '#rrggbb' or RGB in 0..255: {error}") from error


def _rgb(colour: Colour) -> Colour:
    red, green, blue = (int(part) for part in colour)
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ValueError(f"got {colour!r}")
    return red, green, blue


# ---- masks and boxes ----


def _with_masks(sheet: Image.Image, masks: np.ndarray, paints: list[Colour], factor: int) -> Image.Image:
    """Masks as a tint, with an edge of full colour. ``masks`` (N, h, w) of the picture before it was enlarged."""
    pixels = np.asarray(sheet, np.float32).copy()
    for mask, paint in zip(masks, paints, strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            continue
        place = tuple(slice(along[0] * factor, (along[-1] + 1) * factor) for along in (rows, columns))
        inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].repeat(factor, 0).repeat(factor, 1)
        padded = np.pad(inside, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        window = pixels[place]  # a view
        window[inside] += MASK_OPACITY * (np.float32(paint) - window[inside])
        window[inside & ~core] = paint
    return Image.fromarray(pixels.round().astype(np.uint8))


def _outline(draw: ImageDraw.ImageDraw, box: Box, paint: Colour, line: int, size: tuple[int, int]) -> None:
    """A frame around the box's pixels, with a hair of dark on both sides so that it shows on any ground.

    It is moved inwards where the picture ends, unless the box is so small that it would be hidden.
    """
    room = line + 2  # the frame and its hairs, in pixels
    x0, y0, x1, y1 = (math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]) - 1, math.ceil(box[3]) - 1)
    wide, high = x1 - x0 > 4 * room, y1 - y0 > 4 * room
    left, right = x0 - room, x1 + room
    top, bottom = y0 - room, y1 + room
    if wide:
        left, right = max(left, 0), min(right, size[0] - 1)
    if high:
        top, bottom = max(top, 0), min(bottom, size[1] - 1)
    if left > right or top > bottom:  # wholly beyond the picture's edge
        return
    draw.rectangle((left, top, right, bottom), outline=DARK, width=room)
    draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=paint, width=line)


# ---- labels ----


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more; Pillow's own is Latin only."""
    data = Path(find_spec("matplotlib").origin).with_name("mpl-data")  # without importing it, which takes a second
    return ImageFont.truetype(data / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _labels(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], wanted: Sequence[tuple[Box, str, Colour]], line: int
) -> None:
    """Labels one after the other, the best box's first; one that would hide a box wherever it stood is left out."""
    height = round(min(max(math.sqrt(size[0] * size[1]) * TEXT_SHARE, MIN_TEXT), MAX_TEXT))
    letters, pad = font(height), max(2, round(height / 4))
    boxes, taken = np.array([box for box, _, _ in wanted]).reshape(-1, 4), np.zeros((0, 4))
    longest = min(size[0], max(size[0] // 2, LONG_LABEL * height)) - 2 * pad
    for box, text, paint in wanted:
        text = _shortened(text, letters, longest)
        label = (math.ceil(letters.getlength(text)) + 2 * pad, height + 2 * pad - pad // 2)
        place = _place(box, label, line + 2, size, boxes, taken)
        if place is None:
            continue
        taken = np.vstack([taken, place])
        draw.rectangle((place[0], place[1], place[2] - 1, place[3] - 1), fill=paint)
        middle = (place[1] + place[3]) / 2
        draw.text((place[0] + pad, middle), text, _ink(paint), letters, anchor="lm")


def _shortened(text: str, letters: object, room: int) -> str:
    """The text, its name cut so that it fits into ``room`` pixels; the score, its last word, stays."""
    name, _, score = text.rpartition(" ")
    while letters.getlength(text) > room and name:
        name = name[:-1]
        text = f"{name.rstrip()}.. {score}" if name else score
    return text


def _place(
    box: Box, label: tuple[int, int], room: int, size: tuple[int, int], boxes: np.ndarray, taken: np.ndarray
) -> Box | None:
    """Where a label goes: of the places at its box, the first that hides least; None where all hide some box."""
    width, height = label
    x0, y0, x1, y1 = box
    across = (x0 - room, x1 + room - width, (x0 + x1 - width) / 2)
    around = [(x, y) for y in (y0 - room - height, y1 + room) for x in across]
    beside = [(x, y) for x in (x1 + room, x0 - room - width) for y in (y0 - room, y1 + room - height)]
    within = [(x, y) for y in (y0, y1 - height) for x in (x0, x1 - width)]
    nudged = [(x, y + step * (height + 1)) for (x, y), step in product(around[:2] + within[:2], (-2, -1, 1, 2))]
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(1).prod(1)
    best, least = None, math.inf
    for number, (x, y) in enumerate([*around[:2], *within[:1], *around[2:], *beside, *within[1:], *nudged]):
        left = round(min(max(x, 0), max(size[0] - width, 0)))
        top = round(min(max(y, 0), max(size[1] - height, 0)))
        place = (left, top, left + width, top + height)
        hidden = (_overlaps(place, boxes) / areas).max()
        if hidden > MAX_COVER:
            continue
        moved = abs(left - x) + abs(top - y)  # by the picture's edges
        cost = 100 * _overlaps(place, taken).sum() / (width * height) + hidden + moved / height
        cost += 0.05 * number
        if cost < least:
            best, least = place, cost
    return best


def _overlaps(place: Box, others: np.ndarray) -> np.ndarray:
    """Area in pixels that a box shares with each of the others (N, 4)."""
    sides = np.minimum(place[2:], others[:, 2:]) - np.maximum(place[:2], others[:, :2])
    return sides.clip(0).prod(1)


def _ink(paint: Colour) -> Colour:
    """Dark or light text, whichever contrasts more (relative luminance, WCAG 2)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in paint]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return DARK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else LIGHT
