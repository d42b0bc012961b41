"""Figures of a stage before and after its training, in one JSON beside what was wanted."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from ..files.atomic import written_whole

logger = logging.getLogger(__name__)

FILE = "figures.json"
Measure = Callable[[torch.nn.Module], dict[str, float]]


def mean_cosine(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Of (N, D) unit rows with (N, D) unit rows."""
    return (found * wanted).sum(1).mean().item()


def keep(folder: Path, when: str, measure: Measure, model: torch.nn.Module, wanted: dict[str, float]) -> None:
    """Measure ``model`` and write what comes under ``when`` ("before", "after"); a resumed run keeps its "before"."""
    path = folder / FILE
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if when == "before" and when in kept:
        return
    with torch.no_grad():
        kept = kept | {"wanted": wanted, when: {name: round(float(v), 4) for name, v in measure(model.eval()).items()}}
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(kept, indent=1) + "\n")
    for name, least in wanted.items():
        logger.info("%s %s: %.3f, wanted %.3f", when, name, kept[when][name], least)
