"""Pictures as text, one row of numbers a line: what infrared and depth software exports as CSV."""

from __future__ import annotations

import codecs
import math
from typing import IO, NamedTuple

import numpy as np

from ..errors import TooLargeError, UnreadableError
from .sources import one_line

DELIMITERS = (";", "\t", ",", None)  # None is white space
HEAD_BYTES = 1 << 16  # within which a row of numbers must lie
WHOLE = np.iinfo(np.int32)


class Form(NamedTuple):
    """How the rows of a table look: what parts the cells, how many there are, whether the first is a word."""

    delimiter: str | None
    width: int
    named: bool


def read_numbers(file: IO[bytes], name: str, wanted: str, *, limit: int) -> np.ndarray | None:
    """A table of numbers, with ``;``, tab, ``,`` or white space between them, and a point or a comma in them.

    Lines before the rows are a header. A first column of words ("Frame 1;20,5;...") is left out, and so are the
    numbers 0, 1, 2 ... that pandas writes above and beside a table.

    Args:
        file: seekable, at its start.
        limit: numbers that a table may hold.

    Returns:
        (H, W) float64 with NaN for blanks, or int32 with 0 for blanks where all are whole numbers without a decimal
        point. None: this is no such text.

    Raises:
        UnreadableError, TooLargeError: naming the source and the line.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    encoding = "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in head:
        return None
    if not any(map(_form, head.decode(encoding, "replace").splitlines())):
        return None
    rows: list[np.ndarray] = []
    form, whole = None, True
    for number, line in enumerate(codecs.getreader(encoding)(file, "replace"), 1):
        if not line.strip():
            continue
        if len(rows) < 2 and ((found := _form(line)) is None or form is None or found[:2] != form[:2]):
            rows, form, whole = [], found, True  # what came before was a header
        if form is None:
            continue
        cells = _cells(line, form.delimiter)
        rows.append(_row(cells, form, f"{name}: line {number}"))
        whole = whole and all(cell.lstrip("+-").isdigit() or cell in ("", "nan") for cell in cells[form.named :])
        if len(rows) * form.width > limit:
            raise TooLargeError(f"{name}: {wanted} of so many numbers is refused; the limit is {limit} pixels")
    if not rows:
        raise UnreadableError(f"{name}: wanted {wanted}, its rows of numbers are not alike")
    table = _without_names(np.stack(rows), form.named)
    filled = np.nan_to_num(table, nan=0.0)
    return filled.astype(np.int32) if whole and (np.abs(filled) <= WHOLE.max).all() else table


def _form(line: str) -> Form | None:
    """None: this is no row of two numbers and more."""
    for delimiter in DELIMITERS:
        first, *others = _cells(line, delimiter)
        values = list(map(_number, others))
        value = _number(first)
        if None not in values and sum(map(math.isfinite, [v for v in (value, *values) if v is not None])) > 1:
            return Form(delimiter, 1 + len(others), value is None)
    return None


def _row(cells: list[str], form: Form, place: str) -> np.ndarray:
    if len(cells) != form.width:
        raise UnreadableError(
            f"{place} has {len(cells)} cells, those before have {form.width}; wanted one picture a file, "
            "a row of numbers a line"
        )
    values = list(map(_number, cells))
    if form.named and values[0] is None:
        values[0] = math.nan
    if None in values:
        raise UnreadableError(f"{place}: wanted numbers, got {one_line(cells[values.index(None)], 40)!r}")
    return np.array(values)


def _cells(line: str, delimiter: str | None) -> list[str]:
    cells = [cell.strip().strip('"') for cell in line.strip("\r\n").split(delimiter)] or [""]
    if len(cells) > 1 and not cells[-1]:  # a delimiter ends the line
        cells.pop()
    return cells if delimiter == "," else [cell.replace(",", ".") for cell in cells]


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell else math.nan
    except ValueError:
        return None


def _without_names(table: np.ndarray, named: bool) -> np.ndarray:
    sides = (table[0, 1:], table[1:, 0])
    if np.isnan(table[0, 0]) and len(table) > 1 and all(np.array_equal(side, np.arange(len(side))) for side in sides):
        return table[1:, 1:]
    return table[:, 1:] if named else table
