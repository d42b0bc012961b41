"""Where raw inputs come from: a path, bytes or an open file, always with a name that errors can quote."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ..errors import EmptyInputError, InputError, ShapeError, UnreadableError, printable

FileSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]


def is_file_source(source: Any) -> bool:
    """Whether ``source`` is a path, bytes or a file object, and not an array, a picture or a list."""
    return isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(source, "read")


def undecoded(source: Any) -> Any:
    """The file in datasets' ``{"bytes": ..., "path": ...}`` (a feature with ``decode=False``); anything else as it is.

    Raises:
        InputError: a dict with neither.
    """
    if not isinstance(source, Mapping):
        return source
    content, path = source.get("bytes"), source.get("path")
    if content is None and path is None:
        raise InputError(f"dict: wanted bytes or path in it, got {', '.join(map(str, source)) or 'no keys'}")
    if content is None:
        return path
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"dict: wanted bytes as bytes, got {type(content).__name__}")
    file = io.BytesIO(content)
    file.name = str(path or "bytes")  # for messages
    return file


def kept(source: Any) -> Any:
    """What can be opened twice: the content of a pipe with its name, anything else as it is."""
    try:
        if hasattr(source, "read"):
            once, content = not source.seekable(), source.read
        else:
            once = isinstance(source, str | os.PathLike) and Path(source).is_fifo()
            content = Path(source).read_bytes if once else None
        return undecoded({"bytes": content(), "path": source_name(source)}) if once else source
    except (OSError, ValueError, AttributeError, TypeError):  # what is wrong is said where it is opened
        return source


def source_name(source: Any) -> str:
    """What to call an input in messages: its file name, ``bytes``, ``array`` or the name of its type."""
    if isinstance(source, str | os.PathLike):
        return one_line(os.fspath(source), 200) or "'' (an empty path)"
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        return one_line(name, 200) if isinstance(name, str) else "file object"
    if hasattr(source, "shape"):
        return "array"
    return type(source).__name__


def one_line(message: object, limit: int = 300) -> str:
    """A message of a foreign library on one line, without control characters: the command line prints errors so."""
    text = printable(" ".join(str(message).split())).encode(errors="replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


@contextmanager
def opened(source: FileSource, wanted: str) -> Iterator[IO[bytes]]:
    """Open a path, bytes or a file object as a seekable binary file at its start.

    A file object of the caller is read from its start, left open, and put back to where it stood.

    Args:
        source: what to open.
        wanted: what it should hold, for messages, e.g. ``"a sound file"``.

    Raises:
        UnreadableError: there is no such file, it is a folder, or it may not be read.
        EmptyInputError: it holds no bytes.
        ShapeError: a file object opened as text.
    """
    name = source_name(source)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            if path.is_dir():
                raise UnreadableError(f"{name}: wanted {wanted}, this is a folder; pass the files in it")
            file = open(path, "rb")  # noqa: SIM115 (closed below)
            if not file.seekable():  # a pipe can be read only once
                with file:
                    file = io.BytesIO(file.read())
        except FileNotFoundError:
            raise UnreadableError(f"{name}: wanted {wanted}, there is no such file") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise UnreadableError(f"{name}: wanted {wanted}, cannot open it ({one_line(error)})") from None
        with file:
            yield _not_empty(file, name, wanted)
        return
    if isinstance(source, bytes | bytearray | memoryview):
        yield _not_empty(io.BytesIO(source), name, wanted)
        return
    try:
        seekable = source.seekable()
        position = source.tell() if seekable else 0
        file = source if seekable else io.BytesIO(source.read())
        file.seek(0)
        if not isinstance(file.read(0), bytes):
            raise ShapeError(f"{name}: wanted a file opened in binary mode, this one gives text; open it with 'rb'")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        if isinstance(error, ShapeError):
            raise
        raise UnreadableError(f"{name}: wanted {wanted}, cannot read the file object ({one_line(error)})") from None
    try:
        yield _not_empty(file, name, wanted)
    finally:
        if seekable and not source.closed:
            source.seek(position)


def _not_empty(file: IO[bytes], name: str, wanted: str) -> IO[bytes]:
    if file.seek(0, io.SEEK_END) == 0:
        raise EmptyInputError(f"{name}: wanted {wanted}, the file is empty (0 bytes)")
    file.seek(0)
    return file
