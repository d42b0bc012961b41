"""AudioSet (Gemmeke et al., ICASSP 2017): what can be heard of 527 things, several at once.

Published are ``eval_segments.csv`` and ``class_labels_indices.csv``; the sounds come from the films, and whoever
fetches them names them ``YTID``, ``YYTID`` or ``YTID_START`` (s or ms). They may lie in the folder or in those in it.
The paper's measure is the mean over the labels of average precision.
"""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from ...errors import UnreadableError
from ...files.tables import read_csv
from .contract import Item, PublishedSet, Watch, filled, found, missing, sounds_in, unwatched
from .table import SETS

LAYOUT = SETS["audioset"].layout
SEGMENTS, LABELS = "eval_segments.csv", "class_labels_indices.csv"


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """The evaluation part.

    Raises:
        UnreadableError: this is not the set.
    """
    segments, labels = (found(folder, [name], LAYOUT) for name in (SEGMENTS, LABELS))
    table = read_csv(labels, ("mid", "display_name"), str(labels))
    names = dict(zip(table["mid"], table["display_name"], strict=True))
    sounds, items, gone, rows = sounds_in(folder), [], [], _rows(segments)
    for video, seconds, mids in watched(rows, "look"):
        stems = (video, f"Y{video}", f"{video}_{seconds}", f"{video}_{seconds:06d}", f"{video}_{1000 * seconds}")
        if file := next((sounds[stem] for stem in stems if stem in sounds), None):
            items.append(Item(video, tuple(names[mid] for mid in mids if mid in names), partial(str, file)))
        else:
            gone.append(video)
    notes = missing(gone, len(rows), "sounds")
    return PublishedSet({name: (name,) for name in names.values()}, filled(items, folder, LAYOUT, notes), notes=notes)


def _rows(file: Path) -> list[tuple[str, int, list[str]]]:
    """YTID, start in whole seconds, codes of what is heard."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        rows = csv.reader(lines, skipinitialspace=True)
        return [(row[0], int(float(row[1])), row[3].split(",")) for row in rows]
    except (IndexError, ValueError) as error:
        raise UnreadableError(f"{file}: wanted YTID, start, end and labels a line ({error})") from None
