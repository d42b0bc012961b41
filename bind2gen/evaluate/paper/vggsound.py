"""VGGSound (Chen et al., ICASSP 2020): sounds by name, 309 of them.

Published is ``vggsound.csv`` (YTID, start in s, label, train or test; no header); the sounds come from the films, and
whoever fetches them names them ``YTID_SSSSSS`` (start in s, six digits) or ``YTID_START``. They may lie in the folder
or in those in it.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from ...errors import UnreadableError
from .contract import Item, PublishedSet, Watch, filled, found, missing, sounds_in, unwatched
from .table import SETS

LAYOUT = SETS["vggsound"].layout


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """The test part.

    Raises:
        UnreadableError: this is not the set.
    """
    file = found(folder, ["vggsound.csv"], LAYOUT)
    try:
        rows = [row for row in csv.reader(file.read_text(encoding="utf-8").splitlines()) if row]
        tested = [(video, int(start), label) for video, start, label, part in rows if part.strip() == "test"]
    except ValueError as error:
        raise UnreadableError(f"{file}: wanted YTID, start in seconds, label and part a line ({error})") from None
    sounds, items, gone = sounds_in(folder), [], []
    for video, start, label in watched(tested, "look"):
        stems = (f"{video}_{start:06d}", f"{video}_{start}")
        if sound := next((sounds[stem] for stem in stems if stem in sounds), None):
            items.append(Item(sound.name, (label,), partial(str, sound)))
        else:
            gone.append(f"{video}_{start:06d}")
    notes = missing(gone, len(tested), "sounds")
    classes = {label: (label,) for label in sorted({row[2] for row in rows})}
    return PublishedSet(classes, filled(items, folder, LAYOUT, notes), notes=notes)
