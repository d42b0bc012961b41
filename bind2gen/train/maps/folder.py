"""The folder that a fit leaves: what was fitted, figures of what was left out, and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from ... import __version__
from ...files.atomic import written_whole

METRICS, CARD = "metrics.json", "README.md"


def write_fit(folder: Path, made: ModelMixin, card: str, metrics: dict[str, Any]) -> list[Path]:
    """Write all three, each file whole or not at all; returns the paths of what lies there."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save_pretrained(folder)
    texts = {METRICS: json.dumps(metrics | {"bind2gen": __version__}, indent=1) + "\n", CARD: card}
    for name, text in texts.items():
        with written_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return sorted(path for path in folder.iterdir() if path.is_file())
