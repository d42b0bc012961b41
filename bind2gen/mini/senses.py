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
from ..imagebind.processor import ImageBindProcessor
from ..preprocess import text
from ..train.align import TEMPERATURES, train_modality
from ..train.loop import LoopConfig
from .figures import keep
from .pairings import Anchors, paired
from .photos import Photos, load_photos
from .recipe import EMBED_DIM, TEMPLATES, TOWERS
from .see import towers_of
from .sensed import HeldOut, held_out_items, source
from .texts import Texts
from .towers import embed_names

PICTURES = 100  # of each concept
BATCH = 32  # pictures embedded at a time
# What the encoder before this one reached: 6 concepts in infrared, 18 synthetic ones in depth, 3 movements.
WANTED = {
    "thermal": {"thermal_to_text_top1": 0.872, "thermal_to_text_mean_class": 0.857},
    "depth": {"depth_to_text_top1": 0.713, "depth_to_text_mean_class": 0.713},
    "imu": {"imu_to_text_top1": 0.921, "imu_to_text_mean_class": 0.865},
}


def pictures_of(photos: Photos, names: set[str]) -> np.ndarray:
    """Rows of trained photos (and synthetic figures) of the named concepts, at most :data:`PICTURES` of each."""
    rng = np.random.default_rng(0)
    of_each = [np.flatnonzero(photos.trained & (photos.concepts == name)) for name in sorted(names)]
    return np.concatenate([rng.permutation(rows)[:PICTURES] for rows in of_each])


@torch.no_grad()
def anchors_of(model: ImageBindModel, processor: ImageBindProcessor, photos: Photos, rows: np.ndarray) -> Anchors:
    """Embeddings of photos, read as the product reads them."""
    parts = np.array_split(rows, len(rows) // BATCH + 1)
    values = (processor(images=[photos.files[i] for i in part])["pixel_values"] for part in parts)
    return Anchors(torch.cat([model.encode("image", part) for part in values]), photos.concepts[rows])


def run_sense(texts: Texts, folder: Path, config: LoopConfig, modality: str) -> None:
    """Train one tower on the pictures of stage ``see`` beside ``folder``; write its figures and its weights."""
    data = texts.data / "mini"
    seeing, processor = towers_of(folder.parent / "see")
    tokenize = partial(text.transform, settings=processor.text)
    named = partial(embed_names, seeing, tokenize, templates=TEMPLATES)
    judge = HeldOut(modality, *held_out_items(data, modality), named)
    items = source(data, modality)
    photos = load_photos(texts.data)
    anchors = anchors_of(seeing, processor, photos, pictures_of(photos, set(items.concepts())))
    torch.manual_seed(0)
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {modality: TOWERS[modality]}))
    keep(folder, "before", judge, model, WANTED[modality])
    draw = paired(items, anchors)
    trained = train_modality(model, modality, draw, TEMPERATURES[modality], config, folder, evaluate=judge)
    keep(folder, "after", judge, trained, WANTED[modality])


run_thermal, run_depth, run_imu = (partial(run_sense, modality=name) for name in ("thermal", "depth", "imu"))
