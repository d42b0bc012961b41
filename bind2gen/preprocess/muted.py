"""Stderr, or stdout, without what a C library writes there on its own, where it has no switch for that."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT, STDERR = 1, 2
TOKENIZERS = "Ignored unknown kwarg"  # what their Rust says on stdout of settings that it does not know
_turns = {stream: threading.RLock() for stream in (STDOUT, STDERR)}  # there is one of each


@contextmanager
def muted(mark: str = "", stream: int = STDERR) -> Iterator[list[str]]:
    """Within the block lines on the process's stderr (or stdout) are held back; with ``mark`` in them they are listed.

    The others, of other threads, are written after it. Without a mark all lines count: for what is seldom and short.
    Blocks of several threads take turns.
    """
    lines: list[str] = []
    with _turns[stream], tempfile.TemporaryFile() as held:
        try:
            before = os.dup(stream)
        except OSError:  # it is closed
            yield lines
            return
        os.dup2(held.fileno(), stream)
        try:
            yield lines
        finally:
            os.dup2(before, stream)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if mark.encode() in line:
                    lines.append(line.decode(errors="replace").strip())
                else:
                    os.write(before, line)
            os.close(before)
