"""Embedding arithmetic: does a photo of one thing plus a sound of another find both? (Paper, section 4.4.)"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import InputError

FIRST = 5  # retrieved photos that count
PAIRS = 500
SEED = 0


@dataclass(frozen=True)
class Pairs:
    """Photo ``photos[i]`` goes with sound ``sounds[i]``, of another concept; both (N,) places in their sets."""

    photos: np.ndarray
    sounds: np.ndarray


def draw_pairs(seen: np.ndarray, heard: np.ndarray, count: int = PAIRS, seed: int = SEED) -> Pairs:
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
    return Pairs(np.array(photos), np.array(sounds))


def found_both(
    queries: torch.Tensor, gallery: torch.Tensor, concepts: np.ndarray, pairs: Pairs, heard: np.ndarray
) -> np.ndarray:
    """(N,) bool: the concepts of the photo and of the sound are both among the first five.

    Args:
        queries: (N, D) sums, unit norm.
        gallery: (M, D) photos, among them the query's own, which is left out of its own search.
        concepts: (M,) of the gallery.
        heard: (K,) concepts of the sounds that ``pairs.sounds`` points to.
    """
    likeness = queries @ gallery.T
    likeness[torch.arange(len(queries)), torch.from_numpy(pairs.photos)] = -torch.inf
    first = concepts[likeness.topk(min(FIRST, len(gallery) - 1)).indices.cpu().numpy()]  # (N, 5)
    sees = (first == concepts[pairs.photos][:, None]).any(1)
    hears = (first == heard[pairs.sounds][:, None]).any(1)
    return sees & hears


def chance_of_both(concepts: np.ndarray, pairs: Pairs, heard: np.ndarray) -> float:
    """What five photos drawn at random (with replacement) would score."""
    names, counts = np.unique(concepts, return_counts=True)
    share = dict(zip(names, counts / len(concepts), strict=True))
    one = np.array([share[name] for name in concepts[pairs.photos]])
    other = np.array([share[name] for name in heard[pairs.sounds]])
    return float((1 - (1 - one) ** FIRST - (1 - other) ** FIRST + (1 - one - other) ** FIRST).mean())
