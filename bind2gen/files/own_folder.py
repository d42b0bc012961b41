"""Folders that go with the process that made them: at its end, or, where it was killed, when the next one starts."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: folders of killed processes stay until somebody deletes them
    fcntl = None

PREFIX = ".bind2gen-"  # and what tempfile adds to it: nobody calls a folder of his own so
ADDED = re.compile(r"[a-z0-9_]{8}")


@contextmanager
def own_folder(prefix: str = PREFIX, parent: str | Path | None = None, *, sweep: bool = True) -> Iterator[Path]:
    """A new folder for the time of the block.

    Args:
        prefix: of its name; whoever makes folders of another kind has another one.
        parent: where; default is where the system keeps temporary files.
        sweep: delete those of killed processes first, which reads the parent.
    """
    parent = Path(tempfile.gettempdir() if parent is None else parent)
    if sweep:
        _delete_left(parent, prefix)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
            try:
                lock = _lock(name, wait=True)
            except FileNotFoundError:
                continue
            try:
                if os.path.isdir(name):  # else another process took it for one that was left, before it was locked
                    yield Path(name).resolve()
                    return
            finally:
                if lock is not None:
                    os.close(lock)


def _lock(folder: str | Path, *, wait: bool = False) -> int | None:
    """Hold a folder as long as this process lives; None if another one does, or where there are no locks."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(handle)
        return None
    return handle


def _delete_left(parent: Path, prefix: str) -> None:
    if fcntl is None:
        return
    for folder in parent.glob(f"{prefix}*"):
        try:
            about = folder.lstat()
            mine = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
            if not mine or not ADDED.fullmatch(folder.name.removeprefix(prefix)):
                continue
            lock = _lock(folder)
        except OSError:  # gone meanwhile
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)  # follows no links
            os.close(lock)
