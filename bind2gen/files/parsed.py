"""JSON of strangers, by itself and in front of a safetensors file."""

from __future__ import annotations

import json
from typing import Any

SAFETENSORS_LENGTH_BYTES = 8  # a little-endian integer in front says how long the JSON header is


def parse_json(text: str | bytes) -> Any:
    """``json.loads``; what nests without end is a ValueError, as all else is that is wrong with it."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
