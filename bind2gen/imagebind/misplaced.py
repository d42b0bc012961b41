"""An input under the wrong keyword, most often a first argument without one: which keyword was probably meant."""

from __future__ import annotations

import mimetypes
import os
from typing import Any

import PIL.Image

KEYWORDS = {
    "text": "words go in as text=",
    "image": "pictures go in as image= (what a detection pipeline is to find: like=)",
    "audio": "sounds go in as audio=",
    "video": "videos go in as video=",
}


def meant_as(modality: str, item: Any) -> str:
    """Which keyword an input looks made for, as the end of a message; empty where it fits ``modality``, or nothing.

    Args:
        modality: under whose keyword it came.
        item: one raw input.
    """
    kind = _kind(item)
    alike = {"image", "depth", "thermal"}  # all of them are pictures
    if kind is None or kind == modality or {kind, modality} <= alike:
        return ""
    return f"; {KEYWORDS[kind]}"


def _kind(item: Any) -> str | None:
    if isinstance(item, PIL.Image.Image):
        return "image"
    if isinstance(item, str | os.PathLike):
        guessed = (mimetypes.guess_type(os.fspath(item))[0] or "").split("/")[0]
        if guessed in KEYWORDS and guessed != "text":
            return guessed if os.path.isfile(item) else None
        return "text" if isinstance(item, str) and not os.path.exists(item) else None
    if isinstance(item, tuple) and len(item) == 2:
        ranks = [len(part.shape) for part in item if getattr(part, "shape", ())]
        return {1: "audio", 2: "audio", 4: "video"}.get(ranks[0]) if len(ranks) == 1 else None
    shape = getattr(item, "shape", ())
    if len(shape) == 3 and (shape[0] == 3 or shape[-1] in (3, 4)):
        return "image"
    return "audio" if len(shape) == 1 else None
