"""Text files of motion, packed or not, line by line."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from ...errors import Bind2GenError, TooLargeError, UnreadableError
from ...files.arrays import UNPACKED
from ..sources import one_line, opened

WANTED = "motion data (CSV, Parquet, JSON, NPY or NPZ)"
LONGEST_LINE = 1 << 20  # letters
MOST_FOLD = 50  # times as large as itself a packed file may be that unpacks to more than a gigabyte


def lines_of(text: IO[str], name: str) -> Iterator[str]:
    """The lines of a text, none of which may be endless."""
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise UnreadableError(f"{name}: wanted {WANTED}, found a line of {LONGEST_LINE:,} letters and more")
        yield line


class _Unpacked(io.RawIOBase):
    """A gzip file, given up where it turns out far larger than it seems (a decompression bomb)."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._limit, self._name = max(UNPACKED, MOST_FOLD * file.seek(0, io.SEEK_END)), name
        file.seek(0)
        self._file = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        if self._file.tell() > self._limit:
            raise TooLargeError(f"{self._name}: unpacks to more than {self._limit:,} bytes, which is refused")
        return self._file.readinto(buffer)


@contextmanager
def opened_text(source: Any, name: str) -> Iterator[IO[str]]:
    """Lines of a text file, gunzipped where needed, in UTF-8 or UTF-16."""
    with opened(source, WANTED) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        raw = io.BufferedReader(_Unpacked(file, name)) if packed else file
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
        except (OSError, EOFError, zlib.error, UnicodeError, csv.Error) as error:
            reason = "it is cut off" if isinstance(error, EOFError) else one_line(error)
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({reason})") from None
