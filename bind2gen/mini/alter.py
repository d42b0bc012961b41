"""Sounds as they arrive: from a room, with others around, too loud, cut short, through a telephone, through a codec."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from scipy import signal

from ..train.augment import augment_sounds

TELEPHONE = (300.0, 3400.0)  # Hz
ROOM, CLIPPED, CUT, BANDED, CODED, NOISY = 0.3, 0.15, 0.25, 0.35, 0.15, 0.6  # shares of the sounds so altered
SNR = (0.0, 20.0)  # dB of the sound over what is around it
DECAY = (0.15, 0.9)  # s until a room has lost 60 dB
SHORTEST = 0.4  # s
CODECS = (("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))


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


def with_noise(clip: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """(samples,) with a sound of the same length behind it, softer by ``snr_db``."""
    powers = np.square(clip).mean() + 1e-9, np.square(noise).mean() + 1e-9
    return clip + noise * np.sqrt(powers[0] / powers[1] / 10 ** (snr_db / 10))
