"""Example pictures of audio-prompted detection and what to look for in them; ``bind2gen.mini.scenes`` draws them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import UnreadableError
from ..files.parsed import parse_json

INDEX = "scenes.json"


@dataclass(frozen=True)
class Scene:
    """An example: a picture, and what to look for in it.

    Attributes:
        title: what its button says.
        file: of the picture, in the folder of the index.
        sounds: names of bundled example sounds.
        words: with commas between them.
    """

    title: str
    file: str
    sounds: tuple[str, ...]
    words: str = ""


def read_scenes(folder: str | os.PathLike[str]) -> list[Scene]:
    """The scenes of a folder, or none where it has no index.

    Raises:
        UnreadableError: the index is damaged.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        return []
    try:
        rows = parse_json(path.read_text(encoding="utf-8"))
        return [Scene(**(row | {"sounds": tuple(row["sounds"])})) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(f"{path}: wanted an index of example pictures, cannot read it ({error})") from None
