"""Animals: pitch contours through vocal tracts, whistles and wing beats. Each takes a generator, gives (N,) float64."""

from __future__ import annotations

import numpy as np

from .dsp import SAMPLE_RATE, Curve, Formants, click, filtered, over, path, place, room, seconds, swell, voice, wander

DURATION = 4.5  # s
OUTDOORS: Curve = ((60, 0), (300, -8), (1000, -15), (4000, -22), (8000, -28))  # wind and distance
MEADOW: Curve = ((60, 0), (300, -4), (1000, -8), (2500, -10), (4000, -20), (8000, -28))  # insects and leaves as well
INDOORS: Curve = ((60, 0), (150, -8), (500, -20), (2000, -28), (8000, -34))

BARK: Formants = ((650, 350, 0), (1350, 450, 2), (2500, 800, -6), (4200, 1500, -14))
MEOW_I: Formants = ((600, 300, -4), (2300, 500, 2), (3400, 700, 0), (5200, 1200, -6))
MEOW_A: Formants = ((1000, 350, 2), (1800, 450, 4), (3300, 700, 0), (5200, 1400, -4))
MEOW_U: Formants = ((650, 300, 2), (1200, 400, 0), (3000, 700, -10), (5000, 1200, -16))
MOO_CLOSED: Formants = ((260, 150, 0), (900, 300, -10), (2200, 600, -22))
MOO_OPEN: Formants = ((480, 250, 0), (950, 300, 0), (1700, 500, -4), (3000, 900, -10))
BAA: Formants = ((720, 130, 3), (1900, 170, 6), (2780, 210, 0), (3900, 800, -10))
GRUNT: Formants = ((380, 300, 0), (1100, 600, 0), (2600, 1000, 2), (4300, 1800, 2))


def dog(rng: np.random.Generator) -> np.ndarray:
    """Barks in twos and threes: 0.2 s, the pitch jumps up and falls, hoarse."""
    canvas, at, base = np.zeros(len(seconds(DURATION))), rng.uniform(0.15, 0.3), rng.uniform(0.9, 1.2)
    while at < DURATION - 0.4:
        size = len(seconds(rng.uniform(0.16, 0.22)))
        pitch = base * rng.uniform(0.94, 1.06) * path(((0, 330), (0.25, 620), (0.6, 520), (1, 280)), size)
        bark = voice(rng, pitch, (BARK, BARK), tilt=-5.0, rough=0.04, breath=0.35)
        place(canvas, at, rng.uniform(0.7, 1.0) * bark * swell(size, 0.02, 0.11))
        at += rng.choice([0.38, 0.45, 0.85]) * rng.uniform(0.95, 1.1)
    return over(rng, room(rng, canvas, time=0.5, wet=0.2), -56, OUTDOORS)


def cat(rng: np.random.Generator) -> np.ndarray:
    """Two meows: the mouth opens and closes while the pitch rises and sinks."""
    canvas, at, base = np.zeros(len(seconds(DURATION))), rng.uniform(0.2, 0.5), rng.uniform(0.9, 1.15)
    for _ in range(2):
        size = len(seconds(rng.uniform(0.8, 1.05)))
        pitch = base * path(((0, 480), (0.3, 680), (0.6, 640), (1, 430)), size)
        meow = voice(rng, pitch, (MEOW_I, MEOW_A, MEOW_A, MEOW_U), tilt=-3.0, rough=0.006, breath=0.06)
        place(canvas, at, meow * swell(size, 0.15, 0.3))
        at += size / SAMPLE_RATE + rng.uniform(0.7, 1.0)
    return over(rng, room(rng, canvas, time=0.4, wet=0.15), -58, INDOORS)


def _whistle(rng: np.random.Generator, low: float, high: float, duration: float) -> np.ndarray:
    """One syllable of a song: a near-pure tone that arches between two frequencies in Hz."""
    size = len(seconds(duration))
    arch = path(((0, low), (rng.uniform(0.2, 0.6), high), (1, rng.uniform(low, high))), size)
    phase = 2 * np.pi * np.cumsum(arch * (1 + 0.003 * wander(rng, size, 80.0))) / SAMPLE_RATE
    return (np.sin(phase) + 0.06 * np.sin(2 * phase)) * swell(size, 0.2 * duration, 0.4 * duration)


def bird(rng: np.random.Generator) -> np.ndarray:
    """A songbird's phrases of repeated syllables at 2.5 to 6 kHz, and a fainter neighbour."""
    canvas = np.zeros(len(seconds(DURATION)))
    for level, pitch in ((1.0, rng.uniform(0.9, 1.1)), (0.25, rng.uniform(1.1, 1.3))):
        at = rng.uniform(0.1, 0.4)
        while at < DURATION - 0.3:
            low, high = pitch * rng.uniform(2500, 3500), pitch * rng.uniform(3800, 5200)
            duration, gap = rng.uniform(0.05, 0.14), rng.uniform(0.03, 0.07)
            for _ in range(rng.integers(3, 8)):
                place(canvas, at, level * rng.uniform(0.6, 1.0) * _whistle(rng, low, high, duration))
                at += duration + gap
            at += rng.uniform(0.15, 0.5)
    return over(rng, room(rng, canvas, time=1.0, wet=0.25), -42, OUTDOORS)


def frog(rng: np.random.Generator) -> np.ndarray:
    """Croaks: trains of about 50 pulses a second, each ringing in the vocal sac's resonances."""
    canvas, at = np.zeros(len(seconds(DURATION))), rng.uniform(0.1, 0.3)
    centre, rate = rng.uniform(2050, 2300), rng.uniform(46, 54)  # Hz, pulses per second
    sac: Formants = ((centre, 100, 0), (centre * 1.25, 200, -8), (centre * 0.5, 150, -14), (centre * 2.0, 300, -14))
    while at < DURATION - 0.2:
        pulses = rng.integers(16, 24)
        for i in range(pulses):
            strength = np.sin(np.pi * (i + 0.8) / (pulses + 0.8)) ** 0.6 * rng.uniform(0.8, 1.0)
            place(canvas, at + (i + rng.uniform(-0.05, 0.05)) / rate, strength * click(rng, 0.04, sac))
        at += pulses / rate + rng.uniform(0.4, 0.6)
    return over(rng, room(rng, canvas, time=0.3, wet=0.15), -50, OUTDOORS)


def cow(rng: np.random.Generator) -> np.ndarray:
    """A long moo: low pitch with a slow arch, closed mouth to open, many partials."""
    canvas, at, base = np.zeros(len(seconds(DURATION))), rng.uniform(0.15, 0.4), rng.uniform(0.9, 1.15)
    for duration in (rng.uniform(1.7, 2.0), rng.uniform(1.4, 1.7)):
        size = len(seconds(duration))
        pitch = base * path(((0, 105), (0.35, 165), (0.7, 160), (1, 120)), size)
        moo = voice(rng, pitch, (MOO_CLOSED, MOO_OPEN, MOO_OPEN, MOO_OPEN), tilt=-6.5, rough=0.012, breath=0.06)
        place(canvas, at, moo * swell(size, 0.25, 0.25))
        at += duration + rng.uniform(0.3, 0.5)
    return over(rng, room(rng, canvas, time=0.7, wet=0.2), -40, OUTDOORS)


def sheep(rng: np.random.Generator) -> np.ndarray:
    """Hoarse baas, far across a meadow: a nasal voice whose pitch and strength shake eight times a second."""
    canvas, at, base = np.zeros(len(seconds(DURATION))), rng.uniform(0.1, 0.3), rng.uniform(0.95, 1.08)
    while at < DURATION - 0.5:
        size = len(seconds(rng.uniform(0.85, 1.25)))
        shake = np.sin(2 * np.pi * rng.uniform(7, 9.5) * np.arange(size) / SAMPLE_RATE + rng.uniform(0, 6.28))
        pitch = base * path(((0, 222), (0.2, 254), (1, 217)), size) * (1 + 0.015 * shake)
        baa = voice(rng, pitch, (BAA, BAA), tilt=-3.5, rough=0.04, breath=0.26)
        place(canvas, at, rng.uniform(0.6, 1.0) * baa * (1 + 0.27 * shake) * swell(size, 0.125, 0.2))
        at += size / SAMPLE_RATE + rng.uniform(0.8, 1.6)
    canvas = filtered(canvas, ((400, -13), (1200, 0), (3500, 0), (8000, -18)))  # the nose passes little below 1 kHz
    return over(rng, room(rng, canvas, time=1.0, wet=0.4), -37, MEADOW)


def pig(rng: np.random.Generator) -> np.ndarray:
    """Oinking grunts: a ragged, breathy voice near 230 Hz, fluttering at a third of that, through a wide snout."""
    canvas, at = np.zeros(len(seconds(DURATION))), rng.uniform(0.05, 0.2)
    while at < DURATION - 0.3:
        size = len(seconds(rng.uniform(0.18, 0.45)))
        pitch = rng.uniform(0.85, 1.25) * path(((0, 205), (0.4, 265), (1, 170)), size)
        grunt = voice(rng, pitch, (GRUNT, GRUNT), tilt=-4.0, rough=0.1, breath=0.5)
        flutter = 1 + 0.6 * np.sin(2 * np.pi * np.cumsum(pitch * 0.33) / SAMPLE_RATE)
        place(canvas, at, rng.uniform(0.35, 1.0) * grunt * flutter * swell(size, 0.03, 0.1))
        at += size / SAMPLE_RATE + rng.uniform(0.08, 0.45)
    return over(rng, room(rng, canvas, time=0.5, wet=0.25), -36, OUTDOORS)


def insect(rng: np.random.Generator) -> np.ndarray:
    """A fly: wing beats at about 200 Hz with all their partials, nearing and leaving as it circles."""
    size = len(seconds(DURATION))
    near = path(((0, 0.4), (rng.uniform(0.2, 0.4), 1), (0.6, 0.45), (rng.uniform(0.75, 0.9), 0.9), (1, 0.4)), size)
    pitch = rng.uniform(180, 220) * (1 + 0.03 * (near - 0.6)) * (1 + 0.012 * wander(rng, size, 4.0))
    wings: Formants = ((250, 500, 0), (1000, 1200, -2), (2600, 2000, -6), (5000, 3000, -10))
    buzz = voice(rng, pitch, (wings, wings), tilt=-7.0, rough=0.004, breath=0.03)
    return over(rng, filtered(buzz * near, ((100, -12), (250, 0), (8000, 0))), -48, OUTDOORS)
