"""Stages ``thermal``, ``depth`` and ``imu``: small towers against frozen pictures of the image tower of stage ``see``.

As in the paper: each item is paired with a picture of its concept. No text is used; it only measures what emerges.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..imagebind.config import ImageBindConfig
from ..imagebind.model import ImageBindModel
from ..space.text_towers import EncoderText
from ..train.align import TEMPERATURES, train_modality
from ..train.loop import LoopConfig
from .figures import keep
from .photos import Photos, load_photos
from .recipe import EMBED_DIM, TOWERS
from .see import towers_of
from .sensed import JUDGED, ZeroShot, items, paired, source
from .texts import Texts
from .towers import embed

PICTURES = 100  # of each concept
# What the encoder before this one reached: 6 concepts in infrared, 18 synthetic ones in depth, 3 movements.
WANTED = {
    "thermal": {"thermal_to_text_top1": 0.872, "thermal_to_text_mean_class": 0.857},
    "depth": {"depth_to_text_top1": 0.713, "depth_to_text_mean_class": 0.713},
    "imu": {"imu_to_text_top1": 0.921, "imu_to_text_mean_class": 0.865},
}


def shown_by(photos: Photos, names: set[str]) -> np.ndarray:
    """Rows of trained photos (and synthetic figures) of the named concepts, at most :data:`PICTURES` of each."""
    rng = np.random.default_rng(0)
    of_each = [np.flatnonzero(photos.trained & (photos.concepts == name)) for name in sorted(names)]
    return np.concatenate([rng.permutation(rows)[:PICTURES] for rows in of_each])


def run_sense(texts: Texts, folder: Path, config: LoopConfig, modality: str) -> None:
    """Train one tower on the pictures of stage ``see`` beside ``folder``; write its figures and its weights."""
    data = texts.data / "mini"
    seeing, processor = towers_of(folder.parent / "see")
    judge = ZeroShot(modality, *items(data, modality, JUDGED), EncoderText(seeing, processor))
    trained_on = source(data, modality)
    photos = load_photos(texts.data)
    rows = shown_by(photos, set(trained_on.concepts()))
    anchors = embed(seeing, processor, "image", [photos.files[i] for i in rows])
    torch.manual_seed(0)
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {modality: TOWERS[modality]}))
    keep(folder, "before", judge, model, WANTED[modality])
    draw = paired(trained_on, anchors, photos.concepts[rows])
    trained = train_modality(model, modality, draw, TEMPERATURES[modality], config, folder, evaluate=judge)
    keep(folder, "after", judge, trained, WANTED[modality])


run_thermal, run_depth, run_imu = (partial(run_sense, modality=name) for name in ("thermal", "depth", "imu"))
