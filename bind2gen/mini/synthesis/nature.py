"""Sea, rain and fire: shaped noise and scattered events. Each takes a generator, gives (N,) float64."""

from __future__ import annotations

import numpy as np

from .dsp import Curve, click, decay, filtered, noise, over, path, place, room, seconds, wander

DURATION = 4.5  # s


def sea(rng: np.random.Generator) -> np.ndarray:
    """Breaking waves: a steady wash; each wave swells from low to bright and runs out in foam."""
    size = len(seconds(DURATION))
    wash = noise(rng, size, ((40, -12), (150, -3), (400, 0), (1500, -8), (4000, -17), (8000, -26)))
    foam = noise(rng, size, ((200, -18), (800, 0), (2500, -3), (5000, -8), (8000, -16)))
    crest = rng.uniform(0.3, 0.5)
    wave = path(((0, 0.45), (crest, 1.0), (crest + 0.25, 0.65), (1, 0.45)), size)
    hiss = path(((0, 0.3), (crest, 0.5), (crest + 0.12, 1.0), (1, 0.3)), size)
    return wash * wave * (1 + 0.08 * wander(rng, size, 6.0)) + 0.45 * foam * hiss * (1 + 0.1 * wander(rng, size, 12.0))


def rain(rng: np.random.Generator) -> np.ndarray:
    """Steady rain: hiss of countless far drops, and near ones that tick and ring in puddles."""
    size = len(seconds(DURATION))
    canvas = noise(rng, size, ((50, -20), (300, -14), (1000, -6), (3000, 0), (6000, 0), (8000, -4)))
    for at in rng.uniform(0, DURATION, 420):
        pitch = rng.uniform(1500, 6500)
        strength = rng.pareto(2.5) * 1.5
        place(canvas, at, min(strength, 6.0) * click(rng, 0.012, ((pitch, 300, 0), (pitch * 1.4, 500, -4))))
    return canvas


def fire(rng: np.random.Generator) -> np.ndarray:
    """A wood fire: low roar that flickers, fine crackle, now and then a loud pop."""
    size = len(seconds(DURATION))
    roar = noise(rng, size, ((30, 0), (120, -2), (400, -14), (1500, -26), (8000, -40)))
    canvas = 0.12 * roar * (1 + 0.3 * wander(rng, size, 5.0))
    hiss: Curve = ((200, -12), (1000, 0), (3000, 2), (8000, -6))
    for at in rng.uniform(0, DURATION, 170):
        length = len(seconds(rng.uniform(0.004, 0.02)))
        crackle = filtered(rng.standard_normal(length), hiss) * decay(length, length / 64_000)
        place(canvas, at, min(0.12 * rng.pareto(1.3), 1.5) * crackle)
    return over(rng, room(rng, canvas, time=0.15, wet=0.1), -58, ((60, 0), (8000, -12)))
