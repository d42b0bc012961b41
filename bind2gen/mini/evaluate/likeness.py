"""Variety and memorisation: how far generated pictures lie from each other and from the training photos.

Every distance is set against the same distance between real photos, for no number of pixels says much by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

THUMBNAIL = 16  # pixels; pictures are compared at this size, so that a shift by a pixel does not count
PHOTOS_OF_A_CONCEPT = 40  # held-out photos whose pairs say how varied real ones are
BLOCK = 256  # queries compared at a time, to bound memory
CLOSE = 1.0  # percentile of the held-out photos' distances; nearer than that is suspicious
TINY = 1e-9  # distance that stands for none, so that a ratio exists


@dataclass(frozen=True)
class Variety:
    """Mean over pairs of one concept, then over concepts: two seeds of one sound, beside two held-out photos.

    Attributes:
        pixels, pixels_of_photos: mean absolute difference, 0..255 levels.
        cosine, cosine_of_photos: of the model's image embeddings.
    """

    pixels: float
    pixels_of_photos: float
    cosine: float
    cosine_of_photos: float


def mean_pixel_difference(pixels: np.ndarray) -> float:
    """Mean absolute difference of all pairs of (N, H, W, 3) uint8 pictures, 0..255 levels; N at least 2."""
    flat = torch.from_numpy(pixels.reshape(len(pixels), -1)).float()
    return (F.pdist(flat, p=1).mean() / flat.shape[1]).item()


def mean_pair_cosine(embeds: torch.Tensor) -> float:
    """Mean cosine of all pairs of (N, D) unit-norm embeddings; N at least 2."""
    upper = torch.triu_indices(len(embeds), len(embeds), offset=1)
    return (embeds @ embeds.T)[upper[0], upper[1]].mean().item()


def variety(
    seeds: list[tuple[np.ndarray, torch.Tensor]], photos: list[tuple[np.ndarray, torch.Tensor]]
) -> Variety | None:
    """Compare groups of pictures with groups of photos, one of each a concept; groups of one are left out.

    Args:
        seeds: (pixels, embeddings) of pictures of one sound with different seeds.
        photos: (pixels, embeddings) of held-out photos of one concept.

    Returns:
        None if no group has a pair.
    """
    seeds, photos = ([group for group in groups if len(group[0]) > 1] for groups in (seeds, photos))
    if not seeds or not photos:
        return None
    return Variety(
        pixels=float(np.mean([mean_pixel_difference(pixels) for pixels, _ in seeds])),
        pixels_of_photos=float(np.mean([mean_pixel_difference(pixels) for pixels, _ in photos])),
        cosine=float(np.mean([mean_pair_cosine(embeds) for _, embeds in seeds])),
        cosine_of_photos=float(np.mean([mean_pair_cosine(embeds) for _, embeds in photos])),
    )


def thumbnails(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, F) such that Euclidean distance is the root mean square difference in levels."""
    parts = [torch.from_numpy(np.ascontiguousarray(pixels[i : i + 1024])) for i in range(0, len(pixels), 1024)]
    small = torch.cat([F.adaptive_avg_pool2d(p.permute(0, 3, 1, 2).float(), THUMBNAIL) for p in parts])
    return small.flatten(1) / (small[0].numel() ** 0.5)


@dataclass(frozen=True)
class Nearest:
    """The nearest training photo of each of N pictures: its place (N,) and its distance (N,)."""

    places: np.ndarray
    distances: np.ndarray


def nearest(views: list[torch.Tensor], gallery: torch.Tensor) -> Nearest:
    """Search (M, F) by Euclidean distance; of several views of the same N pictures, (N, F) each, the best counts."""
    best = torch.full((len(views[0]),), torch.inf)
    places = torch.zeros(len(views[0]), dtype=torch.long)
    for view in views:
        found = torch.cat([torch.cdist(part, gallery).argmin(1) for part in view.split(BLOCK)])
        exact = (view - gallery[found]).norm(dim=1)  # cdist is a matrix product: off by its rounding where pairs agree
        places = torch.where(exact < best, found, places)
        best = torch.minimum(exact, best)
    return Nearest(places.numpy(), best.numpy())


@dataclass(frozen=True)
class Closeness:
    """Distances from generated pictures to their nearest training photo, beside those of held-out real photos.

    Attributes:
        ratio_of_medians: generated over held-out, geometric mean over concepts; far below 1 would speak of memorising.
            Mind that smooth pictures are nearer to everything.
        share_close: share of pictures nearer than the first percentile of held-out photos of their concept, which
            about 0.01 of these photos are themselves.
        median, median_of_photos: over all pictures and over all photos.
    """

    ratio_of_medians: float
    share_close: float
    median: float
    median_of_photos: float


def closeness(pictures: Nearest, drawn: np.ndarray, photos: Nearest, seen: np.ndarray) -> Closeness | None:
    """Compare pictures of the concepts ``drawn`` with held-out photos of the concepts ``seen``.

    Returns:
        None if no concept has both.
    """
    ratios, close = [], []
    for name in sorted(set(drawn) & set(seen)):
        ours, real = pictures.distances[drawn == name], photos.distances[seen == name]
        ratios.append(max(float(np.median(ours)), TINY) / max(float(np.median(real)), TINY))
        close.append(ours < np.percentile(real, CLOSE))
    if not ratios:
        return None
    return Closeness(
        ratio_of_medians=float(np.exp(np.mean(np.log(ratios)))),
        share_close=float(np.concatenate(close).mean()),
        median=float(np.median(pictures.distances)),
        median_of_photos=float(np.median(photos.distances)),
    )
