"""What a command writes: checked before any weights are loaded, whole or not at all, or to standard output."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Bind2GenError
from ..files.atomic import written_whole
from ..files.own_folder import own_folder
from .arguments import UsageError

if TYPE_CHECKING:
    import argparse

    from PIL.Image import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_STEM = 80  # characters of a picture's name that are taken from its input
STDOUT = "-"
JPEG_QUALITY = 95  # of 100
SOFTWARE = 305  # tag of Exif
LOOKED_AT = 1 << 16  # bytes at both ends of a file that is to be known again
# In pictures; configs; metrics and embeddings as JSON, as safetensors (JSON in JSON), as NPZ (whose text is UTF-32).
UTF_32 = re.escape('"bind2gen": "'.encode("utf-32-le"))
MADE_HERE = re.compile(rb'bind2gen \d|"ImageBind(?:Model|Processor)"|\\?"bind2gen\\?": |' + UTF_32)


def check_out_file(out: str, suffixes: Sequence[str], args: argparse.Namespace) -> Path:
    """A file that can be written, or ``-``, standard output, where nothing else is printed then.

    Args:
        args: ``overwrite``, ``json`` and ``quiet`` are used, and ``quiet`` is set.

    Raises:
        UsageError: the suffix is none of ``suffixes``; standard output is a terminal, or taken by ``--json``.
        Bind2GenError: it is a folder, its folder is missing or write-protected, or it would overwrite a strange file.
    """
    if out == STDOUT:
        if args.json or sys.stdout.isatty():
            taken = "--json goes there" if args.json else "it is a terminal; redirect it"
            raise UsageError(f"--out {out}: wanted to write to standard output, but {taken}")
        args.quiet = True
        return Path(out)
    path = _check_place(out, suffixes)
    check_own([path], args)
    return path


def _check_place(out: str, suffixes: Sequence[str]) -> Path:
    path = Path(out)
    if path.is_dir():
        raise Bind2GenError(f"--out {out}: wanted a file, this is a folder")
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--out {out}: wanted a name ending in {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise Bind2GenError(f"--out {out}: there is no folder {path.parent}; make it first")
    _check_writable(path.parent, f"--out {out}")
    return path


def check_out_folder(
    out: str, name: str = "--out", *, files: Sequence[str] = (), args: argparse.Namespace | None = None
) -> Path:
    """A folder that is there or can be made.

    Args:
        files: names of what will be written to it; where some are there, bind2gen must have made one of them.
        args: ``overwrite`` is used.

    Raises:
        Bind2GenError: it is a file, lies under one, or is write-protected, or strange files would be overwritten.
    """
    path = Path(out)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise Bind2GenError(f"{name} {out}: wanted a folder, {there} is a file")
    _check_writable(there, f"{name} {out}")
    present = [path / file for file in files if (path / file).is_file()]
    if present and not any(map(made_here, present)):
        check_own(present, args)
    return path


def check_own(paths: Iterable[Path], args: argparse.Namespace | None) -> None:
    """Refuse to overwrite what bind2gen did not make, unless ``args.overwrite`` says so.

    Raises:
        Bind2GenError: naming the first such file.
    """
    if args is None or args.overwrite:
        return
    for path in paths:
        if path.is_file() and not made_here(path):
            raise Bind2GenError(f"{path}: is there already, and bind2gen did not make it; --overwrite replaces it")


def made_here(path: Path) -> bool:
    """Whether a file says that bind2gen wrote it; an empty one holds nothing to lose."""
    with path.open("rb") as file:
        ends = file.read(LOOKED_AT)
        file.seek(max(0, path.stat().st_size - LOOKED_AT))  # of WebP the metadata comes last
        ends += file.read()
    return not ends or MADE_HERE.search(ends) is not None


@contextmanager
def written(out: Path, stdout_suffix: str = PICTURE_SUFFIXES[0]) -> Iterator[Path]:
    """As :func:`written_whole`; ``-`` goes to standard output, in the form of ``stdout_suffix``."""
    if str(out) != STDOUT:
        with written_whole(out) as temporary:
            yield temporary
        return
    with own_folder() as folder:
        if getattr(sys.stdout, "name", "") == os.devnull:  # where main() found it closed
            raise Bind2GenError(f"--out {STDOUT}: standard output is closed")
        yield folder / f"out{stdout_suffix}"
        sys.stdout.buffer.write((folder / f"out{stdout_suffix}").read_bytes())
        sys.stdout.buffer.flush()


def save_figures(told: Mapping[str, Any], out: Path) -> None:
    """Write what was measured as JSON, whole."""
    with written(out, ".json") as temporary:
        temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def save_picture(image: Image, out: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a picture whole, with the name of its maker; PNG files carry the metadata as text, one chunk a key."""
    from ..files.pictures import MAKER, png_text

    with written(out) as temporary:
        if temporary.suffix.lower() == ".png":
            image.save(temporary, pnginfo=png_text(metadata or {}))
        else:
            exif = image.getexif()
            exif[SOFTWARE] = MAKER
            image.save(temporary, quality=JPEG_QUALITY, exif=exif)


def make_folder(folder: Path) -> None:
    """The folder of ``--out``.

    Raises:
        Bind2GenError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Bind2GenError(f"--out {folder}: cannot be made ({error.strerror})") from error


def _check_writable(folder: Path, what: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Bind2GenError(f"{what}: may not write to {folder}")


@dataclass(frozen=True)
class Destination:
    """Where pictures go: ``paths[i][k]`` is the k-th picture of input i."""

    folder: Path
    paths: list[list[Path]]


def plan_pictures(
    out: str, inputs: Mapping[str, Sequence[str]], num_images: int, args: argparse.Namespace
) -> Destination:
    """Name every picture, before any is made.

    ``--out x.png``: one input; several pictures of it become x-1.png, x-2.png. ``-``: one picture to standard output.
    Anything else is a folder, made if missing, with one picture an input, named after it.

    Raises:
        UsageError: several inputs and a single file; a suffix of no picture; two modalities of different counts.
        Bind2GenError: the place cannot be written to, or a picture would overwrite an input, or a strange file.
    """
    count = max(len(values) for values in inputs.values())
    if wrong := [name for name, values in inputs.items() if len(values) not in (1, count)]:
        words = ", ".join(f"{len(values)} of {name}" for name, values in inputs.items())
        raise UsageError(
            f"wanted one or {count} inputs of each kind, got {words} ({', '.join(wrong)} cannot be matched)"
        )
    path = Path(out)
    if out == STDOUT:
        if count * num_images > 1:
            raise UsageError(f"--out {out}: {count * num_images} pictures; name a folder")
        return Destination(Path(), [[check_out_file(out, PICTURE_SUFFIXES, args)]])
    if path.suffix and not path.is_dir() and not out.endswith(("/", os.sep)):
        target = _check_place(out, PICTURE_SUFFIXES)
        if count > 1:
            raise UsageError(f"--out {out}: {count} inputs give {count} pictures; name a folder")
        folder, stems, suffix = target.parent, [target.stem], target.suffix
    else:
        folder, suffix = check_out_folder(out), PICTURE_SUFFIXES[0]
        named_after = next(name for name in inputs if len(inputs[name]) == count)
        stems = _unique([_stem(value, named_after) for value in inputs[named_after]])
    ends = [suffix] if num_images == 1 else [f"-{k}{suffix}" for k in range(1, num_images + 1)]
    paths = [[folder / f"{stem}{end}" for end in ends] for stem in stems]
    sources = {Path(value).resolve() for name, values in inputs.items() if name != "text" for value in values}
    for picture in (picture for row in paths for picture in row):
        if picture.resolve() in sources:
            raise Bind2GenError(f"--out {out}: {picture} is an input and would be overwritten")
        if picture.is_dir():
            raise Bind2GenError(f"--out {out}: {picture} is to be a picture, but is a folder")
    check_own((picture for row in paths for picture in row), args)
    return Destination(folder, paths)


def _stem(value: str, modality: str) -> str:
    if modality != "text":
        name = Path(os.path.abspath(value)).name  # of the folder "." too
        # A folder's name has no suffix, a zipped table two.
        return (name if Path(value).is_dir() else Path(name.removesuffix(".gz")).stem)[:MAX_STEM]
    return re.sub(r"\W+", "-", value.lower()).strip("-")[:MAX_STEM] or "text"


def _unique(stems: list[str]) -> list[str]:
    """Number equal names (dog.wav and old/dog.flac: dog, dog_2) without hitting a name that is there."""
    taken, result = set(stems), []
    seen: set[str] = set()
    for stem in stems:
        name, number = stem, 2
        while name in seen or (name != stem and name in taken):
            name, number = f"{stem}_{number}", number + 1
        seen.add(name)
        result.append(name)
    return result
