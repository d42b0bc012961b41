"""How good pictures of sounds are: near to the sounds, near to real pictures of them, and like real ones as a set.

Definitions: AIS and IIS, plain and standardised, of MACS (arXiv 2503.10287); Fréchet distance (arXiv 1706.08500) and
kernel distance (arXiv 1801.01401) by torchmetrics, in whatever space the features are of.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import CheckpointError, DependencyError, InputError, ShapeError
from ..preprocess import audio
from ..preprocess.resampling import resample
from ..space.arithmetic import normalize

SUBSETS, SUBSET = 100, 1000  # of the kernel distance, as its paper has it
LEAST = 2  # pictures of a set that a distance needs
WAV2CLIP_RATE = 16_000  # Hz
FEATURES = "2048"  # of InceptionV3, which the Fréchet distance's paper takes
GATHERED = 16  # pictures at a time


@dataclass(frozen=True)
class Likeness:
    """How near N things are to their partners.

    Attributes:
        cosine: mean with the partner, ``error`` its standard error.
        standardised: mean of (own cosine - mean of the others') / their deviation; None of fewer than three.
        first: share of pictures of all whose partner is the nearest one, counted from the first side.
        median_rank: of the partner, 1 is first.
    """

    cosine: float
    error: float
    standardised: float | None
    first: float
    median_rank: float


def likeness(given: torch.Tensor, made: torch.Tensor) -> Likeness:
    """Row i of ``made`` belongs to row i of ``given``, (N, D) each of any length.

    Raises:
        ShapeError: they do not go together.
    """
    if given.shape != made.shape or given.ndim != 2 or not len(given):
        raise ShapeError(f"pairs: wanted two (N, D) alike, got {tuple(given.shape)} and {tuple(made.shape)}")
    similar = (normalize(given.double()) @ normalize(made.double()).T).numpy()  # (N, N)
    own, count = similar.diagonal(), len(similar)
    ranks = 1 + (similar > own[:, None]).sum(1)
    standardised = None
    if count > 2:
        others = similar[~np.eye(count, dtype=bool)].reshape(count, count - 1)
        standardised = float(((own - others.mean(1)) / others.std(1).clip(1e-12)).mean())
    error = float(own.std(ddof=1) / count**0.5) if count > 1 else float("nan")
    return Likeness(float(own.mean()), error, standardised, float((ranks == 1).mean()), float(np.median(ranks)))


@dataclass(frozen=True)
class Distances:
    """Between made and real pictures as two sets: Fréchet's, and the kernel's with its deviation over subsets."""

    frechet: float
    kernel: float
    kernel_deviation: float


def distances(made: torch.Tensor, real: torch.Tensor) -> Distances:
    """Of features (N, F) and (M, F). With fewer pictures than F Fréchet's says little: it falls with their number.

    Raises:
        InputError: fewer than two of one.
        DependencyError: torchmetrics is missing.
    """
    if min(len(made), len(real)) < LEAST:
        raise InputError(f"distances: wanted {LEAST} pictures of each set or more, got {len(made)} and {len(real)}")
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.kid import KernelInceptionDistance
    except ImportError as error:
        raise DependencyError("distances need torchmetrics: pip install 'bind2gen[eval]'") from error
    rows = _Rows(made.shape[1])
    found = []
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # of memory that its buffers take
        torch.manual_seed(0)  # of the subsets
        for metric in (
            FrechetInceptionDistance(feature=rows),
            KernelInceptionDistance(feature=rows, subsets=SUBSETS, subset_size=min(SUBSET, len(made), len(real))),
        ):
            metric.update(real.double(), real=True)
            metric.update(made.double(), real=False)
            found.append(metric.compute())
    kernel, deviation = found[1]
    return Distances(float(found[0]), float(kernel), float(deviation))


class _Rows(torch.nn.Module):
    """For torchmetrics: what comes are features already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


# ---- other people's networks, by the path of their weights ----


def inception(weights: Path) -> Callable[[Sequence[Image.Image]], torch.Tensor]:
    """InceptionV3 as torch-fidelity has it (``weights-inception-2015-12-05-6726825d.pth``): N pictures -> (N, 2048).

    Raises:
        CheckpointError: these are no such weights.
        DependencyError: torch-fidelity is missing.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise DependencyError("--inception needs torch-fidelity: pip install 'bind2gen[eval]'") from error
    _safe_weights(weights)  # it reads pickles of any kind
    try:
        network = FeatureExtractorInceptionV3("features", [FEATURES], feature_extractor_weights_path=str(weights))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{weights}: wanted torch-fidelity's InceptionV3: {str(error)[:200]}") from None

    def features(pictures: Sequence[Image.Image]) -> torch.Tensor:
        return torch.cat([network(torch.from_numpy(np.array(one)).movedim(2, 0)[None])[0] for one in pictures])

    return features


def wav2clip(weights: Path) -> Callable[[Sequence[Any]], torch.Tensor]:
    """Wav2CLIP (arXiv 2110.11499; ``Wav2CLIP.pt``): N sounds -> (N, 512) in the space of CLIP ViT-B/32.

    Raises:
        CheckpointError: these are no such weights.
        DependencyError: the package is missing.
    """
    try:
        from wav2clip.model.encoder import ResNetExtractor
    except ImportError as error:
        raise DependencyError("--wav2clip needs its package: pip install wav2clip") from error
    try:
        network = ResNetExtractor(checkpoint=_safe_weights(weights), scenario="frozen", transform=True).eval()
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(f"{weights}: wanted Wav2CLIP's weights: {str(error)[:200]}") from None

    @torch.no_grad()
    def embed(sounds: Sequence[Any]) -> torch.Tensor:
        loaded = [audio.load(sound) for sound in sounds]
        mono = [resample(one.samples, one.sample_rate, WAV2CLIP_RATE).mean(0, keepdim=True) for one in loaded]
        return torch.cat([network(one) for one in mono])

    return embed


def _safe_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .pth, which may hold nothing else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (zip, pickle and system errors of many kinds)
        raise CheckpointError(f"{path}: wanted weights (.pth), cannot read them ({type(error).__name__})") from None


def gathered(items: Sequence[Any], embed: Callable[[Sequence[Any]], torch.Tensor], done: Callable[[int], Any]) -> Any:
    """(N, F) of all items, some at a time; ``done`` is called with how many."""
    parts = []
    for start in range(0, len(items), GATHERED):
        part = items[start : start + GATHERED]
        parts.append(embed(part).float().cpu())
        done(len(part))
    return torch.cat(parts)
