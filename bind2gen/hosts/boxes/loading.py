"""Detectors by file, folder or hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from . import GRID, PICKLES
from .detic.detector import DeticDetector
from .saved import kind_of
from .windows import GridProposer
from .yolo.detector import MODEL_TYPE, YoloDetector

OWL_KINDS = ("owlvit", "owlv2")


def load_detector(source: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Any:
    """A detector in float32, or what proposes boxes.

    Args:
        source: a released Detic ``.pth``, the folder or hub id of a Detic, YOLO or OWL detector, or ``"grid"``.

    Raises:
        HostError, CheckpointError: it cannot be loaded.
    """
    if source == GRID:
        return GridProposer()
    path = Path(source)
    if path.is_file() and path.suffix.lower() in PICKLES:
        return DeticDetector.from_official(path, device=device)
    kind = kind_of(source)
    if kind in OWL_KINDS:
        from .owl import OwlDetector  # transformers takes a second

        owl = OwlDetector.from_pretrained(source)
        owl.model.to(device)
        return owl
    return (YoloDetector if kind == MODEL_TYPE else DeticDetector).from_pretrained(source, device=device)
