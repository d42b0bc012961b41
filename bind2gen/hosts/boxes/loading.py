"""Detectors by file, folder or hub id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from . import GRID, PICKLES
from .saved import kind_of
from .windows import GridProposer
from .yolo.detector import MODEL_TYPE, YoloDetector

OWL_KINDS = ("owlvit", "owlv2")


def load_detector(
    source: str | os.PathLike[str], *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """A detector, or what proposes boxes.

    Args:
        source: a released Detic ``.pth``, the folder or hub id of a Detic, YOLO or OWL detector, or ``"grid"``.
        dtype: of the network; boxes and scores are float32.

    Raises:
        HostError, CheckpointError: it cannot be loaded.
    """
    if source == GRID:
        return GridProposer()
    path = Path(source)
    if path.is_file() and path.suffix.lower() in PICKLES:
        from .detic.detector import DeticDetector  # brings timm

        return DeticDetector.from_official(path, device=device, dtype=dtype)
    kind = kind_of(source)
    if kind == MODEL_TYPE:
        return YoloDetector.from_pretrained(source, device=device, dtype=dtype)
    if kind in OWL_KINDS:
        from .owl import OwlDetector  # transformers takes a second

        owl = OwlDetector.from_pretrained(source, dtype=dtype)
        owl.model.to(device)
        return owl
    from .detic.detector import DeticDetector

    return DeticDetector.from_pretrained(source, device=device, dtype=dtype)
