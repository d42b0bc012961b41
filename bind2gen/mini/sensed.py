"""What the bundled model's thermal, IMU and depth towers learn from and are judged on: real infrared pictures and
movements, synthetic depth maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..imagebind.model import ImageBindModel
from ..preprocess import depth, thermal
from .data import Sample, load_images, load_imu, split
from .pairings import Source, movements, one_channel
from .raycast import view_of
from .recipe import DEPTH_BASELINE, DEPTH_VIEWS, IMAGE_SIZE, IMU_SAMPLES, SENSOR_WIDTH, depth_settings, thermal_settings
from .shapes import SHAPES

COLOUR = {"thermal": 0.3, "depth": 0.0}  # largest relative change of level and contrast: depth is metric
TRAINED, JUDGED = 0, 1  # parts of the data
BATCH = 256  # items judged at a time


def source(data: Path, modality: str) -> Source:
    """Altered training items of ``"thermal"``, ``"imu"`` or ``"depth"``; ``data`` holds crops and imu."""
    if modality == "imu":
        return movements(split(load_imu(data))[TRAINED], IMU_SAMPLES)
    return one_channel(modality, *_pictures(data, modality, TRAINED), colour=COLOUR[modality])


def held_out_items(data: Path, modality: str) -> tuple[list[torch.Tensor], np.ndarray]:
    """Held-out items, each part (n, S, *sample), and their concepts in the same order."""
    if modality == "imu":
        kept = split(load_imu(data))[JUDGED]
        clips = np.zeros((len(kept.recordings), 1, 6, IMU_SAMPLES), np.float32)
        for clip, whole in zip(clips, kept.recordings, strict=True):
            clip[0, :, : whole.shape[1]] = whole[:, :IMU_SAMPLES]
        return [torch.from_numpy(clips)], kept.concepts()
    values, samples = _pictures(data, modality, JUDGED)
    return list(values[:, None].split(BATCH)), np.array([sample.concept for sample in samples])


def _pictures(data: Path, modality: str, part: int) -> tuple[torch.Tensor, list[Sample]]:
    """(N, 1, H, W) as the tower takes them, and their rows."""
    if modality == "depth":
        return synthetic_depth(DEPTH_VIEWS[part], part)
    crops = split(load_images(data, ("crops",), modality="thermal"))[part]
    grey = (np.ascontiguousarray(pixels[..., 0]) for pixels in crops.pixels)
    return torch.stack([thermal.transform(thermal.load(g), thermal_settings()) for g in grey]), crops.samples


def synthetic_depth(count: int, seed: int) -> tuple[torch.Tensor, list[Sample]]:
    """``count`` views of a shape of each concept, through the depth front end: (N, 1, H, W), and their rows."""
    rng, values, samples = np.random.default_rng([seed, 5]), [], []
    for concept in SHAPES:
        for i in range(count):
            view = view_of(concept, rng, IMAGE_SIZE)
            # A view is rendered small for speed, as if cut down from a sensor's 640 pixels: disparity is the sensor's.
            reached = np.minimum(view.depth, depth.FARTHEST)
            seen = depth.load(reached, fx=view.focal * SENSOR_WIDTH / IMAGE_SIZE, baseline=DEPTH_BASELINE)
            values.append(depth.transform(seen, depth_settings()))
            samples.append(Sample(f"synthetic/{concept}/{i}", concept, {}))
    return torch.stack(values), samples


class HeldOut:
    """Zero-shot accuracy of one modality on held-out items: a concept is right if its caption is the nearest.

    Args:
        modality: its name.
        inputs: parts of the items, (n, S, *sample) each.
        concepts: (N,) of the items.
        embed_names: names to (C, D) unit norm.
    """

    def __init__(
        self,
        modality: str,
        inputs: list[torch.Tensor],
        concepts: np.ndarray,
        embed_names: Callable[[list[str]], torch.Tensor],
    ) -> None:
        self.modality, self.inputs, self.concepts = modality, inputs, concepts
        self.names = sorted(set(concepts))
        with torch.no_grad():
            self.classes = embed_names(self.names)

    def __call__(self, judged: ImageBindModel) -> dict[str, float]:
        """Of all items, the mean over concepts, and of each concept."""
        embeds = torch.cat([judged.encode(self.modality, part) for part in self.inputs])
        right = np.array(self.names)[(embeds @ self.classes.T).argmax(1)] == self.concepts
        of_each = {name: float(right[self.concepts == name].mean()) for name in self.names}
        mean = sum(of_each.values()) / len(of_each)
        first = f"{self.modality}_to_text"
        return {f"{first}_top1": float(right.mean()), f"{first}_mean_class": mean} | of_each
