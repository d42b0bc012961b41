"""Sounds as the audio tower is shown them: as they are, altered, and through a telephone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from ..preprocess.audio import log_mel
from ..preprocess.audio_settings import AudioSettings
from ..train.augment import crop_sounds
from .alter import TELEPHONE, altered, banded, with_noise
from .recipe import JUDGED
from .sounds import Sounds

CLIP_SECONDS, FRAMES, MEL_BINS = 5.0, 512, 64
BATCH = 16  # clips at once through the network
NOISE_DB = 10.0  # of the sounds that are judged through a telephone, over the noise


def audio_settings() -> AudioSettings:
    """The mel front end that YAMNet was trained with, nearly."""
    return AudioSettings(
        num_mel_bins=MEL_BINS, target_length=FRAMES, clip_duration=CLIP_SECONDS, low_freq=125.0, high_freq=7500.0,
        preemphasis_coefficient=0.0, use_power=False, padding="repeat", mean=0.0, std=1.0, policy="cover",
    )  # fmt: skip


def spectra(clips: Sequence[np.ndarray]) -> torch.Tensor:
    """(samples,) float32 each -> (N, 1, mel bins, frames)."""
    return torch.cat([log_mel(torch.from_numpy(clip)[None], audio_settings()) for clip in clips])


@torch.inference_mode()
def through(network: Callable[[torch.Tensor], torch.Tensor], clips: Iterable[np.ndarray], count: int) -> torch.Tensor:
    """What a network on spectrograms, (N, 1, mel bins, frames) -> (N, ...), gives of ``count`` clips."""
    made, batch = [], []
    for number, clip in enumerate(tqdm(clips, total=count, desc="sounds", mininterval=5)):
        batch.append(clip)
        if len(batch) == BATCH or number + 1 == count:
            made.append(network(spectra(batch)).float())
            batch = []
    return torch.cat(made)


def behind(around: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> np.ndarray:
    """(samples,) of one of these sounds, repeated where it is shorter."""
    noise = around[rng.integers(len(around))]
    return crop_sounds([np.resize(noise, max(samples, len(noise)))], samples, rng)[0]


def altered_clip(clip: np.ndarray, rate: int, rng: np.random.Generator, around: Sequence[np.ndarray]) -> np.ndarray:
    """See :func:`~bind2gen.mini.alter.altered`; ``around`` are sounds of any length."""
    return altered(clip, rate, rng, behind(around, len(clip), rng)[None])


class Heard:
    """The clips that the product cuts of sounds.

    Attributes:
        clips: (samples,) float32 each.
        sound_of: (M,) the sound of each clip.
        telephone_of: sounds of the clips that are judged through a telephone: the held-out ones of our concepts.
    """

    def __init__(self, sounds: Sounds) -> None:
        self.sounds, settings = sounds, audio_settings()
        cut = [sounds.clips(row, settings) for row in range(len(sounds))]
        self.sound_of = np.repeat(np.arange(len(sounds)), [len(some) for some in cut])
        self.clips = [clip for some in cut for clip in some]
        judged = sounds.held_out & ~sounds.many & np.isin(sounds.concepts, JUDGED)
        self._telephoned = np.flatnonzero(judged[self.sound_of])
        self.telephone_of = self.sound_of[self._telephoned]

    def around(self, which: np.ndarray) -> list[np.ndarray]:
        """Clips of no concept among the sounds (N,) that are true."""
        rows = np.flatnonzero((which & (self.sounds.concepts == ""))[self.sound_of])
        return [self.clips[row] for row in rows]

    def telephone(self) -> Iterable[np.ndarray]:
        """Those of :attr:`telephone_of` in a telephone's band, another sound behind them."""
        rng, around = np.random.default_rng(7), self.around(self.sounds.held_out)
        for row in self._telephoned:
            noise = behind(around, len(self.clips[row]), rng)
            noisy = with_noise(self.clips[row], noise, NOISE_DB)
            yield banded(noisy, self.sounds.sample_rate, *TELEPHONE).astype(np.float32)

    def altered(self, rows: np.ndarray, seed: int) -> Iterable[np.ndarray]:
        """Those clips, each altered at random, with trained sounds around them."""
        around = self.around(self.sounds.trained)
        for row in rows:
            yield altered_clip(self.clips[row], self.sounds.sample_rate, np.random.default_rng([seed, row]), around)
