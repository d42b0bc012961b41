"""Files and folders appear whole or not at all: written to a hidden folder beside the target, then renamed.

What is renamed lies on the disk before, so that neither a kill nor a power cut leaves a name without its content. The
hidden folder of a killed process goes when the next one writes to the same place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ..errors import Bind2GenError
from .own_folder import own_folder

KEY = "config.json"  # without which no loader takes a folder
WEIGHTS = ".safetensors"
_swept: set[Path] = set()  # folders without what others left


@contextmanager
def written_whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the target's place when the block ends well, and goes when not.

    The temporary path keeps the target's name, from whose suffix libraries tell the format.

    Raises:
        Bind2GenError: the system refuses to write there (full disk, missing rights, missing folder).
    """
    target = Path(target)
    with _refusals(target), _beside(target.parent) as fresh:
        try:
            yield fresh / target.name
        except Bind2GenError as error:  # of a writer that knows the hidden place alone
            raise type(error)(str(error).replace(str(fresh / target.name), str(target))) from error
        _flush(fresh / target.name)
        os.replace(fresh / target.name, target)
        _flush(target.parent)


@contextmanager
def written_together(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty folder to write to; what is in it moves to ``folder``, made if missing, when the block ends well.

    Files of the same names are replaced, others stay. A kill in between leaves what was there, or all that is new, or
    no ``config.json``: nothing ever loads a mixture of the two.

    Raises:
        Bind2GenError: as of :func:`written_whole`.
    """
    folder = Path(folder)
    with _refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as fresh:
            yield fresh
            _flush_all(fresh)
            parts = sorted((path.relative_to(fresh) for path in fresh.rglob("*") if not path.is_dir()), key=_turn)
            for part in parts:
                if part.name == KEY:
                    (folder / part).unlink(missing_ok=True)
            for part in parts:
                (folder / part).parent.mkdir(parents=True, exist_ok=True)
                os.replace(fresh / part, folder / part)
                _flush((folder / part).parent)


def swap_in(fresh: Path, current: Path) -> None:
    """Put a folder in another's place, which stays beside it as ``NAME.old``: a kill at any moment leaves one whole."""
    old = current.with_name(f"{current.name}.old")
    _flush_all(fresh)
    if current.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(current, old)
    os.rename(fresh, current)
    _flush(current.parent)


def _turn(part: Path) -> tuple[bool, bool, int, str]:
    """What tells who made a folder comes first, what makes it loadable last, that of the whole after that of parts."""
    return part.name == KEY, part.suffix == WEIGHTS, -len(part.parts), str(part)


@contextmanager
def _refusals(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Bind2GenError(f"{target}: cannot be written ({error.strerror or error})") from error


@contextmanager
def _beside(parent: Path) -> Iterator[Path]:
    """A hidden folder in ``parent``, on the same disk as what will be renamed."""
    place = parent.resolve()
    with own_folder(parent=parent, sweep=place not in _swept) as fresh:
        _swept.add(place)
        yield fresh


def _flush_all(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in (*names, "."):
            _flush(Path(place, name))


def _flush(path: Path) -> None:
    """From the system's memory to the disk; not every system does so with folders."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        with suppress(OSError) if folder else nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)
