"""The photographs that the image tower learns from, and those that are kept to judge it."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..preprocess import image
from .data import Sample, held_out, read_files
from .evaluate.labels import LabelledPhotos
from .raycast import figures

# Of data/mini only what is not in data/photos at a useful size: Caltech's photos are in both, under other names.
SMALL_SOURCES = frozenset({"Tiny-ImageNet", "Multi-class Weather Dataset", "cair fire set", "COCO 2017 (Flickr)"})
FIGURES = 150  # synthetic pictures of each posture
SMALL = 64  # pixels of these
SMALL_PER_LABEL = {False: 80, True: 30}  # of those, and of crops of videos: to train on, to judge on


class Photos(LabelledPhotos):
    """Those to train on and those to judge on; ``large`` are those from ``data/photos``."""

    @cached_property
    def trained(self) -> np.ndarray:
        """(N,) bool: neither held out nor of a label that is left out."""
        return ~self.held_out & ~np.isin(self.labels, self.left_out_labels)

    def unit(self, rows: np.ndarray, settings: image.ImageSettings) -> torch.Tensor:
        """(n, 3, size, size) in 0..1, by the product's own way of reading."""
        plain_settings = image.ImageSettings(size=settings.size, mean=(0.0,) * 3, std=(1.0,) * 3)
        return torch.stack([image.transform(image.load(self.files[i]), plain_settings) for i in rows])


def load_photos(data: Path) -> Photos:
    """All of ``data/photos``, of ``data/mini`` some of each label that has no larger photos, and synthetic figures."""
    large = read_files(data / "photos", "photos")
    small = [(s, b) for s, b in read_files(data / "mini", "images") if s.row["source"] in SMALL_SOURCES]
    crops = [(s, b) for s, b in read_files(data / "mini", "crops") if s.row["modality"] == "image"]
    kept = large + _some(small) + _some(crops) + _figures()
    samples, files = (list(part) for part in zip(*kept, strict=True))
    return Photos(files, samples, np.arange(len(kept)) < len(large))


def _figures() -> list[tuple[Sample, bytes]]:
    """Synthetic people who walk, sit and stand, with which movement is paired: the photos do not say what people do."""
    drawn = figures(FIGURES, np.random.default_rng(0), SMALL)
    return [(sample, webp(pixels, 90)) for sample, pixels in zip(drawn.samples, drawn.pixels, strict=True)]


def webp(pixels: np.ndarray, quality: int) -> bytes:
    """(H, W, 3) uint8 as a file; quality of 100."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", quality=quality)
    return file.getvalue()


def _some(pairs: list[tuple[Sample, bytes]]) -> list[tuple[Sample, bytes]]:
    """At most :data:`SMALL_PER_LABEL` of each label, spread over the videos, the same ones every time."""
    kept_back = held_out(Photos([], [sample for sample, _ in pairs], np.zeros(0)))
    counts: Counter = Counter()
    chosen = []
    for i in sorted(range(len(pairs)), key=lambda i: zlib.crc32(pairs[i][0].path.encode())):
        label = pairs[i][0].row.get("label") or pairs[i][0].concept
        counts[label, kept_back[i]] += 1
        if counts[label, kept_back[i]] <= SMALL_PER_LABEL[bool(kept_back[i])]:
            chosen.append(i)
    return [pairs[i] for i in sorted(chosen)]
