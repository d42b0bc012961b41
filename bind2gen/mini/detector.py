"""Training a detector of Detic's form on scenes whose boxes are named, with class vectors from a joint space.

The class vectors change from step to step: a concept is named by words, by photos or by sounds, so that the detector
answers all of them and learns none by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..hosts.boxes.detic.config import DeticConfig
from ..hosts.boxes.detic.model import DeticModel
from ..train.augment import recoloured
from ..train.loop import LoopConfig, train
from .detector_losses import Objects, cascade_loss, proposal_loss, training_regions
from .mosaics import Mosaics, Scene

CLASS_BIAS = -3.0  # of the class logits before training: most regions are of no class
REGIONS = 32  # of each picture that the cascade learns from
PROPOSAL_STEPS = 300  # the cascade learns from objects' own boxes until proposals mean something
MEAN_OF = (1, 6)  # vectors of one concept that are averaged to one class vector, at least and at most
NOISE = 0.25  # length of what is added at random to a unit-norm class vector: unseen sounds lie beside seen ones


@dataclass(frozen=True)
class ClassVectors:
    """Vectors by which concepts can be named.

    Attributes:
        concepts: C names.
        by_modality: modality -> C tensors (n, D), n at least 1.
    """

    concepts: tuple[str, ...]
    by_modality: Mapping[str, list[torch.Tensor]]

    def __post_init__(self) -> None:
        for modality, vectors in self.by_modality.items():
            if len(vectors) != len(self.concepts) or any(not len(v) for v in vectors):
                raise InputError(f"class vectors: wanted at least one {modality} vector of each concept")

    def draw(self, rng: np.random.Generator) -> torch.Tensor:
        """(C, D) unit norm: each concept by a modality of its own, a mean of a few of its vectors, a little off."""
        names, rows = list(self.by_modality), []
        for k in range(len(self.concepts)):
            vectors = self.by_modality[names[rng.integers(len(names))]][k]
            few = rng.integers(len(vectors), size=rng.integers(MEAN_OF[0], MEAN_OF[1] + 1))
            rows.append(vectors[few].mean(0))
        made = F.normalize(torch.stack(rows), dim=1)
        astray = torch.from_numpy(rng.normal(size=tuple(made.shape)).astype(np.float32))
        length = NOISE * torch.from_numpy(rng.random((len(made), 1)).astype(np.float32))
        return F.normalize(made + length * F.normalize(astray, dim=1), dim=1)


def train_detector(
    config: DeticConfig,
    scenes: Mosaics,
    vectors: ClassVectors,
    loop: LoopConfig,
    folder: Path,
    *,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 500,
) -> DeticModel:
    """Train all of a network but its masks, from scratch.

    Args:
        config: its ``mask_width`` should be 0.
        scenes: square pictures of the config's ``short_side``.
        loop, folder, evaluate, evaluate_every: as in :func:`~bind2gen.train.loop.train`.

    Raises:
        InputError: sizes do not fit, or scenes hold a concept that has no vectors.
    """
    if scenes.size != config.short_side or scenes.size % 32:
        raise InputError(f"detector: wanted scenes of {config.short_side} pixels (a multiple of 32), got {scenes.size}")
    if unknown := scenes.concepts() - set(vectors.concepts):
        raise InputError(f"detector: scenes hold {sorted(unknown)}, of which there are no class vectors")
    torch.manual_seed(loop.seed)
    model = DeticModel(config)
    for predictor in model.roi_heads.box_predictor:
        if config.class_bias:
            torch.nn.init.constant_(predictor.cls_score.cls_bias, CLASS_BIAS)
    numbers = {name: k for k, name in enumerate(vectors.concepts)}

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        drawn = [scenes.draw(rng) for _ in range(loop.batch_size)]
        objects = [_objects(scene, numbers, model.device) for scene in drawn]
        pixels = scene_pixels(drawn, config, rng).to(model.device)
        pyramid = model.backbone(pixels)
        outputs = model.proposal_generator(pyramid)
        size = (scenes.size, scenes.size)
        proposals = [torch.zeros(0, 4, device=model.device)] * len(drawn)
        if step >= PROPOSAL_STEPS:
            proposals = [found.boxes for found in model.proposal_generator.decode(outputs)]
        regions = training_regions(proposals, objects, REGIONS, size)
        class_embeds = vectors.draw(rng).to(model.device)
        where = proposal_loss(outputs, [o.boxes for o in objects])
        what = cascade_loss(model.roi_heads, pyramid, regions, objects, class_embeds, size)
        return where + what, {"proposals": where.item(), "cascade": what.item()}

    return train(model, step_loss, loop, folder, evaluate=evaluate, evaluate_every=evaluate_every)


def _objects(scene: Scene, numbers: dict[str, int], device: torch.device) -> Objects:
    classes = torch.tensor([numbers[name] for name in scene.concepts], dtype=torch.long, device=device)
    return Objects(torch.from_numpy(scene.boxes).to(device), classes)


def scene_pixels(scenes: list[Scene], config: DeticConfig, rng: np.random.Generator | None = None) -> torch.Tensor:
    """(B, 3, H, W) normalised; recoloured at random where ``rng`` is given."""
    unit = torch.from_numpy(np.stack([s.pixels for s in scenes])).permute(0, 3, 1, 2).float() / 255
    if rng is not None:
        unit = recoloured(unit, rng)
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.pixel_mean, config.pixel_std))
    return (255 * unit - mean) / std
