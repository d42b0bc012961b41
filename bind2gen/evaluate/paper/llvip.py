"""LLVIP (arXiv 2108.10831): person or background by infrared, and the photo of the same view by infrared.

As published: ``infrared/test/N.jpg``, ``visible/test/N.jpg`` and ``Annotations/N.xml`` (VOC). The paper (appendix A)
cuts out each pedestrian, and as many boxes of the same sizes by chance: 15,809, of which 7,931 people. It does not say
where a box by chance may lie; ours: where it meets no pedestrian. Nor how several names of a class are weighed; ours:
the nearest one counts, as the paper does for NYU-v2's "others".
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...errors import UnreadableError
from .contract import Item, PublishedSet, Watch, filled, found, missing, unwatched
from .table import SETS

LAYOUT = SETS["llvip"].layout
CLASSES = {"person": ("person", "man", "woman", "people"), "background": ("street", "road", "car", "light", "tree")}
TRIES = 100  # for a place that meets no pedestrian
Box = tuple[int, int, int, int]  # xyxy


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """A person and a background for each box of the test part, as far as there is room for it.

    Raises:
        UnreadableError: this is not the set.
    """
    pictures, lists = (found(folder, [place], LAYOUT) for place in ("infrared/test", "Annotations"))
    items, gone, tight, people = [], [], 0, 0
    names = sorted(path.stem for path in pictures.glob("*.jpg"))
    for name in watched(names, "look"):
        if not (file := lists / f"{name}.xml").is_file():
            gone.append(name)
            continue
        (width, height), boxes = annotation(file)
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for number, box in enumerate(boxes):
            cuts = {"person": box, "background": background(box, boxes, width, height, rng)}
            for label, cut in cuts.items():
                if cut is not None:
                    load = partial(crop, pictures / f"{name}.jpg", cut)
                    items.append(Item(f"{name} {label} {number}", (label,), load))
            people, tight = people + 1, tight + (cuts["background"] is None)
    notes = missing(gone, len(names), "annotations")
    notes += (f"{tight:,} of {people:,} backgrounds found no room",) if tight else ()
    photos = {path.stem: path for path in (folder / "visible" / "test").glob("*.jpg")}
    pairs = [
        Item(name, (name,), partial(picture, pictures / f"{name}.jpg"), photo=partial(str, photos[name]))
        for name in names if name in photos
    ]  # fmt: skip
    notes += missing([name for name in names if name not in photos], len(names), "photos")
    return PublishedSet(CLASSES, filled(items, folder, LAYOUT, notes), pairs=pairs, notes=notes)


def annotation(file: Path) -> tuple[tuple[int, int], list[Box]]:
    """Width and height of the picture, and the boxes of people in it.

    Raises:
        UnreadableError: this is no annotation.
    """
    try:
        root = ElementTree.parse(file).getroot()
        size = tuple(int(root.findtext(f"size/{side}")) for side in ("width", "height"))
        people = root.iterfind("object[name='person']/bndbox")
        corners = ("xmin", "ymin", "xmax", "ymax")
        return size, [tuple(int(float(box.findtext(corner))) for corner in corners) for box in people]
    except (ElementTree.ParseError, OSError, TypeError, ValueError) as error:
        raise UnreadableError(f"{file}: wanted a VOC annotation, cannot read it ({error})") from None


def background(box: Box, people: Sequence[Box], width: int, height: int, rng: np.random.Generator) -> Box | None:
    """A box as large as this one that meets none of the people; None where none was found."""
    wide, high = box[2] - box[0], box[3] - box[1]
    if wide > width or high > height:
        return None
    for _ in range(TRIES):
        x, y = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
        if not any(x < x1 and x0 < x + wide and y < y1 and y0 < y + high for x0, y0, x1, y1 in people):
            return x, y, x + wide, y + high
    return None


def crop(file: Path, box: Box) -> Any:
    """A part of an infrared picture."""
    from ...preprocess import thermal

    return thermal.load(picture(file), box=box)


@lru_cache(maxsize=2)  # a picture's boxes come one after the other
def picture(file: Path) -> Any:
    """A whole infrared picture; grey, though the files have three channels."""
    from ...preprocess import thermal

    return thermal.load(file, encoding="grey")
