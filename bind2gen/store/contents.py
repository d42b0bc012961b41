"""What a file is, told from its content: a still picture, a film, a sound, numbers, words, or nothing of ours."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..errors import EmptyInputError, UnreadableError
from ..files.endings import FILMS, PICTURES, SOUNDS
from ..preprocess.containers import opened_container
from ..preprocess.pillow import open_picture, quiet_pillow
from ..preprocess.sources import opened

LOOKED_AT = 4096  # bytes
DEEP = ("I;16", "I;16B", "I", "F")  # modes of pictures that hold measurements
MEASURED = (".exr", ".npy", ".npz")  # by name: nothing else tells a depth map of them
TABLES = (".csv", ".json", ".parquet", ".gz")
WORDS = (".txt", ".md")
MICROSECONDS = 1_000_000  # in a second; FFmpeg counts durations in them
CALLED = (*PICTURES, *SOUNDS, *FILMS)  # and must then be one
STILLS = ("image2", "_pipe")  # FFmpeg's names for what reads single pictures


class Content(NamedTuple):
    """What a file holds.

    Attributes:
        kind: ``"picture"``, ``"measured"`` (a picture of numbers), ``"film"``, ``"sound"``, ``"table"``, ``"words"``,
            or ``""``: nothing of these.
        sound: a film has a sound track.
        seconds: of films and sounds, where the header tells.
    """

    kind: str
    sound: bool = False
    seconds: float | None = None


def recognise(path: str) -> Content:
    """What a file holds, from its first bytes and its header; its name counts only for numbers and words.

    Raises:
        UnreadableError, EmptyInputError: it may not be read, or is called a picture, a sound or a film and is none.
    """
    suffix = Path(path).suffix.lower()
    try:
        with opened(path, "a file") as file:
            start = file.read(LOOKED_AT)
    except EmptyInputError:
        if suffix in CALLED:
            raise
        return Content("")
    if suffix in MEASURED:
        return Content("measured")
    if (still := _still(path)) is not None:
        return still
    if b"\0" not in start:  # text: FFmpeg would take it for subtitles
        kind = "table" if suffix in TABLES else "words" if suffix in WORDS else ""
        return _checked(path, suffix, Content(kind))
    if suffix in TABLES:  # Parquet, and what is packed
        return Content("table")
    return _checked(path, suffix, _played(path))


def _still(path: str) -> Content | None:
    try:
        with quiet_pillow(), open_picture(path) as picture:
            if getattr(picture, "is_animated", False):
                return Content("film")
            return Content("measured" if picture.mode in DEEP else "picture")
    except Exception:  # noqa: BLE001  (Pillow raises nearly anything on broken files)
        return None


def _played(path: str) -> Content:
    """What FFmpeg reads, from its header; nothing where it reads none."""
    try:
        with opened(path, "a recording") as file, opened_container(file, path, "a recording") as container:
            if any(word in container.format.name for word in STILLS):  # a picture that Pillow could not open
                return Content("")
            films = [stream for stream in container.streams.video if not _cover(stream)]
            seconds = None if container.duration is None else container.duration / MICROSECONDS
            if films:
                return Content("film", bool(container.streams.audio), seconds)
            return Content("sound", True, seconds) if container.streams.audio else Content("")
    except UnreadableError:
        return Content("")


def _cover(stream: object) -> bool:
    """Whether a track is the picture on the cover of a record."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _checked(path: str, suffix: str, found: Content) -> Content:
    if not found.kind and suffix in CALLED:
        raise UnreadableError(f"{path}: called {suffix}, but no picture, sound or film can be read of it")
    return found
