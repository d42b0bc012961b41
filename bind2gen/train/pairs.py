"""Pairs of a user's own: a csv beside the files it names. (Tar shards are in :mod:`~bind2gen.train.shards`.)

One row a pair. Columns: ``image`` (a path) or ``text`` (a caption); the other modality's path under its own name,
``audio``, ``depth``, ``thermal`` or ``imu``; and, where wanted, ``concept``, ``split``, and settings of a front end for
this row alone, as ``depth.sensor`` or ``depth.fx``. Paths are relative to the csv's folder. Other columns are passed
over; a row without a split is of ``train``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Bind2GenWarning, EmptyInputError, InputError, UnreadableError
from ..modality import MODALITIES
from ..preprocess.sources import one_line

CSV_NAME = "pairs.csv"
TRAIN_SPLIT = "train"


class NamedBytes(io.BytesIO):
    """Bytes with a file name, which errors of the front ends quote."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@dataclass(frozen=True)
class Item:
    """One pair, not yet decoded.

    Attributes:
        name: for messages.
        input, anchor: what the front ends load: a path, :class:`NamedBytes`, or a caption.
        group: equal where inputs and anchors belong together.
        settings: by modality, fields of its front end's settings that differ for this pair.
    """

    name: str
    input: Any
    anchor: Any
    group: int
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


class PairSet(ABC):
    """Pairs by number, and the orders in which they may be gone through."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Item:
        """One pair.

        Raises:
            UnreadableError: it cannot be read.
        """

    @abstractmethod
    def groups(self) -> Iterator[int]:
        """What each pair's :attr:`Item.group` is, one by one; those that cannot be read are passed over."""

    @abstractmethod
    def order(self, rng: np.random.Generator) -> np.ndarray:
        """A shuffled pass over all pairs: (N,) int64, a permutation."""


class CsvPairs(PairSet):
    """Rows of a csv that have an input and an anchor; only names are kept in memory.

    Args:
        path: of the csv.
        modality, anchor: columns to take.
        split: which rows to take.
        by_concept: pairs of one concept belong together; without it, only copies of one row do.

    Raises:
        UnreadableError, InputError, EmptyInputError: no csv, a column is missing, or no row is left.
    """

    def __init__(self, path: Path, modality: str, anchor: str, *, split: str = TRAIN_SPLIT, by_concept: bool = False):
        self.folder, self.anchor, self.modality, self.name = path.parent, anchor, modality, path.name
        self._concepts = [] if by_concept else None
        inputs, anchors, lines, settings = [], [], [], {}
        incomplete = others = 0
        for line, row in _rows(path, (modality, anchor, *(("concept",) if by_concept else ()))):
            if (row.get("split") or TRAIN_SPLIT) != split:
                others += 1
                continue
            if not row[modality] or not row[anchor]:
                incomplete += 1
                continue
            if found := front_settings(row, f"{path.name} line {line}"):
                settings[len(lines)] = found
            inputs.append(row[modality].encode())
            anchors.append(row[anchor].encode())
            lines.append(line)
            if by_concept:
                self._concepts.append(concept_group(row["concept"], f"{path.name} line {line}"))
        if not lines:
            raise EmptyInputError(
                f"{path}: wanted rows with {anchor} and {modality} and split {split!r}, found none "
                f"({others} of other splits, {incomplete} with an empty cell)"
            )
        if incomplete:
            warnings.warn(
                f"{path}: {incomplete} rows without {anchor} or {modality} are left out, {len(lines)} are taken",
                Bind2GenWarning,
                stacklevel=2,
            )
        # Arrays of bytes: worker processes share their pages, where lists of objects would be copied into each.
        self._inputs, self._anchors, self._lines = np.array(inputs), np.array(anchors), np.array(lines)
        self._settings = settings

    def __len__(self) -> int:
        return len(self._lines)

    def groups(self) -> Iterator[int]:
        return iter(range(len(self)) if self._concepts is None else self._concepts)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(len(self))

    def read(self, index: int) -> Item:
        path, anchor = self._inputs[index].decode(), self._anchors[index].decode()
        return Item(
            f"{self.name} line {self._lines[index]} ({path})",
            self.folder / path,
            anchor if self.anchor == "text" else self.folder / anchor,
            index if self._concepts is None else self._concepts[index],
            self._settings.get(index, {}),
        )


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with the line each ends on, one by one."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte-order mark
            reader = csv.DictReader(file)
            have = reader.fieldnames or []
            if missing := [name for name in needed if name not in have]:
                raise InputError(
                    f"{path}: wanted the columns {', '.join(needed)}; missing are {', '.join(missing)}, "
                    f"there are {', '.join(have) or 'none'}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(
                        f"{path}: wanted {len(have)} cells in every row, line {reader.line_num} has more or fewer"
                    )
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(f"{path}: wanted a csv in UTF-8, cannot read it ({one_line(error)})") from None


def concept_group(concept: str | None, name: str) -> int:
    """A number that stands for a concept on every process.

    Raises:
        InputError: the pair has none.
    """
    if not concept:
        raise InputError(f'{name}: wanted a concept, there is none; fill it in or set positives = "pair"')
    return int.from_bytes(hashlib.blake2b(concept.encode(), digest_size=8).digest(), "big") >> 1


def front_settings(row: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Keys like ``depth.sensor`` of a row as ``{"depth": {"sensor": ...}}``; numbers are numbers, empty cells nothing.

    Raises:
        InputError: what stands before the dot is no modality.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, value in row.items():
        modality, dot, option = key.partition(".")
        if not dot or value in ("", None):
            continue
        if modality not in MODALITIES:
            raise InputError(f"{name}: {key}: wanted MODALITY.SETTING, known modalities are {', '.join(MODALITIES)}")
        found.setdefault(modality, {})[option] = _number(value)
    return found


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
