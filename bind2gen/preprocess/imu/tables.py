"""Tables of motion, read block by block: CSV and its kin (also gzipped), white-space text, Parquet, JSON, arrays."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import (
    Bind2GenError,
    DependencyError,
    EmptyInputError,
    InputError,
    TooLargeError,
    UnreadableError,
)  # fmt: skip
from ..sources import one_line, opened, source_name
from .layouts import Columns, unit_of
from .text_files import WANTED, lines_of, opened_text

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 1 << 12  # rows of a Parquet file read at a time
LETTERS = 1 << 20  # of text at a time
# Of comments, of lines that only look empty, and of ends that must go first; a pair is looked for where its first is.
ODD = ("#", "%", "\f", "\v", "//", " \n", "\t\n", ";\n")
HEAD_BYTES = 1 << 16  # that delimiter and header are judged by
DELIMITERS = (",", ";", "\t", "|", None)  # None is white space
COMMENTS = ("#", "%", "//")
ENDS = "; \t\r\n"  # of lines with commas: WISDM's have a semicolon there
BLANK = {"", "nan", "na", "n/a", "null", "none", "-", "nil"}
LARGEST_JSON = 1 << 27  # letters, all of which are read at once
ROWS_A_BYTE = 16  # rows of a Parquet file; those of sensors that move take bytes each
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?|[-+]?(nan|inf(inity)?)", re.IGNORECASE)
Block = tuple[np.ndarray, np.ndarray | None]  # values (6, n) float64, NaN for what is missing; times (n,) as written


@dataclass(frozen=True)
class Table:
    """Columns of a data frame; of other sources see the classes below."""

    source: Any  # the frame, or path, bytes or file object
    name: str  # for messages
    names: tuple[str, ...] = ()  # of all columns; "column 0", ... where the file has no header
    header: bool = True  # the file states names
    columns: Columns | None = None  # those that are used, of sources that are no files
    rate: Any = None  # Hz, as the source states it

    def frames(self, wanted: list[int]) -> Iterator[pd.DataFrame]:
        """Columns by their numbers, a few thousand rows at a time; the index are lines or rows."""
        yield self.source.iloc[:, wanted].set_axis(wanted, axis=1)

    def blocks(self, columns: Columns, *, timed: bool = True) -> Iterator[Block]:
        """Both sensors in the table's units, gravity added, and where wanted the times; may be called again."""
        time = columns.time if timed else None
        triples = (columns.accelerometer, columns.gyroscope, columns.gravity)
        for frame in self.frames(sorted({*sum(triples, ()), *([] if time is None else [time])})):
            values = np.full((9, len(frame)), np.nan)
            for first, triple in zip((0, 3, 6), triples, strict=True):
                for row, number in enumerate(triple, first):
                    values[row] = self._numbers(frame[number], number)
            if columns.gravity:
                values[:3] += values[6:]
            # A copy: a view would hold the whole block in memory.
            yield values[:6], None if time is None else frame[time].to_numpy(copy=True)

    def _numbers(self, column: pd.Series, number: int) -> np.ndarray:
        import pandas as pd

        if pd.api.types.is_numeric_dtype(column):
            return column.to_numpy(np.float64, na_value=np.nan)
        texts = column.astype(str).str.strip().str.replace(",", ".")
        found = pd.to_numeric(texts, errors="coerce")
        if len(wrong := texts[found.isna() & column.notna() & ~texts.str.lower().isin(BLANK)]):
            place = f"column {one_line(self.names[number], 60)}, line {wrong.index[0]}"
            raise InputError(f"{self.name}: wanted a number in {place}, got {one_line(wrong.iloc[0], 40)!r}")
        return found.to_numpy(np.float64)


@dataclass(frozen=True)
class ArrayTable(Table):
    """Both sensors and times in memory: ``source`` is their only block."""

    def blocks(self, columns: Columns, *, timed: bool = True) -> Iterator[Block]:
        yield self.source[0], self.source[1] if timed else None


def open_table(source: Any) -> Table:
    """Find out what kind of table a file is and what its columns are called.

    Raises:
        UnreadableError: it is no table; EmptyInputError: it is empty.
        DependencyError: Parquet without pyarrow.
    """
    name = source_name(source)
    with opened(source, WANTED) as file:
        magic = file.read(4)
    if magic == b"PAR1":
        with _parquet(source, name) as file:
            if file.metadata.num_rows == 0:
                raise EmptyInputError(f"{name}: the table has no rows")
            return ParquetTable(source, name, tuple(file.schema_arrow.names))
    if magic.startswith(b"PK"):
        raise UnreadableError(f"{name}: wanted {WANTED}, this is a zip archive; unzip it and pass the folder")
    with opened_text(source, name) as text:
        head = text.read(HEAD_BYTES)
        if re.match(r"\s*(\[\s*)?\{", head):
            head += text.read(LARGEST_JSON)
            if len(head) >= LARGEST_JSON:
                raise TooLargeError(f"{name}: JSON of more than {LARGEST_JSON:,} letters is refused; save it as CSV")
            return _json_table(head, name)
    if not head.strip():
        raise EmptyInputError(f"{name}: wanted {WANTED}, the file holds nothing")
    if "\0" in head or head.count("\ufffd") > len(head) // 20:
        raise UnreadableError(f"{name}: wanted {WANTED}, this is no table of numbers")
    return _text_table(source, name, head.split("\n")[: -1 if len(head) == HEAD_BYTES else None])


# ---- text ----


@dataclass(frozen=True)
class TextTable(Table):
    """Text with one row a line. ``skip`` lines come before the first row."""

    delimiter: str | None = ","
    skip: int = 1
    decimal: str = "."

    def frames(self, wanted: list[int]) -> Iterator[pd.DataFrame]:
        with opened_text(self.source, self.name) as text:
            line = sum(1 for _ in islice(lines_of(text, self.name), self.skip)) + 1
            while block := text.read(LETTERS):
                short = len(block) < LETTERS
                block += "" if short or block[-1] == "\n" else next(lines_of(text, self.name), "")
                last = short or block[-1] != "\n"
                ends = block.count("\n")
                frame = self._as_it_stands(block, ends + (block[-1] != "\n"), line, wanted, last)
                if frame is None:
                    frame = self._row_by_row(block, line, wanted, last)
                line += ends
                if len(frame):
                    yield frame

    def _as_it_stands(self, block: str, lines: int, line: int, wanted: list[int], last: bool) -> pd.DataFrame | None:
        """Lines that all are rows, in one go; None where some are not, or anything else is the matter with them."""
        if any(mark[0] in block and mark in block for mark in ODD):
            return None
        if last and len(_cells(block[block.rfind("\n", 0, -1) + 1 :], self.delimiter)) < len(self.names):
            return None
        try:
            frame = self._read_csv(block, wanted)
        except (ValueError, OverflowError):
            return None
        if len(frame) != lines or frame[wanted[-1]].isna().any():  # of empty lines, too
            return None
        frame.index += line
        return frame

    def _row_by_row(self, block: str, line: int, wanted: list[int], last: bool) -> pd.DataFrame:
        ends = ENDS if self.delimiter == "," else "\r\n"
        lines = block.split("\n")
        rows = {number: row.rstrip(ends) for number, row in enumerate(lines, line) if _is_row(row)}
        if rows and last and len(_cells(rows[max(rows)], self.delimiter)) < len(self.names):
            rows.popitem()  # the recorder was stopped while writing
        try:
            frame = self._read_csv("\n".join(rows.values()), wanted)
        except (ValueError, OverflowError) as error:  # ParserError too
            raise UnreadableError(f"{self.name}: wanted {WANTED}, cannot read it ({one_line(error)})") from None
        if len(frame) != len(rows):
            raise UnreadableError(f"{self.name}: a quotation mark is not closed after line {min(rows) - 1}")
        frame.index = list(rows)
        for number in frame.index[frame[wanted[-1]].isna()]:
            if (count := len(_cells(rows[number], self.delimiter))) <= wanted[-1]:
                counts = f"line {number} has {count} columns, the header has {len(self.names)}"
                raise UnreadableError(f"{self.name}: {counts}; the file may be damaged")
        return frame

    def _read_csv(self, rows: str, wanted: list[int]) -> pd.DataFrame:
        import pandas as pd

        if not rows:
            return pd.DataFrame(columns=wanted)
        return pd.read_csv(
            io.StringIO(rows), sep=self.delimiter or r"\s+", header=None, names=range(wanted[-1] + 1), usecols=wanted,
            index_col=False, decimal=self.decimal, na_values=[*BLANK], skipinitialspace=True, skip_blank_lines=False,
            low_memory=False,
        )  # fmt: skip


def _text_table(source: Any, name: str, lines: list[str]) -> TextTable:
    def numbers(row: list[str]) -> int:
        return sum(NUMBER.fullmatch(cell) is not None for cell in row)

    filled = [line for line in lines if _is_row(line)]
    delimiter = max(DELIMITERS, key=lambda mark: sum(numbers(_cells(line, mark)) >= 3 for line in filled))
    rows = [_cells(line, delimiter) for line in lines]
    texts = [sum(cell.lower() not in BLANK for cell in row) - numbers(row) for row in rows]
    data = [i for i, row in enumerate(rows) if _is_row(lines[i]) and numbers(row) >= 3]
    if not data:
        raise UnreadableError(f"{name}: wanted {WANTED}, found no line with three numbers or more")
    usual = sorted(texts[i] for i in data)[len(data) // 2]
    first = next(i for i in data if texts[i] <= usual)  # a header may hold numbers too
    names = _header([row for row in rows[:first] if any(row)], [rows[i] for i in data if i >= first][:3])
    decimal = "," if any("," in cell for cell in rows[first] if NUMBER.fullmatch(cell)) else "."
    numbered = tuple(f"column {i}" for i in range(len(rows[first])))
    return TextTable(source, name, names or numbered, bool(names), delimiter=delimiter, skip=first, decimal=decimal)


def _header(above: list[list[str]], rows: list[list[str]]) -> tuple[str, ...]:
    """Names of columns from the lines above the first rows; none if those do not fit."""
    before, header = ([], [], *above)[-2:]
    width, first = len(rows[0]), [row[0] for row in rows]
    if sum(unit_of(cell) is not None for cell in header) >= 3 and abs(len(before) - len(header)) <= 1:
        header = [f"{cell} ({unit})" for cell, unit in zip(before, header, strict=False)]  # Shimmer's second line
    if len(header) != width:  # a delimiter at the end of one of the two lines
        header = [cell for cell in header if cell]
    unnamed = first == ["1", "2", "3"] or not NUMBER.fullmatch(first[0])  # numbers of rows, or dates before clock times
    if len(header) == width - 1 and rows[0][-1] and unnamed:
        header = ["", *header]
    return tuple(cell.lstrip("#%").strip() for cell in header) if len(header) >= width - 1 else ()


def _is_row(line: str) -> bool:
    return bool(start := line.lstrip()) and not start.startswith(COMMENTS)


def _cells(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    line = line.rstrip(ENDS if delimiter == "," else "\r\n")
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


# ---- JSON and Parquet ----


def _json_table(content: str, name: str) -> Table:
    """Records in a list, under a key or one a line, or a list under each name; lists of three are x, y, z."""
    import pandas as pd

    try:
        try:
            found = json.loads(content)
        except ValueError:
            found = [json.loads(line) for line in content.splitlines() if line.strip()]
        if isinstance(found, dict):
            lists = (part for part in found.values() if isinstance(part, list) and part and isinstance(part[0], dict))
            found = next(lists, found)
        frame = pd.json_normalize(found) if isinstance(found, list) else pd.DataFrame(found)
        for key in [key for key in frame if isinstance(frame[key].iloc[0], list) and len(frame[key].iloc[0]) == 3]:
            if not all(isinstance(cell, list) and len(cell) == 3 for cell in frame[key]):
                raise ValueError(f"{key}: wanted lists of three")
            axes = pd.DataFrame(frame.pop(key).tolist(), frame.index, columns=[f"{key}.{axis}" for axis in "xyz"])
            frame = frame.join(axes)
    except Exception as error:  # json and pandas raise many things on odd files
        raise UnreadableError(f"{name}: wanted {WANTED}, cannot read its JSON ({one_line(error)})") from None
    return Table(frame, name, tuple(map(str, frame.columns)))


@dataclass(frozen=True)
class ParquetTable(Table):
    """Columns of a Parquet file."""

    def frames(self, wanted: list[int]) -> Iterator[pd.DataFrame]:
        names = [self.names[number] for number in wanted]
        with _parquet(self.source, self.name) as file:
            for batch in file.iter_batches(batch_size=BLOCK, columns=names):
                if batch.num_rows:
                    yield batch.to_pandas()[names].set_axis(wanted, axis=1)


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
            size = file.seek(0, io.SEEK_END)
            found = pyarrow.parquet.ParquetFile(file, pre_buffer=False)
            if (rows := found.metadata.num_rows) > BLOCK + ROWS_A_BYTE * size:
                raise TooLargeError(f"{name}: {size:,} bytes that say they are {rows:,} rows are refused")
            yield found
        except Bind2GenError:
            raise
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({one_line(error)})") from None
