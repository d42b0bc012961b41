"""Files in folders, each once, whatever links, pipes and rights there are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Found(NamedTuple):
    """A file as it was when it was found: bytes, and when it was changed, in ns."""

    path: str
    size: int
    mtime_ns: int


class Skipped(NamedTuple):
    """What was left out, and why, in words."""

    path: str
    reason: str


def walk(folders: Sequence[str], *, leave_out: str = "") -> Iterator[Found | Skipped]:
    """All files in folders and the folders in them, by absolute path, each once; what cannot be looked at as skipped.

    Links are followed, but into no folder a second time. Names that begin with a dot are passed over.

    Args:
        leave_out: a folder that is not entered: the store itself.
    """
    entered: set[tuple[int, int]] = set()
    seen: set[str] = set()
    waiting = [os.path.abspath(folder) for folder in reversed(folders)]
    while waiting:
        folder = waiting.pop()
        try:
            state = os.stat(folder)
            if (state.st_dev, state.st_ino) in entered or folder == leave_out:
                continue
            entered.add((state.st_dev, state.st_ino))
            names = sorted(os.listdir(folder))
        except OSError as error:
            yield Skipped(folder, f"the folder cannot be read ({error.strerror})")
            continue
        deeper = []
        for path in (os.path.join(folder, name) for name in names if not name.startswith(".")):
            found = _looked_at(path)
            if found is None:
                deeper.append(path)
            elif path not in seen:
                seen.add(path)
                yield found
        waiting += reversed(deeper)


def _looked_at(path: str) -> Found | Skipped | None:
    """A file, why it is none, or None: a folder."""
    try:
        state = os.stat(path)
    except OSError as error:
        links = "a link that leads nowhere" if os.path.islink(path) else f"cannot be looked at ({error.strerror})"
        return Skipped(path, links)
    if stat.S_ISDIR(state.st_mode):
        return None
    if not stat.S_ISREG(state.st_mode):
        return Skipped(path, "neither a file nor a folder (a pipe, a socket or a device)")
    try:
        path.encode()
    except UnicodeEncodeError:
        return Skipped(path, "its name is no text (UTF-8)")
    return Found(path, state.st_size, state.st_mtime_ns)
