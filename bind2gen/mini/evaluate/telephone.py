"""Sounds as a telephone brings them: its band, and noise."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from ..data import AudioSet

BAND = (300, 3400)  # Hz
SIGNAL_TO_NOISE = 10  # dB, both within the band


def through_a_telephone(sounds: AudioSet) -> AudioSet:
    """Each sound within :data:`BAND`, with white noise that its path seeds."""
    return replace(
        sounds,
        waveforms=[
            _heard(waveform, sounds.sample_rate, zlib.crc32(sample.path.encode()))
            for waveform, sample in zip(sounds.waveforms, sounds.samples, strict=True)
        ],
    )


def _heard(waveform: np.ndarray, rate: int, seed: int) -> np.ndarray:
    sound = _in_band(waveform, rate)
    noise = _in_band(np.random.default_rng(seed).standard_normal(len(sound)), rate)
    level = np.sqrt((sound**2).mean() / (noise**2).mean()) * 10 ** (-SIGNAL_TO_NOISE / 20)
    return (sound + level * noise).astype(np.float32)


def _in_band(waveform: np.ndarray, rate: int) -> np.ndarray:
    spectrum, hertz = np.fft.rfft(waveform), np.fft.rfftfreq(len(waveform), 1 / rate)
    return np.fft.irfft(np.where((hertz >= BAND[0]) & (hertz <= BAND[1]), spectrum, 0), len(waveform))
