"""Embedding arithmetic: does a photo of one thing plus a sound of another find both? (Paper, section 4.4.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InputError
from ...pipelines.unclip import ImageBindUnCLIPPipeline
from ...space.index import EmbeddingIndex
from . import drawing
from .scores import NO_DATA, Row

FIRST = 5  # retrieved photos that count
DIVERSITY = 0.4  # of the search; of five values the best by a little, all from 0.2 on beat 0 by far
PAIRS = 500
SEED = 0


@dataclass(frozen=True)
class Sums:
    """Photo ``photos[i]`` goes with sound ``sounds[i]``, of another concept; both (N,) places in their sets."""

    photos: np.ndarray
    sounds: np.ndarray


def draw_pairs(seen: np.ndarray, heard: np.ndarray, count: int = PAIRS, seed: int = SEED) -> Sums:
    """Draw a photo and a sound of two different concepts, ``count`` times; concepts are equally likely.

    Args:
        seen, heard: concepts of the photos and of the sounds. Only sounds of concepts that are also seen are drawn,
            for the others could not be found.

    Raises:
        InputError: there are no two such concepts.
    """
    rng = np.random.default_rng(seed)
    images = sorted(set(seen))
    audible = sorted(set(heard) & set(seen))
    if not audible or len(images) < 2:
        raise InputError("sum of image and sound: wanted held-out photos and sounds of at least two concepts")
    photos, sounds = [], []
    for _ in range(count):
        sound = rng.choice(audible)
        photo = rng.choice([name for name in images if name != sound])
        photos.append(rng.choice(np.flatnonzero(seen == photo)))
        sounds.append(rng.choice(np.flatnonzero(heard == sound)))
    return Sums(np.array(photos), np.array(sounds))


def found_both(places: np.ndarray, concepts: np.ndarray, pairs: Sums, heard: np.ndarray) -> np.ndarray:
    """(N,) bool: the concepts of the photo and of the sound are both among what was found.

    Args:
        places: (N, 5) places of photos in the gallery; the query's own is not among them.
        concepts: (M,) of the gallery.
        heard: (K,) concepts of the sounds that ``pairs.sounds`` points to.
    """
    found = concepts[places]  # (N, 5)
    sees = (found == concepts[pairs.photos][:, None]).any(1)
    hears = (found == heard[pairs.sounds][:, None]).any(1)
    return sees & hears


def chance_of_both(concepts: np.ndarray, pairs: Sums, heard: np.ndarray) -> float:
    """What five photos drawn at random (with replacement) would score."""
    names, counts = np.unique(concepts, return_counts=True)
    share = dict(zip(names, counts / len(concepts), strict=True))
    one = np.array([share[name] for name in concepts[pairs.photos]])
    other = np.array([share[name] for name in heard[pairs.sounds]])
    return float((1 - (1 - one) ** FIRST - (1 - other) ** FIRST + (1 - one - other) ** FIRST).mean())


def judge_sums(
    pipe: ImageBindUnCLIPPipeline,
    photo_embeds: torch.Tensor,
    sound_embeds: torch.Tensor,
    moved_embeds: torch.Tensor,
    seen: np.ndarray,
    heard: np.ndarray,
) -> tuple[Row, dict[str, float]]:
    """Photo plus sound: a varied search among whitened photos; and the five nearest ones, for comparison.

    Args:
        photo_embeds, sound_embeds: (N, D) and (M, D) unit norm.
        moved_embeds: (M, D) of the sounds, as the adapter moves them.
        seen, heard: (N,) and (M,) concepts.
    """
    try:
        pairs = draw_pairs(seen, heard)
    except InputError:
        return Row(why=NO_DATA), {}
    photos, sounds, moved = photo_embeds[pairs.photos], sound_embeds[pairs.sounds], moved_embeds[pairs.sounds]
    itself = torch.from_numpy(pairs.photos)
    index, whitened = (EmbeddingIndex(photo_embeds, whiten=whiten) for whiten in (False, True))
    blended = drawing.understood(pipe, image=photos, audio=sounds)
    searches = {
        "varied": whitened.search([photos, moved], FIRST, diversity=DIVERSITY, leave_out=itself),
        "nearest": index.search(blended, FIRST, leave_out=itself),
        "plain": index.search([photos, sounds], FIRST, leave_out=itself),
    }
    share = {name: float(found_both(hits.places.numpy(), seen, pairs, heard).mean()) for name, hits in searches.items()}
    row = Row(share["varied"], chance=chance_of_both(seen, pairs, heard), items=len(pairs.photos))
    return row, {
        "sum_of_image_and_sound, the five nearest photos": share["nearest"],
        "sum_of_image_and_sound, the five nearest photos, without the adapter": share["plain"],
    }
