"""Photos that show their concept plainly: cut to the object, and chosen for how much they look like others of it.

A small host that learns from few photos learns what these share. A last training on few, well-chosen pictures
makes far better ones than more of everything (Emu, arXiv 2309.15807); here a rule chooses, not a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from .data import ImageSet, recording

MARGIN, SKY_MARGIN = 1.12, 1.25  # a square's side over the longer side of its object
SMALLEST_CUT = 32  # pixels of a side that are enlarged to a whole picture
SMALLEST_OBJECT = 22  # pixels of the longer side: smaller ones are not shown plainly
SKY_CONTRAST = 25  # levels of 255 by which an object in the sky differs from the picture's median
SKY_SHARE = 0.04  # of a picture's pixels that such an object covers at least
GRID = 4  # features of a picture are compared place by place on a grid of so many cells a side
NEIGHBOURS = 20  # most similar photos of its concept that make a photo typical
SAME = 0.995  # cosine of features above which two photos are the same one, saved twice
CERTAINTY_SCALE = 20.0  # of cosines with the concepts, to make probabilities of them
OF_A_RECORDING = 12  # frames of one video that may be chosen

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def object_box(pixels: np.ndarray, row: dict[str, str]) -> Box | None:
    """Where a picture (H, W, 3) uint8 shows its object, or None if that is unknown or too small to be seen well.

    Args:
        row: its csv row. ``x0`` to ``y1`` give the box; in a video's crop, what stands out against the sky is taken.
    """
    if row.get("x0"):
        box = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
    elif row.get("video"):
        sky = np.median(pixels.reshape(-1, 3), axis=0)
        apart = np.abs(pixels - sky).max(axis=-1) > SKY_CONTRAST
        if apart.mean() < SKY_SHARE:
            return None
        y, x = np.nonzero(apart)
        box = (np.quantile(x, 0.01), np.quantile(y, 0.01), np.quantile(x, 0.99) + 1, np.quantile(y, 0.99) + 1)
    else:
        return None
    return box if max(box[2] - box[0], box[3] - box[1]) >= SMALLEST_OBJECT else None


def cut_out(pixels: np.ndarray, row: dict[str, str], size: int | None = None) -> np.ndarray:
    """The square around a picture's object, enlarged; the whole picture if none is known.

    Args:
        pixels: (S, S, 3) uint8.
        size: of the result in pixels; absent: the picture's own.
    """
    whole, box = float(len(pixels)), object_box(pixels, row)
    if box is None:
        side, x, y = whole, whole / 2, whole / 2
    else:
        side = max(box[2] - box[0], box[3] - box[1]) * (SKY_MARGIN if row.get("video") else MARGIN)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    side = min(max(side, SMALLEST_CUT), whole)
    left, top = (min(max(value - side / 2, 0), whole - side) for value in (x, y))
    square = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(pixels).resize((size or len(pixels),) * 2, Image.Resampling.BICUBIC, box=square))


def cut_outs(images: ImageSet) -> ImageSet:
    """Every picture cut to its object (see :func:`cut_out`)."""
    pairs = zip(images.pixels, images.samples, strict=True)
    return ImageSet(np.stack([cut_out(pixels, sample.row) for pixels, sample in pairs]), images.samples)


@dataclass(frozen=True)
class Looks:
    """What N pictures look like to the encoder.

    Attributes:
        features, mirrored: (N, F) unit norm, of the pictures and of their mirror images.
        certainty: (N,) how surely the encoder names each one's concept.
    """

    features: torch.Tensor
    mirrored: torch.Tensor
    certainty: torch.Tensor


def typical_photos(images: ImageSet, looks: Looks, concepts: tuple[str, ...], count: int) -> np.ndarray:
    """(N,) bool: at most ``count`` photos of each concept that most resemble their nearest neighbours in it.

    Of a concept's photos with an object of known place and fair size (or with no known place at all but a whole
    photo's), the half is looked at that the encoder names most surely. Frames of one video do not count as
    neighbours of each other, nor does a photo that is there twice.
    """
    rows = [sample.row for sample in images.samples]
    plain = np.array(
        [
            object_box(pixels, row) is not None or not (row.get("x0") or row.get("video"))
            for pixels, row in zip(images.pixels, rows, strict=True)
        ]
    )
    names, chosen = images.concepts(), np.zeros(len(rows), bool)
    takes = np.array([recording(sample) for sample in images.samples])
    for concept in concepts:
        there = np.flatnonzero((names == concept) & plain)
        if not len(there):
            continue
        sure = looks.certainty[torch.from_numpy(there)]
        there = there[(sure >= sure.median()).numpy()]
        ours, mirrored = looks.features[there], looks.mirrored[there]
        likeness = torch.maximum(ours @ ours.T, ours @ mirrored.T)
        likeness[torch.from_numpy(takes[there][:, None] == takes[there][None])] = 0
        likeness[likeness > SAME] = 0
        density = likeness.topk(min(NEIGHBOURS, len(there))).values.mean(1)
        taken: dict[str, int] = {}
        for place in there[density.argsort(descending=True).numpy()]:
            if sum(taken.values()) < count and taken.get(takes[place], 0) < OF_A_RECORDING:
                taken[takes[place]] = taken.get(takes[place], 0) + 1
                chosen[place] = True
    return chosen
