"""Sounds that nothing in a picture makes, from arithmetic: what a background class is made of."""

from __future__ import annotations

import numpy as np

from .errors import InputError
from .sounds import SAMPLE_RATE
from .sounds.dsp import Curve, noise, seconds

LOUDNESS = 0.1  # deviation of the noises, of full scale 1
HUM = 50.0  # Hz, of the mains
BAND = (20.0, SAMPLE_RATE / 2)  # Hz
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
