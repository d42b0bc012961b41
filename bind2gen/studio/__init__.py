"""What a public demo needs of the library: limits, previews, stopping, nearest words, slides, boxes, search.

No user interface: the widgets are in ``demos``; anything else that serves strangers can be built on :class:`Studio`,
:class:`DetectionStudio` and :class:`~bind2gen.studio.searching.SearchStudio` (which imports a database) as well.
"""

from __future__ import annotations

from .detecting import DetectionStudio
from .limits import Limits
from .results import Drawing, Finds, Found, Progress, Prompt, Slide, Spotting
from .studio import Studio

__all__ = [
    "DetectionStudio", "Drawing", "Finds", "Found", "Limits", "Progress", "Prompt", "Slide", "Spotting", "Studio",
]  # fmt: skip
