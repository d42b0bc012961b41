"""Vehicles, rotors, small mechanisms, and the sea. Each takes a generator, gives (N,) float64."""

from __future__ import annotations

import numpy as np

from .dsp import (
    SAMPLE_RATE,
    Curve,
    Formants,
    click,
    decay,
    filtered,
    noise,
    over,
    path,
    place,
    room,
    seconds,
    turbulent,
    voice,
    wander,
)

DURATION = 4.5  # s
STREET: Curve = ((40, 0), (150, -3), (600, -12), (2000, -20), (8000, -34))
INDOORS: Curve = ((50, 0), (150, -6), (600, -14), (2500, -18), (8000, -24))
SIREN_LOW, SIREN_HIGH = 600.0, 1350.0  # Hz
SIREN_PERIOD = 3.0  # s: one wail up and down
TICK_PERIOD = 0.5  # s between ticks: tick and tock of a seconds pendulum in one second
BLADE_RATE = 13.0  # Hz: a two-blade rotor at 390 turns a minute
FLAT: Formants = ((3000, 9000, 0),)


def train(rng: np.random.Generator) -> np.ndarray:
    """A passing train: broad rumble and wheel roar, the clatter of rail joints in fours, a flange that sings."""
    size = len(seconds(DURATION))
    roar = noise(rng, size, ((30, -8), (80, 0), (300, -5), (1000, -15), (3000, -30), (8000, -48)))
    canvas = turbulent(rng, roar, 3.0, 5.0)
    joint: Formants = ((90, 25, 4), (240, 50, 0), (700, 90, -4), (1700, 160, -8))
    crash: Curve = ((60, 0), (500, -4), (2000, -13), (8000, -34))
    for at in np.arange(rng.uniform(0, 0.3), DURATION, 0.85):
        for offset in (0.0, 0.13, 0.40, 0.53):  # two axles of one bogie, two of the next
            start, strength = at + offset + rng.normal(0, 0.004), rng.uniform(0.6, 1.0)
            place(canvas, start, 1.5 * strength * click(rng, 0.12, joint))
            place(canvas, start, 2.0 * strength * noise(rng, 1600, crash) * decay(1600, 0.04))
    flange = voice(rng, rng.uniform(1200, 1400) * (1 + 0.002 * wander(rng, size, 5.0)), (FLAT, FLAT), tilt=-6, breath=0)
    return canvas + 0.08 * flange * path(((0, 0.2), (rng.uniform(0.3, 0.7), 1), (1, 0.2)), size)


def helicopter(rng: np.random.Generator) -> np.ndarray:
    """Rotor blades slap the air at BLADE_RATE; between the slaps turbine whine and downwash."""
    size, t = len(seconds(DURATION)), seconds(DURATION)
    wash = noise(rng, size, ((30, -2), (80, 0), (300, -4), (1000, -11), (3000, -22), (8000, -40)))
    slap = np.maximum(0, np.sin(2 * np.pi * BLADE_RATE * t + rng.uniform(0, 6.28))) ** 3
    whine = rng.uniform(2300, 2700) * (1 + 0.001 * wander(rng, size, 3.0))  # Hz
    turbine = np.sin(2 * np.pi * np.cumsum(whine) / SAMPLE_RATE)
    thump = filtered(slap - slap.mean(), ((10, 0), (120, 0), (300, -30)))
    return wash * (0.55 + 0.8 * slap) + 0.8 * thump + 0.04 * turbine


def airplane(rng: np.random.Generator) -> np.ndarray:
    """A jet passing over: deep roar that air and distance have dulled, a thin fan tone that sinks."""
    size = len(seconds(DURATION))
    roar = noise(rng, size, ((25, -4), (60, 0), (200, -7), (700, -13), (1500, -20), (3000, -36), (8000, -70)))
    swelling = path(((0, 0.6), (rng.uniform(0.4, 0.6), 1.0), (1, 0.7)), size)
    fan = voice(rng, path(((0, 1.05), (1, 0.95)), size) * rng.uniform(850, 1000), (FLAT, FLAT), tilt=-10, breath=0)
    return swelling * (turbulent(rng, roar, 6.0, 6.0) + 0.06 * fan)


def police_van(rng: np.random.Generator) -> np.ndarray:
    """A wailing siren between SIREN_LOW and SIREN_HIGH Hz through a horn loudspeaker, in a street."""
    t = seconds(DURATION)
    turn = 2 * np.pi * (t / SIREN_PERIOD + rng.uniform(0, 1))
    pitch = SIREN_LOW * (SIREN_HIGH / SIREN_LOW) ** (0.5 - 0.5 * np.cos(turn))
    horn: Formants = ((1100, 900, 0), (2600, 1500, -4), (4500, 2500, -12))
    siren = voice(rng, pitch, (horn, horn), tilt=-6.0, rough=0.0005, breath=0.01)
    return over(rng, room(rng, siren, time=0.9, wet=0.2), -40, STREET)


def clock(rng: np.random.Generator) -> np.ndarray:
    """An escapement: tick and tock every TICK_PERIOD, each a double click ringing in the case."""
    canvas, at = np.zeros(len(seconds(DURATION))), rng.uniform(0.1, 0.3)
    tick: Formants = ((900, 60, -10), (2300, 90, 0), (3700, 120, 0), (5600, 200, -2))
    tock: Formants = tuple((f * 0.88, width, level) for f, width, level in tick)
    for i in range(int((DURATION - at) / TICK_PERIOD) + 1):
        for delay, strength in ((0.0, 1.0), (0.018, 0.45)):
            beat = click(rng, 0.05, tick if i % 2 == 0 else tock)
            snap = noise(rng, 160, ((500, -20), (3000, 0), (8000, 0))) * decay(160, 0.0015)
            beat[:160] += 0.8 * snap
            place(canvas, at + i * TICK_PERIOD + delay, strength * rng.uniform(0.9, 1.0) * beat)
    return over(rng, room(rng, canvas, time=0.25, wet=0.12), -62, INDOORS)


def _key(rng: np.random.Generator, size: float) -> np.ndarray:
    """One key: the switch clicks, the cap lands 8 ms later and thuds on the desk; a large key (space) is duller."""
    thud: Formants = ((170 / size, 80, -6), (480 / size, 150, -6), (1300, 250, -4), (3300, 450, 0), (5400, 700, 0))
    stroke = click(rng, 0.07, thud)
    snap = noise(rng, 320, ((300, -16), (1500, -4), (4000, 0), (8000, -2))) * decay(320, 0.003)
    stroke[:320] += 0.5 * snap
    stroke[128:448] += 0.7 * snap * rng.uniform(0.6, 1.2)
    return stroke


def keyboard(rng: np.random.Generator) -> np.ndarray:
    """Fast typing in bursts: press and softer release of each key, a space bar every word."""
    canvas, at = np.zeros(len(seconds(DURATION))), 0.1
    while at < DURATION - 0.1:
        for letter in range(rng.integers(4, 9), -1, -1):
            size = 1.6 if letter == 0 else rng.uniform(0.85, 1.15)
            place(canvas, at, rng.uniform(0.45, 1.0) * _key(rng, size))
            place(canvas, at + rng.uniform(0.06, 0.1), rng.uniform(0.15, 0.35) * _key(rng, 0.8))
            at += rng.uniform(0.09, 0.18)
        at += rng.uniform(0.02, 0.2)
    return over(rng, room(rng, canvas, time=0.2, wet=0.15), -54, INDOORS)


def car(rng: np.random.Generator) -> np.ndarray:
    """An idling four-cylinder engine (two firings a turn), the exhaust's flutter, and a two-note horn."""
    size = len(seconds(DURATION))
    firing = rng.uniform(26, 32) * (1 + 0.01 * wander(rng, size, 3.0))
    body: Formants = ((90, 120, 0), (260, 250, -3), (700, 600, -9), (1800, 1800, -18), (4000, 3000, -30))
    engine = voice(rng, firing, (body, body), tilt=-2.0, rough=0.01, breath=0.2)
    pulse = 1 + 0.35 * np.sin(2 * np.pi * np.cumsum(firing) / SAMPLE_RATE)
    air = noise(rng, size, ((50, -6), (200, 0), (1000, -8), (4000, -20), (8000, -30)))
    horn = sum(voice(rng, np.full(size, f), (FLAT, FLAT), tilt=-6.0, rough=0.0005, breath=0.02) for f in (420, 505))
    presses = ((0, 0), (0.3, 0), (0.31, 1), (0.45, 1), (0.46, 0), (0.55, 0), (0.56, 1), (0.8, 1), (0.81, 0), (1, 0))
    honk = path(presses, size)
    return engine + 0.5 * air * pulse + 0.6 * horn * honk


def drone(rng: np.random.Generator) -> np.ndarray:
    """Four propellers, each a comb of blade-pass partials a few Hz apart, over a bright rush of air."""
    size = len(seconds(DURATION))
    blades: Formants = ((400, 500, 0), (1500, 1500, -2), (4000, 4000, -2))
    base = rng.uniform(170, 200)
    hum = np.zeros(size)
    for _ in range(4):
        pitch = base * rng.uniform(0.97, 1.03) * (1 + 0.01 * wander(rng, size, 3.0))
        hum += voice(rng, pitch, (blades, blades), tilt=-5.0, rough=0.003)
    air = noise(rng, size, ((60, -20), (300, -6), (1500, -3), (4000, -4), (8000, -6)))
    return 0.5 * hum + 0.8 * air


def sea(rng: np.random.Generator) -> np.ndarray:
    """Breaking waves: a steady wash; each wave swells from low to bright and runs out in foam."""
    size = len(seconds(DURATION))
    wash = noise(rng, size, ((40, -12), (150, -3), (400, 0), (1500, -8), (4000, -17), (8000, -26)))
    foam = noise(rng, size, ((200, -18), (800, 0), (2500, -3), (5000, -8), (8000, -16)))
    crest = rng.uniform(0.3, 0.5)
    wave = path(((0, 0.45), (crest, 1.0), (crest + 0.25, 0.65), (1, 0.45)), size)
    hiss = path(((0, 0.3), (crest, 0.5), (crest + 0.12, 1.0), (1, 0.3)), size)
    return wash * wave * (1 + 0.08 * wander(rng, size, 6.0)) + 0.45 * foam * hiss * (1 + 0.1 * wander(rng, size, 12.0))
