"""PyAV containers: opened from Python file objects only, so that no name in a file can reach the network or disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from ..errors import Bind2GenError, UnreadableError
from .sources import one_line

if TYPE_CHECKING:
    from av.container import InputContainer

# Playlist formats name further files; FFmpeg may open none of them.
NO_OTHER_FILES = {"protocol_whitelist": "none"}


@contextmanager
def opened_container(file: IO[bytes], name: str, wanted: str) -> Iterator[InputContainer]:
    """Open a seekable binary file with FFmpeg, from its start.

    Args:
        file: as :func:`~bind2gen.preprocess.sources.opened` gives it; stays open.
        name: what to call it in messages.
        wanted: what it should hold, for messages, e.g. ``"a video"``.

    Raises:
        UnreadableError: FFmpeg cannot open it, or fails while the caller decodes it.
    """
    import av

    file.seek(0)
    try:
        with av.open(_Reader(file), options=NO_OTHER_FILES, metadata_errors="replace") as container:
            yield container
    except Bind2GenError:
        raise
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise UnreadableError(f"{name}: wanted {wanted}, cannot decode it ({reason})") from None


def other_tracks(container: InputContainer, wanted: str) -> str:
    """What a file without a usable track of the type ``wanted`` holds instead, for messages."""
    known = ((s.type, "" if s.codec_context is not None else " of an unknown codec") for s in container.streams)
    return ", ".join(sorted({kind + doubt for kind, doubt in known} - {wanted})) or "nothing else"


class _Reader:
    """A file as FFmpeg reads it: for a place that a damaged file names and that cannot be, seeking fails in silence.

    PyAV prints the traceback of what a file's own ``seek`` raises where it raises twice.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.name = getattr(file, "name", "<none>")  # FFmpeg also judges by the suffix
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL
