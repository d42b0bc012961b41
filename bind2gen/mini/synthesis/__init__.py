"""Example sounds made from nothing but arithmetic: no recordings, so they may ship with the project.

Each sound models its source (a glottis and a vocal tract, blades, escapements, breaking waves), is seeded, 4.5 s long,
16 kHz mono. The stage ``package`` writes those that the model names rightly.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from ...errors import InputError
from . import machines, voices
from .dsp import SAMPLE_RATE

__all__ = ["NAMES", "SAMPLE_RATE", "synthesise"]

# Name -> (maker, peak of the finished sound in 0..1: distant or soft things are quieter).
_SOUNDS: dict[str, tuple[Callable[[np.random.Generator], np.ndarray], float]] = {
    "dog": (voices.dog, 0.8),
    "bird": (voices.bird, 0.5),
    "cat": (voices.cat, 0.6),
    "frog": (voices.frog, 0.8),
    "cow": (voices.cow, 0.5),
    "sheep": (voices.sheep, 0.45),
    "pig": (voices.pig, 0.5),
    "insect": (voices.insect, 0.3),
    "sea": (machines.sea, 0.8),
    "train": (machines.train, 0.6),
    "helicopter": (machines.helicopter, 0.9),
    "airplane": (machines.airplane, 0.35),
    "police_van": (machines.police_van, 0.7),
    "clock": (machines.clock, 0.4),
    "keyboard": (machines.keyboard, 0.4),
    "car": (machines.car, 0.35),
    "drone": (machines.drone, 0.6),
}
NAMES: tuple[str, ...] = tuple(_SOUNDS)


def synthesise(name: str, *, seed: int = 0) -> np.ndarray:
    """One example sound; the same name and seed always give the same samples.

    Args:
        name: one of :data:`NAMES`.
        seed: another number gives another animal, engine or hand.

    Returns:
        (N,) float32 in -1..1 at 16 kHz, N / 16,000 between 4 and 5.

    Raises:
        InputError: an unknown name.
    """
    if name not in _SOUNDS:
        raise InputError(f"{name!r}: no such sound; choose from {', '.join(NAMES)}")
    make, peak = _SOUNDS[name]
    sound = make(np.random.default_rng([seed, zlib.crc32(name.encode())]))
    sound = sound - sound.mean()
    return (sound * (peak / np.abs(sound).max())).astype(np.float32)
