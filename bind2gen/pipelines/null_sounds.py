"""Sounds that nothing in a picture makes, from arithmetic: what a background class is made of."""

from __future__ import annotations

import numpy as np

from ..errors import InputError

SAMPLE_RATE = 16_000  # Hz
LOUDNESS = 0.1  # deviation of the noises, of full scale 1
HUM = 50.0  # Hz, of the mains
BAND = (20.0, SAMPLE_RATE / 2)  # Hz
Curve = tuple[tuple[float, float], ...]  # (frequency in Hz, level in dB), straight over the logarithm of frequency
_DECADES = float(np.log10(BAND[1] / BAND[0]))


def _falling(decibel_per_decade: float) -> Curve:
    return ((BAND[0], 0.0), (BAND[1], -decibel_per_decade * _DECADES))


# Power falls by 10 dB a decade in pink noise and by 20 dB in brown.
SLOPES: dict[str, Curve] = {"white": _falling(0), "pink": _falling(10), "brown": _falling(20)}
NAMES = ("silence", *SLOPES, "hum")


def null_sounds(duration: float = 4.0, *, copies: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Silence, noises and mains hum: name -> (N,) float32 in -1..1 at 16 kHz.

    Args:
        duration: seconds.
        copies: of each noise, "white 1", "white 2"..., all different; there is one silence and one hum.
        seed: another number gives other noises.

    Raises:
        InputError: a duration or number not above zero.
    """
    if not 0 < duration <= 3600 or copies < 1:
        raise InputError(f"null_sounds: wanted 0 < duration <= 3600 s and copies above zero, got {duration}, {copies}")
    time = seconds(duration)
    rng = np.random.default_rng(seed)
    made = {"silence": np.zeros(len(time))}
    for name, curve in SLOPES.items():
        for copy in range(1, copies + 1):
            made[f"{name} {copy}"] = LOUDNESS * noise(rng, len(time), curve)
    made["hum"] = LOUDNESS * sum(np.sin(2 * np.pi * HUM * k * time) / k for k in (1, 2, 3, 5))
    return {name: sound.clip(-1, 1).astype(np.float32) for name, sound in made.items()}


def seconds(duration: float) -> np.ndarray:
    """Time in seconds of each sample of ``duration`` seconds."""
    return np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE


def noise(rng: np.random.Generator, size: int, curve: Curve) -> np.ndarray:
    """Noise of unit deviation whose spectrum follows a curve."""
    x = filtered(rng.standard_normal(size), curve)
    return x / x.std()


def filtered(x: np.ndarray, curve: Curve) -> np.ndarray:
    """``x`` weighted by a curve, without delay."""
    size = len(x) + SAMPLE_RATE // 10  # room for the tail, which would otherwise wrap to the front
    return np.fft.irfft(np.fft.rfft(x, size) * gain(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), curve), size)[: len(x)]


def gain(frequency: np.ndarray, curve: Curve) -> np.ndarray:
    """Amplitude of a curve at each frequency; held flat beyond its ends."""
    hertz, decibel = np.array(curve).T
    return 10 ** (np.interp(np.log(np.maximum(frequency, 1.0)), np.log(hertz), decibel) / 20)
