"""PyAV containers: opened from Python file objects only, so that no name in a file can reach the network or disk."""

from __future__ import annotations

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
        with av.open(file, options=NO_OTHER_FILES, metadata_errors="replace") as container:
            yield container
    except Bind2GenError:
        raise
    except (av.FFmpegError, OSError, ValueError, RuntimeError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise UnreadableError(f"{name}: wanted {wanted}, cannot decode it ({reason})") from None
