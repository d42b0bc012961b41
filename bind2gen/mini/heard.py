"""Sounds as the audio tower is shown them: as they are, and as they arrive: from a room, with others around, too loud,
cut short, through a telephone, through a codec."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import soundfile
import torch
from scipy import signal
from tqdm.auto import tqdm

from ..preprocess.audio import log_mel
from ..preprocess.audio_settings import AudioSettings
from ..train.augment import augment_sounds, crop_sounds, with_noise
from .recipe import JUDGED
from .sounds import Sounds

CLIP_SECONDS, FRAMES, MEL_BINS = 5.0, 512, 64
BATCH = 16  # clips at once through the network
TELEPHONE = (300.0, 3400.0)  # Hz
ROOM, CLIPPED, CUT, BANDED, CODED, NOISY = 0.3, 0.15, 0.25, 0.35, 0.15, 0.6  # shares of the sounds so altered
SNR = (0.0, 20.0)  # dB of the sound over what is around it
DECAY = (0.15, 0.9)  # s until a room has lost 60 dB
SHORTEST = 0.4  # s
CODECS = (("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))
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


def altered(clip: np.ndarray, rate: int, rng: np.random.Generator, around: np.ndarray) -> np.ndarray:
    """One sound altered at random.

    Args:
        clip: (samples,) float32.
        rate: Hz.
        around: (M, samples) sounds of which one may be heard behind it.

    Returns:
        (samples,) float32 in -1..1; fewer samples where it was cut short.
    """
    clip = in_a_room(clip, rate, rng) if rng.random() < ROOM else clip
    clip = augment_sounds(clip[None], rng, background=around, mix_share=NOISY, snr_db=SNR)[0]
    if rng.random() < CUT:
        length = int(rng.uniform(min(SHORTEST * rate, len(clip)), len(clip)))
        loudest = max(rng.integers(len(clip) - length + 1, size=3), key=lambda s: np.square(clip[s : s + length]).sum())
        clip = clip[loudest : loudest + length]
    if rng.random() < CLIPPED:
        clip = np.clip(clip * rng.uniform(2, 8), -1, 1)
    if rng.random() < BANDED:
        ends = TELEPHONE if rng.random() < 0.5 else (rng.uniform(30, 400), rng.uniform(2500, 7500))
        clip = banded(clip, rate, *ends)
    if rng.random() < CODED:
        clip = coded(clip, rate, CODECS[rng.integers(len(CODECS))], rng.uniform(0.8, 0.99))
    return clip.astype(np.float32)


def in_a_room(clip: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """The sound and its echoes: noise that dies away, as loud as it or less; (samples,) at its old level."""
    decay = rng.uniform(*DECAY)
    times = np.arange(int(decay * rate)) / rate
    echoes = rng.standard_normal(len(times)) * 10 ** (-3 * times / decay)
    echoes *= rng.uniform(0.2, 1) / np.linalg.norm(echoes)
    echoes[0] = 1
    wet = signal.fftconvolve(clip, echoes)[: len(clip)]
    return wet * (np.linalg.norm(clip) / max(np.linalg.norm(wet), 1e-9))


def banded(clip: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """(samples,) with what lies outside ``low`` to ``high`` Hz 24 dB an octave weaker."""
    return signal.sosfilt(signal.butter(4, (low, high), "bandpass", fs=rate, output="sos"), clip)


def coded(clip: np.ndarray, rate: int, codec: tuple[str, str], level: float) -> np.ndarray:
    """(samples,) as a lossy codec leaves it.

    Args:
        codec: libsndfile's names of format and subtype.
        level: 0..0.99, how much is lost; 0.99 leaves 11 kbit/s of Opus and 20 of MP3.
    """
    file = io.BytesIO()
    soundfile.write(file, np.clip(clip, -1, 1), rate, format=codec[0], subtype=codec[1], compression_level=level)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.pad(decoded, (0, max(0, len(clip) - len(decoded))))[: len(clip)]


def altered_clip(clip: np.ndarray, rate: int, rng: np.random.Generator, around: Sequence[np.ndarray]) -> np.ndarray:
    """See :func:`altered`; ``around`` are sounds of any length."""
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
