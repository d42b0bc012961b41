"""One tower against frozen embeddings of what its inputs are paired with (ImageBind paper, section 3.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from ..imagebind.model import ImageBindModel
from ..modality import MODALITIES
from .contrastive import gathered, info_nce, train_only
from .loop import LoopConfig, train

# Training temperatures of the paper's towers, table 9.
TEMPERATURES = {"audio": 0.05, "depth": 0.2, "thermal": 0.1, "imu": 0.2}


@dataclass(frozen=True)
class Pairs:
    """One batch.

    Attributes:
        inputs: (N, S, *sample) as the tower takes them.
        anchors: (N, D) unit norm, the frozen embeddings (of images, in the paper) that they belong to.
        groups: (N,) integers, equal where inputs and anchors may belong together (two dogs); None pairs by row alone.
    """

    inputs: torch.Tensor
    anchors: torch.Tensor
    groups: torch.Tensor | None = None

    def matches(self, device: torch.device) -> torch.Tensor | None:
        """What :func:`~bind2gen.train.contrastive.info_nce` takes as positives, over all processes."""
        if self.groups is None:
            return None
        groups = gathered(self.groups.to(device))
        return groups[:, None] == groups[None]


class PairStream(ABC):
    """Batches by number, where they do not come from the loop's own random draws."""

    @abstractmethod
    def at(self, step: int) -> Pairs:
        """The batch of a step: always the same one."""


def train_modality(
    model: ImageBindModel,
    modality: str,
    draw: Callable[[np.random.Generator, int], Pairs] | PairStream,
    temperature: float,
    config: LoopConfig,
    folder: Path,
    *,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 300,
    micro_batch: int = 0,
) -> ImageBindModel:
    """Train the tower of one modality; every other tower stays as it is.

    Under ``accelerate launch`` the negatives of all processes are gathered.

    Args:
        model: with that tower; its other parameters are frozen here.
        modality: a name of :data:`~bind2gen.modality.MODALITIES`.
        draw: ``(rng, count) -> Pairs``, all of whose randomness comes from ``rng``; or a stream.
        temperature: of the loss; the paper's are in :data:`TEMPERATURES`.
        config, folder, evaluate, evaluate_every: as in :func:`~bind2gen.train.loop.train`.
        micro_batch: inputs embedded at a time, for batches whose activations do not fit in memory: the loss and its
            negatives stay the whole batch's, at the cost of a second forward pass. 0 embeds all at once.

    Returns:
        The trained model (the moving average, where ``config`` keeps one).
    """
    tower = MODALITIES[modality].tower
    model.requires_grad_(False)
    model.towers[tower].requires_grad_(True)

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        train_only(model, model, tower)
        pairs = draw.at(step) if isinstance(draw, PairStream) else draw(rng, config.batch_size)
        embeds = gathered(_embedded(model, modality, pairs.inputs.to(model.device), micro_batch))
        anchors = gathered(pairs.anchors.to(model.device))
        return info_nce(embeds, anchors, 1 / temperature, pairs.matches(model.device)), {}

    return train(model, step_loss, config, folder, evaluate=evaluate, evaluate_every=evaluate_every)


def _embedded(model: ImageBindModel, modality: str, inputs: torch.Tensor, micro_batch: int) -> torch.Tensor:
    """(N, D); with ``micro_batch`` only embeddings are kept, and each part is computed again in the backward pass.

    Dropout draws the same masks again. Batch norms (of convolutional stems) see a part at a time, twice.
    """
    if not 0 < micro_batch < len(inputs):
        return model.encode(modality, inputs)
    parts = inputs.split(micro_batch)
    return torch.cat([checkpoint(model.encode, modality, part, use_reentrant=False) for part in parts])
