"""What visitors leave on the disk: a folder of the server's own, swept by age, and how much of it each may fill."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image

from ..errors import TooLargeError
from ..files.pictures import png_text
from .limits import MEGABYTE

PREFIX = "bind2gen-demo-"  # of the server's own folder
AGE, CHECK = 3600, 600  # s: from what age on files are deleted, and how often that is looked at
SMALLEST = 16 << 10  # bytes that any file counts for: folders and their entries are finite too
LONGEST = 60  # characters of a name


class VisitorFiles:
    """Uploads and results in one folder: deleted when they are old, and no more of them than fits.

    Args:
        folder: nothing outside it is ever written or deleted; links in it are deleted, never followed.
        age: s; a file lives that long from when it was written, or handed out anew.
        check: s between two calls of :meth:`sweep`; so long a file may lie there beyond its age.
        megabytes: of all visitors within ``age``.
        each: megabytes of one visitor within ``age``.
        clock: s since 1970.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        age: float = AGE,
        check: float = CHECK,
        megabytes: float = 4096,
        each: float = 512,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.age, self.check, self.megabytes, self.each, self.clock = age, check, megabytes, each, clock
        self._kept: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self._charges: deque[tuple[float, str, int]] = deque()  # when, whose, bytes
        self._sums: Counter[str] = Counter()  # visitor -> bytes within the age
        self._total = 0

    def keep_present(self) -> None:
        """What lies in the folder now is the page's own, and is not swept."""
        self._kept = frozenset(str(path) for path in self.folder.rglob("*") if not path.is_dir())

    def save(
        self,
        content: Image | bytes,
        name: str = "bind2gen.png",
        *,
        visitor: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> str:
        """Write a result into a folder that nobody guesses, a picture as PNG; its path.

        Args:
            name: of the file, see :func:`file_name`.
            about: what is written into a picture.

        Raises:
            TooLargeError: as of :meth:`charge`.
        """
        if not isinstance(content, bytes):
            encoded = io.BytesIO()
            content.save(encoded, "PNG", pnginfo=png_text(about or {}))
            content = encoded.getvalue()
        self.charge(visitor, max(len(content), SMALLEST))
        folder = self.folder / secrets.token_hex(16)
        folder.mkdir(parents=True)
        path = folder / name
        path.write_bytes(content)
        return str(path)

    def charge(self, visitor: str, size: int) -> None:
        """Count ``size`` bytes that a visitor is about to leave here.

        Raises:
            TooLargeError: he, or all together, would leave more than allowed.
        """
        with self._lock:
            now = self.clock()
            while self._charges and self._charges[0][0] < now - self.age - self.check:
                _, whose, gone = self._charges.popleft()
                self._total -= gone
                self._sums[whose] -= gone
                if not self._sums[whose]:
                    del self._sums[whose]
            if self._sums[visitor] + size > self.each * MEGABYTE:
                raise TooLargeError(
                    f"files: wanted at most {self.each:g} MB of uploads and pictures an hour for one address; "
                    "try again later"
                )
            if self._total + size > self.megabytes * MEGABYTE:
                raise TooLargeError("files: the server has no room for more files of visitors; try again later")
            self._charges.append((now, visitor, size))
            self._total += size
            self._sums[visitor] += size

    def sweep(self) -> set[str]:
        """Delete files older than the age, and folders that are empty as long; the paths of the files."""
        oldest, gone = self.clock() - self.age, set()
        for place, folders, names in os.walk(self.folder, topdown=False):
            for name in (*names, *folders):
                path = os.path.join(place, name)
                try:
                    about = os.lstat(path)
                    if max(about.st_mtime, about.st_ctime) > oldest or path in self._kept:
                        continue
                    if stat.S_ISDIR(about.st_mode):
                        os.rmdir(path)  # refuses those that hold anything
                    else:
                        os.unlink(path)
                        gone.add(path)
                except OSError:
                    continue
        return gone


def file_name(*words: str, suffix: str = ".png") -> str:
    """A name that every system takes, of letters, digits and hyphens, from words of a model or a visitor."""
    text = re.sub(r"[\W_]+", "-", " ".join(words).lower()).strip("-")[:LONGEST].rstrip("-")
    return (text or "bind2gen") + suffix
