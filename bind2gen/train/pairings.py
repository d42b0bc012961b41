"""What the bundled model's towers are paired with: every sound, infrared crop, depth map or movement with a random
photo (or synthetic picture) of its concept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import InputError
from ..imagebind.model import ImageBindModel
from ..preprocess.audio import AudioSettings, log_mel
from .align import Pairs
from .augment import augment_movements, augment_photos, augment_sounds, crop_sounds, mask_spectrogram, splice_sounds
from .data import AudioSet, ImuSet, Sample
from .loop import half_precision
from .towers import balanced_weights

BACKGROUNDS = 16  # sounds of no concept that a batch's clips are mixed with
BATCH = 64  # items embedded at a time


@dataclass(frozen=True)
class Source:
    """Training items of one modality.

    Attributes:
        modality: its name.
        samples: what each item is.
        make: ``(rng, chosen) -> (len(chosen), 1, *sample)``: a freshly altered clip of each chosen item.
        spliced: whether spans of a batch's items are put into each other when they are paired.
    """

    modality: str
    samples: list[Sample]
    make: Callable[[np.random.Generator, np.ndarray], torch.Tensor]
    spliced: bool = False

    def concepts(self) -> np.ndarray:
        return np.array([s.concept for s in self.samples])


@dataclass(frozen=True)
class Anchors:
    """Frozen embeddings of pictures, (N, D) unit norm, and their concepts (N,)."""

    embeds: torch.Tensor
    concepts: np.ndarray

    def mean(self, concept: str) -> torch.Tensor:
        """Mean embedding of one concept, (D,)."""
        return self.embeds[torch.from_numpy(self.concepts == concept)].mean(0)


def paired(source: Source, anchors: Anchors) -> Callable[[np.random.Generator, int], Pairs]:
    """Draws items, rare concepts lifted, each with a random picture of its concept.

    Raises:
        InputError: there is no picture of some concept, or there is but one concept: nothing to tell it apart from.
    """
    concepts = source.concepts()
    if len(set(concepts)) < 2:
        raise InputError(f"{source.modality}: wanted items of two concepts or more, got {sorted(set(concepts))}")
    rows = {name: np.flatnonzero(anchors.concepts == name) for name in set(concepts)}
    if missing := sorted(name for name, found in rows.items() if not len(found)):
        raise InputError(f"{source.modality}: wanted pictures of each concept to pair with, have none of {missing}")
    weights = balanced_weights(concepts)
    groups = torch.from_numpy(np.unique(concepts, return_inverse=True)[1])

    def draw(rng: np.random.Generator, count: int) -> Pairs:
        chosen = rng.choice(len(weights), count, p=weights)
        inputs = source.make(rng, chosen)
        pictures = np.array([rng.choice(rows[name]) for name in concepts[chosen]])
        pairs = Pairs(inputs, anchors.embeds[pictures], groups[chosen])
        if not source.spliced:
            return pairs
        mixed = splice_sounds(inputs[:, 0], rng)
        own = torch.from_numpy(mixed.own).float()
        return replace(pairs, inputs=mixed.values[:, None], others=pairs.groups[mixed.partner], own=own)

    return draw


@torch.no_grad()
def embed_altered(model: ImageBindModel, source: Source, seed: int) -> torch.Tensor:
    """(N, D) unit norm, of one altered clip of each item."""
    rng = np.random.default_rng([seed, 1])
    batches = np.split(np.arange(len(source.samples)), range(BATCH, len(source.samples), BATCH))
    with half_precision():
        return torch.cat([model.encode(source.modality, source.make(rng, chosen)) for chosen in batches])


def sounds(data: AudioSet, settings: AudioSettings) -> Source:
    """Clips; sounds of no concept are mixed in as background and are no items themselves."""
    named = data.take(data.concepts() != "")
    background = data.take(data.concepts() == "").waveforms

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        clips = crop_sounds([named.waveforms[i] for i in chosen], settings.clip_samples, rng)
        around = [background[i] for i in rng.integers(len(background), size=BACKGROUNDS)] if background else []
        noises = crop_sounds(around, settings.clip_samples, rng) if background else None
        mel = log_mel(torch.from_numpy(augment_sounds(clips, rng, background=noises)), settings)
        return mask_spectrogram(mel, rng)[:, None]  # (N, 1, 1, mel bins, frames)

    return Source("audio", named.samples, make, spliced=True)


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


def movements(data: ImuSet, length: int) -> Source:
    """Stretches of recordings, (N, 1, 6, length), zero-padded at the end."""

    def make(rng: np.random.Generator, chosen: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(augment_movements([data.recordings[i] for i in chosen], length, rng))[:, None]

    return Source("imu", data.samples, make)
