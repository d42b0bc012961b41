"""Files in and out, checked before any weights are loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundled import resolve_example
from ..errors import Bind2GenError, EmptyInputError, UnreadableError
from .arguments import UsageError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_STEM = 80  # characters of a picture's name that are taken from its input


def resolve_inputs(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Inputs with example sounds replaced by their files; every file is there, readable and not empty.

    Of IMU inputs each may be a folder.

    Raises:
        UnreadableError, EmptyInputError: naming the file.
    """
    resolved = {name: list(values) for name, values in given.items()}
    resolved |= {"audio": [resolve_example(value) for value in given["audio"]]} if "audio" in given else {}
    for name, values in resolved.items():
        for value in values if name != "text" else []:
            check_file(value, name)
        if name == "text" and not all(value.strip() for value in values):
            raise EmptyInputError("--text: wanted a sentence, got an empty one")
    return resolved


def check_file(value: str, modality: str) -> None:
    """One input is there, readable and not empty; raises as :func:`resolve_inputs`."""
    path = Path(value)
    if path.is_dir():
        if modality == "imu":  # phones export a folder; what is in it the loader finds out
            return
        raise UnreadableError(f"{value}: wanted {modality} files, this is a folder; pass the files in it")
    if not path.exists():
        raise UnreadableError(f"{value}: no such file")
    if not os.access(path, os.R_OK):
        raise UnreadableError(f"{value}: may not be read (permissions)")
    if path.is_file() and path.stat().st_size == 0:
        raise EmptyInputError(f"{value}: the file is empty (0 bytes)")


def check_out_file(out: str, suffixes: Sequence[str]) -> Path:
    """A file that can be written.

    Raises:
        UsageError: the suffix is none of ``suffixes``.
        Bind2GenError: it is a folder, or its folder is missing or write-protected.
    """
    path = Path(out)
    if path.is_dir():
        raise Bind2GenError(f"--out {out}: wanted a file, this is a folder")
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"--out {out}: wanted a name ending in {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise Bind2GenError(f"--out {out}: there is no folder {path.parent}; make it first")
    _check_writable(path.parent, f"--out {out}")
    return path


def check_out_folder(out: str, name: str = "--out") -> Path:
    """A folder that is there or can be made.

    Raises:
        Bind2GenError: it is a file, lies under one, or is write-protected.
    """
    path = Path(out)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise Bind2GenError(f"{name} {out}: wanted a folder, {there} is a file")
    _check_writable(there, f"{name} {out}")
    return path


def _check_writable(folder: Path, what: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Bind2GenError(f"{what}: may not write to {folder}")


@dataclass(frozen=True)
class Destination:
    """Where pictures go: ``paths[i][k]`` is the k-th picture of input i."""

    folder: Path
    paths: list[list[Path]]


def plan_pictures(out: str, inputs: Mapping[str, Sequence[str]], num_images: int) -> Destination:
    """Name every picture, before any is made.

    ``--out x.png``: one input; several pictures of it become x-1.png, x-2.png. Anything else is a folder, made if
    missing, with one picture an input, named after it.

    Raises:
        UsageError: several inputs and a single file; a suffix of no picture; two modalities of different counts.
        Bind2GenError: the place cannot be written to, or a picture would overwrite an input.
    """
    count = max(len(values) for values in inputs.values())
    if wrong := [name for name, values in inputs.items() if len(values) not in (1, count)]:
        words = ", ".join(f"{len(values)} of {name}" for name, values in inputs.items())
        raise UsageError(
            f"wanted one or {count} inputs of each kind, got {words} ({', '.join(wrong)} cannot be matched)"
        )
    path = Path(out)
    if path.suffix and not path.is_dir() and not out.endswith(("/", os.sep)):
        target = check_out_file(out, PICTURE_SUFFIXES)
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
