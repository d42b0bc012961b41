"""Tables of numbers in files, read block by block: CSV and its kin (also gzipped), white-space text, Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

import numpy as np

from ..errors import Bind2GenError, DependencyError, EmptyInputError, InputError, UnreadableError
from .sources import one_line, opened, source_name

WANTED = "motion data (CSV, Parquet, NPY or NPZ)"
BLOCK = 1 << 14  # rows read at a time
HEAD_BYTES = 1 << 16  # that delimiter and header are judged by
DELIMITERS = (",", ";", "\t", "|")
BLANK = {"", "nan", "na", "n/a", "null", "none", "-", "nil"}
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
Block = tuple[np.ndarray, np.ndarray | None]  # values (columns, n) float64 with NaN for blanks; times (n,) as written


@dataclass(frozen=True)
class Table(ABC):
    """A file of named columns; :meth:`blocks` may be called again and again.

    Attributes:
        source: path, bytes or file object.
        name: for messages.
        names: of all columns; ``column 0``, ... where the file has no header.
        header: whether the file states names.
    """

    source: Any
    name: str
    names: tuple[str, ...]
    header: bool = True

    @abstractmethod
    def blocks(self, values: Sequence[int], time: int | None) -> Iterator[Block]:
        """The wanted columns, a few thousand rows at a time."""


def open_table(source: Any) -> Table:
    """Find out what kind of table a file is and what its columns are called.

    Raises:
        UnreadableError: it is no table; EmptyInputError: it is empty.
        DependencyError: Parquet without pyarrow.
    """
    name = source_name(source)
    with opened(source, WANTED) as file:
        magic = file.read(6)
    if magic.startswith(b"PAR1"):
        return _parquet_table(source, name)
    if magic.startswith(b"PK"):
        raise UnreadableError(f"{name}: wanted {WANTED}, this is a zip archive; unzip it and pass the folder")
    return _text_table(source, name)


# ---- text ----


@dataclass(frozen=True)
class TextTable(Table):
    """Text with one row a line. ``delimiter`` None is white space; ``skip`` lines come before the first row."""

    delimiter: str | None = ","
    skip: int = 1
    decimal_comma: bool = False

    def blocks(self, values: Sequence[int], time: int | None) -> Iterator[Block]:
        wanted = [*values, *([] if time is None else [time])]
        row = self.skip
        with _text(self.source, self.name) as text:
            for _ in islice(text, self.skip):
                pass
            while lines := list(islice(text, BLOCK)):
                filled = [line for line in lines if line.strip()]
                if filled:
                    yield self._block(filled, wanted, time, row, last=len(lines) < BLOCK)
                row += len(lines)

    def _block(self, lines: list[str], wanted: list[int], time: int | None, row: int, *, last: bool) -> Block:
        try:
            if self.decimal_comma:
                raise ValueError("numpy reads points only")
            table = np.loadtxt(
                lines, delimiter=self.delimiter, usecols=wanted, ndmin=2, comments=None, quotechar='"', dtype=np.float64
            ).T  # (columns, n)
        except ValueError:  # blanks, texts, short rows: slower, but says what and where
            return self._careful_block(lines, wanted, time, row, last=last)
        return (table, None) if time is None else (table[:-1], table[-1])

    def _careful_block(self, lines: list[str], wanted: list[int], time: int | None, row: int, *, last: bool) -> Block:
        rows = [self.cells(line) for line in lines]
        if last and len(rows) > 1 and len(rows[-1]) < len(self.names):  # the recorder was stopped while writing
            rows.pop()
        for number, cells in enumerate(rows):
            if len(cells) <= max(wanted):
                raise UnreadableError(
                    f"{self.name}: line {row + number + 1} has {len(cells)} columns, the header has {len(self.names)}; "
                    "the file may be damaged"
                )
        values = wanted if time is None else wanted[:-1]
        table = np.array([[self._number(cells[c], c, row + i) for c in values] for i, cells in enumerate(rows)])
        if time is None:
            return table.T, None
        texts = [cells[time].strip() for cells in rows]
        if all(NUMBER.fullmatch(text) or text.lower() in BLANK for text in texts):
            times = np.array([self._number(text, time, row + i) for i, text in enumerate(texts)])
        else:
            times = np.array(texts)
        return table.T, times

    def cells(self, line: str) -> list[str]:
        if self.delimiter is None:
            return line.split()
        return next(csv.reader([line], delimiter=self.delimiter), [])

    def _number(self, cell: str, column: int, row: int) -> float:
        text = cell.strip()
        if text.lower() in BLANK:
            return np.nan
        try:
            return float(text.replace(",", ".") if self.decimal_comma else text)
        except ValueError:
            raise InputError(
                f"{self.name}: wanted a number in column {one_line(self.names[column], 60)}, line {row + 1}, "
                f"got {one_line(text, 40)!r}"
            ) from None


@contextmanager
def _text(source: Any, name: str) -> Iterator[IO[str]]:
    """Lines of a text file, gunzipped where needed, in UTF-8 or UTF-16."""
    with opened(source, WANTED) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        raw = gzip.GzipFile(fileobj=file) if packed else file
        try:
            mark = raw.read(2)
            raw.seek(0)
            encoding = "utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
            text = io.TextIOWrapper(raw, encoding=encoding, errors="replace")
            try:
                yield text
            finally:
                text.detach()  # so that it does not close the caller's file
        except Bind2GenError:
            raise
        except (OSError, EOFError, zlib.error, UnicodeError) as error:
            reason = "it is cut off" if isinstance(error, EOFError) else one_line(error)
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({reason})") from None


def _text_table(source: Any, name: str) -> TextTable:
    with _text(source, name) as text:
        head = text.read(HEAD_BYTES)
    if not head.strip():
        raise EmptyInputError(f"{name}: wanted {WANTED}, the file holds nothing")
    if "\0" in head or head.count("\ufffd") > len(head) // 20:
        raise UnreadableError(f"{name}: wanted {WANTED}, this is no table of numbers")
    lines = head.splitlines()
    lines = lines[:-1] if len(head) == HEAD_BYTES and len(lines) > 1 else lines
    for delimiter in (*sorted(DELIMITERS, key=lambda mark: -_steady_count(lines, mark)), None):
        probe = TextTable(source, name, (), True, delimiter)
        rows = [probe.cells(line) for line in lines]
        first = next((i for i, cells in enumerate(rows) if _numbers(cells) >= 3), None)
        if first is not None:
            return _with_header(probe, rows, first)
    raise UnreadableError(f"{name}: wanted {WANTED}, found no line with three numbers or more")


def _steady_count(lines: list[str], mark: str) -> int:
    """How many of a delimiter most lines hold at least; decimal commas lose to the true delimiter."""
    counts = sorted(line.count(mark) for line in lines if line.strip())
    header = max((line.count(mark) for line in lines[:3]), default=0)  # names hold no decimal commas
    return min(counts[len(counts) // 2], header) if counts else 0


def _numbers(cells: list[str]) -> int:
    return sum(NUMBER.fullmatch(cell.strip()) is not None for cell in cells)


def _with_header(probe: TextTable, rows: list[list[str]], first: int) -> TextTable:
    above = [i for i in range(first) if any(cell.strip() for cell in rows[i])]
    header = rows[above[-1]] if above else None
    if header is not None and len(header) != len(rows[first]):
        header = [cell for cell in header if cell.strip()]  # a delimiter at the end of one of the two lines
        if len(header) < len(rows[first]) - 1:
            header = None
    width = len(rows[first])
    names = tuple(cell.strip().lstrip("#%").strip() for cell in header or ()) or tuple(
        f"column {i}" for i in range(width)
    )
    comma = probe.delimiter != "," and any("," in cell for cell in rows[first] if NUMBER.fullmatch(cell.strip()))
    return TextTable(probe.source, probe.name, names, header is not None, probe.delimiter, first, comma)


# ---- Parquet ----


@dataclass(frozen=True)
class ParquetTable(Table):
    """Columns of a Parquet file."""

    def blocks(self, values: Sequence[int], time: int | None) -> Iterator[Block]:
        wanted = [*values, *([] if time is None else [time])]
        with _parquet(self.source, self.name) as file:
            for batch in file.iter_batches(batch_size=BLOCK, columns=sorted({self.names[c] for c in wanted})):
                columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}
                table = [self._numbers(columns[self.names[c]], c) for c in values]
                if batch.num_rows:
                    yield np.stack(table), None if time is None else columns[self.names[time]]

    def _numbers(self, column: np.ndarray, number: int) -> np.ndarray:
        try:
            return column.astype(np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.name}: wanted numbers in column {one_line(self.names[number], 60)}, got {column.dtype}"
            ) from None


@contextmanager
def _parquet(source: Any, name: str) -> Iterator[Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DependencyError(f"{name}: reading Parquet needs pyarrow: pip install pyarrow") from None
    with opened(source, WANTED) as file:
        try:
            # Neither mapped nor read ahead: the memory used does not grow with the file.
            yield pyarrow.parquet.ParquetFile(file, pre_buffer=False)
        except Bind2GenError:
            raise
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({one_line(error)})") from None


def _parquet_table(source: Any, name: str) -> ParquetTable:
    with _parquet(source, name) as file:
        if file.metadata.num_rows == 0:
            raise EmptyInputError(f"{name}: the table has no rows")
        return ParquetTable(source, name, tuple(file.schema_arrow.names))
