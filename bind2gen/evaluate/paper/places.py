"""Places365 (Zhou et al., TPAMI 2017): scenes by photo.

As published: ``places365_val.txt`` (a file and a number a line) and ``categories_places365.txt`` (``/a/attic 21``) of
the devkit, beside ``val_256/`` or ``val_large/``. How the paper words "apartment_building/outdoor" is not published;
ours: "outdoor apartment building".
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...errors import UnreadableError
from .contract import Item, PublishedSet, Watch, filled, found, missing, unwatched
from .table import SETS

LAYOUT = SETS["places365"].layout


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """The validation part, which has the published labels.

    Raises:
        UnreadableError: this is not the set.
    """
    listed, categories = (found(folder, [name], LAYOUT) for name in ("places365_val.txt", "categories_places365.txt"))
    labels = {number: label for label, number in _pairs(categories)}
    photos = found(folder, ["val_256", "val_large"], LAYOUT)
    items, gone, rows = [], [], _pairs(listed)
    for name, number in watched(rows, "look"):
        if number not in labels:
            raise UnreadableError(f"{listed}: {name} is of category {number}, which {categories.name} does not have")
        if (photo := photos / name).is_file():
            items.append(Item(name, (labels[number],), partial(str, photo)))
        else:
            gone.append(name)
    notes = missing(gone, len(rows), "photos")
    classes = {label: (wording(label),) for label in labels.values()}
    return PublishedSet(classes, filled(items, folder, LAYOUT, notes), notes=notes)


def wording(category: str) -> str:
    """``/a/apartment_building/outdoor`` -> "outdoor apartment building"."""
    return " ".join(category.split("/")[2:][::-1]).replace("_", " ")


def _pairs(file: Path) -> list[tuple[str, int]]:
    try:
        rows = [line.rsplit(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [(name, int(number)) for name, number in rows]
    except ValueError as error:
        raise UnreadableError(f"{file}: wanted a name and a number a line ({error})") from None
