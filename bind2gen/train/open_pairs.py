"""The pairs of a folder, whichever way they lie there."""

from __future__ import annotations

from pathlib import Path

from ..errors import UnreadableError
from .pairs import CSV_NAME, CsvPairs, PairSet
from .shards import ShardPairs


def open_pairs(
    data: Path, modality: str, anchor: str, *, split: str, by_concept: bool, buffer: int, index: Path | None = None
) -> PairSet:
    """The pairs of a folder: ``pairs.csv`` if it has one, else its ``*.tar`` shards. A csv's own path is taken too.

    Raises:
        InputError: the folder has neither; or what is there cannot be used.
    """
    if data.is_file():
        return CsvPairs(data, modality, anchor, split=split, by_concept=by_concept)
    if (data / CSV_NAME).is_file():
        return CsvPairs(data / CSV_NAME, modality, anchor, split=split, by_concept=by_concept)
    if shards := sorted(data.glob("*.tar")):
        return ShardPairs(shards, modality, anchor, split=split, by_concept=by_concept, buffer=buffer, index=index)
    raise UnreadableError(
        f"{data}: wanted a folder with {CSV_NAME} (columns {anchor} and {modality}) or with *.tar shards, found neither"
    )
