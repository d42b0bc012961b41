"""Photographs and sounds that no one chose, with the words that the model finds nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ...preprocess.image import upright
from ...space.everyday import EVERYDAY_WORDS
from ...space.vocabulary import Vocabulary
from ...studio.words import NearestWords
from .labels import labels_of
from .others import Judging
from .sheets import word_sheet

COUNT = 20
WORDS = 5
SEED = 0  # of the choice


def unchosen(
    judging: Judging, words: Sequence[str] | Vocabulary = EVERYDAY_WORDS
) -> tuple[Image.Image | None, list[list[str]]]:
    """A sheet of photos, and a line a sound: its label, and the words; None and [] where there are none."""
    photos, sounds, pipe = judging.data.photos, judging.data.sounds, judging.pipe
    if photos is None and sounds is None:
        return None, []
    known = NearestWords.for_pipeline(pipe, words)

    def told(modality: str, embeds: torch.Tensor) -> list[list[str]]:
        moved = pipe.adapter.shift(modality, embeds.to(pipe.device))
        return [list(known.nearest(row[None], WORDS)) for row in moved]

    sheet, lines = None, []
    if photos is not None and photos.held_out.any():
        chosen = _drawn(np.flatnonzero(photos.held_out))
        pictures = [upright(photos.files.files[i]) for i in photos.judged[chosen]]
        sheet = word_sheet(pictures, told("image", judging.photo_embeds[chosen]))
    if sounds is not None:
        chosen = _drawn(np.arange(len(sounds.clips.samples)))
        labels = labels_of([sounds.clips.samples[i] for i in chosen]).tolist()
        near = told("audio", judging.sound_embeds[chosen])
        lines = [[label, ", ".join(five)] for label, five in zip(labels, near, strict=True)]
    return sheet, lines


def _drawn(among: np.ndarray) -> np.ndarray:
    return np.sort(np.random.default_rng(SEED).choice(among, min(COUNT, len(among)), replace=False))
