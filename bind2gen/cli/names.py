"""What inputs are called in what is written: told apart, and without folders of this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath

from ..files.bundled import EXAMPLE_PREFIX


def display_names(values: Sequence[str], modality: str) -> list[str]:
    """Names of inputs for metadata: different files have different ones.

    A text and an example are called as they are; a relative path as it was given; absolute ones by what lies below the
    folder that they share, so a single one by its file's name. Where that would show the folders above a user's own, or
    two files would be called the same, all are called by as many last parts of their paths as tell them apart.
    """
    if modality == "text":
        return list(values)
    paths = {value: Path(os.path.abspath(value)) for value in values if not value.startswith(EXAMPLE_PREFIX)}
    shared = _shared_folder([path for value, path in paths.items() if os.path.isabs(value)])
    names = {value: _name(value, path, shared) for value, path in paths.items()}
    if None in names.values() or len(set(names.values())) < len(set(paths.values())):
        names = dict(zip(paths, _last_parts(list(paths.values())), strict=True))
    return [names.get(value, value) for value in values]


def _shared_folder(paths: list[Path]) -> Path | None:
    """The lowest folder that holds all; None where there is none, or a user's own folder lies below it."""
    try:
        shared = Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # of no path, or of two drives
        return None
    home = _home()
    return None if shared == Path(shared.anchor) or (home != shared and home.is_relative_to(shared)) else shared


def _name(value: str, path: Path, shared: Path | None) -> str | None:
    if os.path.isabs(value):
        return None if shared is None else path.relative_to(shared).as_posix()
    plain = PurePath(os.path.normpath(value))
    return path.name if plain.name in ("", "..") else plain.as_posix()  # the folder "." too has a name


def _last_parts(paths: list[Path]) -> list[str]:
    home = _home()
    parts = [(path.relative_to(home) if home in path.parents else path).parts for path in paths]
    different = len(set(parts))
    for count in range(1, max(map(len, parts)) + 1):
        names = [PurePath(*part[-count:]).as_posix().lstrip("/") for part in parts]
        if len(set(names)) == different:
            break
    return names


def _home() -> Path:
    return Path(os.path.expanduser("~"))
