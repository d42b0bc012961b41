"""What a public demo needs of the library: limits, previews, stopping, nearest words, slides, boxes, search.

No user interface: the widgets are in ``demos``; anything else that serves strangers can be built on :class:`Studio`,
:class:`DetectionStudio` and :class:`~bind2gen.studio.searching.SearchStudio` (which imports a database) as well.
The names below load on first use: the command line takes words from here, and needs no detector for that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .detecting import DetectionStudio
    from .limits import Limits
    from .results import Drawing, Finds, Found, Progress, Prompt, Slide, Spotting
    from .studio import Studio

__all__ = [
    "DetectionStudio", "Drawing", "Finds", "Found", "Limits", "Progress", "Prompt", "Slide", "Spotting", "Studio",
]  # fmt: skip

_HOMES = {"DetectionStudio": "detecting", "Limits": "limits", "Studio": "studio"}  # the rest are results


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES.get(name, 'results')}", __name__), name)
