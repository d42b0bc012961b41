"""Stderr without what a C library writes there on its own, where it has no switch for that."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
_turn = threading.Lock()  # there is one stderr


@contextmanager
def muted(mark: str = "") -> Iterator[list[str]]:
    """Within the block lines on the process's stderr are held back; those with ``mark`` in them end up in the list.

    The others, of other threads, are written after it. Without a mark all lines count: for what is seldom and short.
    Blocks of several threads take turns.
    """
    lines: list[str] = []
    with _turn, tempfile.TemporaryFile() as held:
        try:
            before = os.dup(STDERR)
        except OSError:  # it is closed
            yield lines
            return
        os.dup2(held.fileno(), STDERR)
        try:
            yield lines
        finally:
            os.dup2(before, STDERR)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if mark.encode() in line:
                    lines.append(line.decode(errors="replace").strip())
                else:
                    os.write(before, line)
            os.close(before)
