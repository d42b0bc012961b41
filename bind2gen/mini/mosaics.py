"""Pictures with several boxed objects, made of small photos that hold one each: what the bundled detector learns from.

Three forms, drawn at random: a grid of whole photos; objects cut out and pasted on another photo, sharp or blurred; one
photo or video frame, enlarged. Boxes are (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ..errors import InputError
from .data import ImageSet, Sample, read_members, read_rows
from .towers import balanced_weights

FORMS = {"grid": 0.4, "pasted": 0.4, "single": 0.2}  # shares
GRIDS = (2, 3)  # photos a side
OBJECTS = (1, 4)  # pasted on one background, at least and at most
SIZES = (0.25, 0.6)  # of a pasted object's longer side, relative to the picture
MARGIN = 0.15  # of the object's size, kept around it when it is cut out: its edge is not the box's edge
LARGEST_OVERLAP = 0.1  # share of a pasted cut that may lie on an earlier one
BLURRED = 0.5  # share of backgrounds that are blurred until what is on them cannot be told, so that it gets no box
BLUR = 0.06  # radius, relative to the picture
HIDDEN = 0.4  # share of a background's object that may be pasted over; beyond that it gets no box
SMALLEST = 6.0  # pixels; a smaller side makes no box


@dataclass(frozen=True)
class Scene:
    """One picture.

    Attributes:
        pixels: (H, W, 3) uint8.
        boxes: (N, 4) float32.
        concepts: (N,) names.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    concepts: np.ndarray


@dataclass(frozen=True)
class BoxedSet:
    """Pictures of any sizes with their boxes.

    Attributes:
        pictures: (H, W, 3) uint8 each.
        boxes: (n, 4) float32 each.
        samples: their rows; one concept a picture.
    """

    pictures: list[np.ndarray]
    boxes: list[np.ndarray]
    samples: list[Sample]

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])

    def take(self, mask: np.ndarray) -> BoxedSet:
        chosen = np.flatnonzero(mask)
        return BoxedSet(*([part[i] for i in chosen] for part in (self.pictures, self.boxes, self.samples)))


def boxed(images: ImageSet) -> BoxedSet:
    """The photos that have a box; inclusive pixel numbers of the rows become exclusive edges."""
    chosen = [i for i, s in enumerate(images.samples) if s.row.get("x0")]
    boxes = [
        np.array([[float(images.samples[i].row[k]) for k in ("x0", "y0", "x1", "y1")]], np.float32) for i in chosen
    ]
    for box in boxes:
        box[:, 2:] += 1
    return BoxedSet([images.pixels[i] for i in chosen], boxes, [images.samples[i] for i in chosen])


def load_frames(folder: Path, modality: str = "image") -> BoxedSet:
    """``frames.csv`` and ``frames.tar``: whole video frames; rows of one picture are put together."""
    members, found = read_members(folder / "frames.tar"), {}
    for sample in read_rows(folder / "frames.csv"):
        if sample.row["modality"] == modality:
            box = [float(sample.row[k]) for k in ("x0", "y0", "x1", "y1")]
            found.setdefault(sample.path, (sample, []))[1].append(box)
    pictures = [np.asarray(Image.open(io.BytesIO(members[path])).convert("RGB")) for path in found]
    boxes = [np.array(rows, np.float32) for _, rows in found.values()]
    return BoxedSet(pictures, boxes, [sample for sample, _ in found.values()])


class Mosaics:
    """Draws scenes. Each depends on the random generator that is passed in and on nothing else.

    Args:
        objects: photos with one box each; they are backgrounds, too.
        frames: whole pictures that are shown as they are, besides the photos.
        size: side of a scene in pixels.

    Raises:
        InputError: no objects.
    """

    def __init__(self, objects: BoxedSet, frames: BoxedSet | None, size: int) -> None:
        if not objects.samples:
            raise InputError("mosaics: wanted photos with boxes, got none")
        self.objects, self.size = objects, size
        self.frames = frames if frames is not None and frames.samples else None
        self.weights = balanced_weights(objects.concepts())

    def concepts(self) -> set[str]:
        """All that may be on a scene."""
        return set(self.objects.concepts()) | (set(self.frames.concepts()) if self.frames is not None else set())

    def draw(self, rng: np.random.Generator, form: str | None = None) -> Scene:
        """One scene; ``form`` is a key of :data:`FORMS`, drawn by its share if None."""
        form = form or rng.choice(list(FORMS), p=list(FORMS.values()))
        make = {"grid": self._grid, "pasted": self._pasted, "single": self._single}[form]
        return _mirrored(make(rng), rng)

    def _grid(self, rng: np.random.Generator) -> Scene:
        """Whole photos side by side, in rows of unequal height and cells of unequal width."""
        pixels = np.zeros((self.size, self.size, 3), np.uint8)
        boxes, concepts = [], []
        rows = _edges(rng, int(rng.choice(GRIDS)), self.size)
        for top, bottom in zip(rows, rows[1:], strict=False):
            columns = _edges(rng, len(rows) - 1, self.size)
            for left, right in zip(columns, columns[1:], strict=False):
                k = self._choose(rng)
                photo, box = self.objects.pictures[k], self.objects.boxes[k]
                pixels[top:bottom, left:right] = _resized(photo, right - left, bottom - top)
                scale = np.array([(right - left) / photo.shape[1], (bottom - top) / photo.shape[0]] * 2)
                boxes.append(box[0] * scale + (left, top, left, top))
                concepts.append(self.objects.samples[k].concept)
        return _scene(pixels, boxes, concepts)

    def _pasted(self, rng: np.random.Generator) -> Scene:
        """Objects, cut out with a margin, on another photo."""
        behind = self._choose(rng)
        pixels = _resized(self.objects.pictures[behind], self.size, self.size)
        blurred = rng.random() < BLURRED
        if blurred:
            pixels = np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(BLUR * self.size)))
        free = np.ones((self.size, self.size), bool)
        boxes, concepts = [], []
        for k in (self._choose(rng) for _ in range(rng.integers(OBJECTS[0], OBJECTS[1] + 1))):
            patch, inner = _cut_out(self.objects.pictures[k], self.objects.boxes[k][0])
            scale = rng.uniform(*SIZES) * self.size / max(patch.shape[:2])
            wide, tall = max(1, round(patch.shape[1] * scale)), max(1, round(patch.shape[0] * scale))
            left, top = rng.integers(self.size - wide + 1), rng.integers(self.size - tall + 1)
            place = np.s_[top : top + tall, left : left + wide]
            if free[place].mean() >= 1 - LARGEST_OVERLAP:
                pixels[place], free[place] = _resized(patch, wide, tall), False
                stretch = np.array([wide / patch.shape[1], tall / patch.shape[0]] * 2)
                boxes.append(inner * stretch + (left, top, left, top))
                concepts.append(self.objects.samples[k].concept)
        box = self.objects.boxes[behind][0] * (self.size / self.objects.pictures[behind].shape[0])
        x0, y0, x1, y1 = box.round().astype(int)
        if not blurred and free[y0:y1, x0:x1].mean() >= 1 - HIDDEN:
            boxes.append(box)
            concepts.append(self.objects.samples[behind].concept)
        return _scene(pixels, boxes, concepts)

    def _single(self, rng: np.random.Generator) -> Scene:
        """One photo or video frame, with a random crop that keeps its boxes whole."""
        pool = self.frames if self.frames is not None and rng.random() < 0.5 else self.objects
        k = rng.integers(len(pool.samples)) if pool is self.frames else self._choose(rng)
        picture, found = pool.pictures[k], pool.boxes[k]
        height, width = picture.shape[:2]
        left, top = (int(rng.uniform(0, max(0.0, edge))) for edge in found[:, :2].min(0))
        right = width - int(rng.uniform(0, max(0.0, width - found[:, 2].max())))
        bottom = height - int(rng.uniform(0, max(0.0, height - found[:, 3].max())))
        pixels = _resized(picture[top:bottom, left:right], self.size, self.size)
        scale = np.array([self.size / (right - left), self.size / (bottom - top)] * 2)
        boxes = (found - (left, top, left, top)) * scale
        return _scene(pixels, list(boxes), [pool.samples[k].concept] * len(boxes))

    def _choose(self, rng: np.random.Generator) -> int:
        return int(rng.choice(len(self.weights), p=self.weights))


def _edges(rng: np.random.Generator, cells: int, size: int) -> list[int]:
    """``cells`` + 1 edges from 0 to ``size``; no cell is narrower than half the even share."""
    parts = rng.uniform(0.5, 1.5, cells)
    return [0, *np.round(np.cumsum(parts / parts.sum()) * size).astype(int).tolist()]


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _cut_out(picture: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object with a margin, and its box within the cut."""
    height, width = picture.shape[:2]
    around = MARGIN * np.array([box[2] - box[0], box[3] - box[1]])
    left, top = np.maximum(0, np.floor(box[:2] - around)).astype(int)
    right, bottom = np.minimum((width, height), np.ceil(box[2:] + around)).astype(int)
    return picture[top:bottom, left:right], box - (left, top, left, top)


def _scene(pixels: np.ndarray, boxes: list[np.ndarray], concepts: list[str]) -> Scene:
    """Boxes within the picture; those that are too small to see are left out."""
    height, width = pixels.shape[:2]
    edges = np.array(boxes, np.float32).reshape(-1, 4).clip(0, (width, height, width, height))
    seen = (edges[:, 2:] - edges[:, :2]).min(1, initial=np.inf) >= SMALLEST
    return Scene(pixels, edges[seen].astype(np.float32), np.array(concepts)[seen])


def _mirrored(scene: Scene, rng: np.random.Generator) -> Scene:
    if rng.random() < 0.5:
        return scene
    width = scene.pixels.shape[1]
    boxes = scene.boxes.copy()
    boxes[:, [0, 2]] = width - scene.boxes[:, [2, 0]]
    return Scene(np.ascontiguousarray(scene.pixels[:, ::-1]), boxes, scene.concepts)
