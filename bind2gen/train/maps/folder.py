"""The folder that a fit leaves: what was fitted, figures of what was left out, and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from ... import __version__
from ...files.atomic import written_together

METRICS, CARD = "metrics.json", "README.md"


def write_fit(folder: Path, made: ModelMixin, card: str, metrics: dict[str, Any]) -> list[Path]:
    """Write all three together; returns the paths of what lies there."""
    texts = {METRICS: json.dumps(metrics | {"bind2gen": __version__}, indent=1) + "\n", CARD: card}
    with written_together(folder) as fresh:
        made.save_pretrained(fresh)
        for name, text in texts.items():
            (fresh / name).write_text(text, encoding="utf-8")
    return sorted(path for path in folder.iterdir() if path.is_file())
