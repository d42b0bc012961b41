"""ESC-50 (Piczak, ACM MM 2015): sounds by name, and from a few examples.

As published: ``audio/*.wav`` and ``meta/esc50.csv`` with the columns filename, fold, category. Groups are its five
folds, none of which shares a recording with another.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ...files.tables import read_csv
from .contract import Item, PublishedSet, Watch, filled, found, missing, names_of, unwatched
from .table import SETS

LAYOUT = SETS["esc50"].layout
COLUMNS = ("filename", "fold", "category")


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """All five folds.

    Raises:
        UnreadableError: this is not the set.
    """
    listed = found(folder, ["meta/esc50.csv"], LAYOUT)
    table = read_csv(listed, COLUMNS, str(listed))
    sounds = found(folder, ["audio"], LAYOUT)
    items, gone = [], []
    for name, fold, label in watched(table[list(COLUMNS)].to_numpy().tolist(), "look"):
        if (file := sounds / name).is_file():
            items.append(Item(name, (label,), partial(str, file), fold))
        else:
            gone.append(name)
    classes, notes = names_of(sorted(set(table["category"]))), missing(gone, len(table), "sounds")
    return PublishedSet(classes, filled(items, folder, LAYOUT, notes), items, folds=True, notes=notes)
