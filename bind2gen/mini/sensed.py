"""What the bundled model's thermal, IMU and depth towers learn from and are judged on: real infrared pictures and
movements, synthetic depth maps; each is paired with a random photo (or synthetic picture) of its concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..preprocess import depth, imu, thermal
from ..space.vocabulary import EmbedTexts, embed_names
from ..train.align import Pairs
from ..train.augment import augment_movements, augment_photos
from ..train.loop import half_precision
from .data import Sample, SampleSet, load_images, load_imu, split
from .evaluate.verdicts import nearest_class
from .raycast import view_of
from .recipe import DEPTH_BASELINE, DEPTH_VIEWS, IMAGE_SIZE, SENSOR_WIDTH, SETTINGS, TEMPLATES
from .shapes import SHAPES
from .towers import balanced_weights, embed

COLOUR = {"thermal": 0.3, "depth": 0.0}  # largest relative change of level and contrast: depth is metric
TRAINED, JUDGED = 0, 1  # parts of the data
BATCH = 64  # items altered at a time


@dataclass(frozen=True)
class Source(SampleSet):
    """Training items of one modality.

    Attributes:
        modality: its name.
        samples: what each item is.
        make: ``(rng, chosen) -> (len(chosen), 1, *sample)``: a freshly altered clip of each chosen item.
    """

    modality: str
    samples: list[Sample]
    make: Callable[[np.random.Generator, np.ndarray], torch.Tensor]


def paired(source: Source, anchors: torch.Tensor, shown: np.ndarray) -> Callable[[np.random.Generator, int], Pairs]:
    """Draws items, rare concepts lifted, each with a random picture of its concept.

    Args:
        anchors, shown: frozen embeddings of pictures, (N, D) unit norm, and their concepts (N,).

    Raises:
        InputError: there is no picture of some concept, or there is but one concept: nothing to tell it apart from.
    """
    concepts = source.concepts()
    if len(set(concepts)) < 2:
        raise InputError(f"{source.modality}: wanted items of two concepts or more, got {sorted(set(concepts))}")
    rows = {name: np.flatnonzero(shown == name) for name in set(concepts)}
    if missing := sorted(name for name, found in rows.items() if not len(found)):
        raise InputError(f"{source.modality}: wanted pictures of each concept to pair with, have none of {missing}")
    weights = balanced_weights(concepts)
    groups = torch.from_numpy(np.unique(concepts, return_inverse=True)[1])

    def draw(rng: np.random.Generator, count: int) -> Pairs:
        chosen = rng.choice(len(weights), count, p=weights)
        inputs = source.make(rng, chosen)
        pictures = np.array([rng.choice(rows[name]) for name in concepts[chosen]])
        return Pairs(inputs, anchors[pictures], groups[chosen])

    return draw


@torch.no_grad()
def embed_altered(model: ImageBindModel, source: Source, seed: int) -> torch.Tensor:
    """(N, D) unit norm, of one altered clip of each item."""
    rng = np.random.default_rng([seed, 1])
    batches = np.split(np.arange(len(source.samples)), range(BATCH, len(source.samples), BATCH))
    with half_precision():
        return torch.cat([model.encode(source.modality, source.make(rng, chosen)) for chosen in batches])


def one_channel(modality: str, values: torch.Tensor, samples: list[Sample], *, colour: float) -> Source:
    """Crops and mirror images of infrared pictures or depth maps.

    Args:
        modality: ``"thermal"`` or ``"depth"``.
        values: (N, 1, H, W) as the tower takes them.
        samples: their rows.
        colour: largest relative change of level and contrast; 0 where values are metric.
    """
    low, high = values.amin(), values.amax()  # augmentations work on 0..1

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        unit = ((values[chosen] - low) / (high - low)).expand(-1, 3, -1, -1)
        altered = augment_photos(unit, rng, area=(0.4, 1.0), colour=colour)[:, :1]
        return (altered * (high - low) + low)[:, None]  # (N, 1, 1, H, W)

    return Source(modality, samples, make)


def movements(recordings: list[imu.ImuRecording], samples: list[Sample], settings: imu.ImuSettings) -> Source:
    """Stretches of recordings of any rate, (N, 1, 6, samples) at that of the settings, zero-padded at the end."""
    even = [imu.resample(recording, settings).numpy() for recording in recordings]

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(augment_movements([even[i] for i in chosen], settings.samples, rng))[:, None]

    return Source("imu", samples, make)


def items(data: Path, modality: str, part: int) -> tuple[list[Any], list[Sample]]:
    """Raw inputs, as a front end of the product loads them, and their rows; ``data`` holds crops and imu."""
    if modality == "imu":
        kept = split(load_imu(data))[part]
        return kept.recordings, kept.samples
    if modality == "depth":
        return synthetic_depth(DEPTH_VIEWS[part], part)
    crops = split(load_images(data, ("crops",), modality="thermal"))[part]
    return [thermal.load(np.ascontiguousarray(pixels[..., 0])) for pixels in crops.pixels], crops.samples


def source(data: Path, modality: str) -> Source:
    """Altered training items of ``"thermal"``, ``"imu"`` or ``"depth"``."""
    raws, samples = items(data, modality, TRAINED)
    settings = SETTINGS[modality]
    if modality == "imu":
        return movements(raws, samples, settings)
    transform = {"thermal": thermal.transform, "depth": depth.transform}[modality]
    values = torch.stack([transform(raw, settings) for raw in raws])
    return one_channel(modality, values, samples, colour=COLOUR[modality])


def synthetic_depth(count: int, seed: int) -> tuple[list[depth.DepthMap], list[Sample]]:
    """``count`` views of a shape of each concept, as a depth camera sees them, and their rows."""
    rng, maps, samples = np.random.default_rng([seed, 5]), [], []
    for concept in SHAPES:
        for i in range(count):
            view = view_of(concept, rng, IMAGE_SIZE)
            # A view is rendered small for speed, as if cut down from a sensor's 640 pixels: disparity is the sensor's.
            reached = np.minimum(view.depth, depth.FARTHEST)
            maps.append(depth.load(reached, fx=view.focal * SENSOR_WIDTH / IMAGE_SIZE, baseline=DEPTH_BASELINE))
            samples.append(Sample(f"synthetic/{concept}/{i}", concept, {}))
    return maps, samples


class ZeroShot:
    """Accuracy of one modality on held-out items, read as the product reads them: the nearest caption is the answer.

    Args:
        modality: its name.
        raws, samples: see :func:`items`.
        embed_text: of the words.
    """

    def __init__(self, modality: str, raws: Sequence[Any], samples: list[Sample], embed_text: EmbedTexts) -> None:
        self.modality, self.raws = modality, raws
        self.concepts = np.array([sample.concept for sample in samples])
        self.names = tuple(sorted(set(self.concepts)))
        self.classes = embed_names(self.names, embed_text, templates=TEMPLATES)

    def __call__(self, judged: ImageBindModel) -> dict[str, float]:
        """Of all items, the mean over concepts, and of each concept."""
        processor = ImageBindProcessor.for_config(judged.config, **{self.modality: SETTINGS[self.modality]})
        embeds = embed(judged, processor, self.modality, self.raws)
        found, first = nearest_class(embeds, self.classes, self.concepts, self.names), f"{self.modality}_to_text"
        told = {f"{first}_top1": found.accuracy(), f"{first}_mean_class": found.mean_over_concepts()}
        return told | found.by_concept()
