"""Building blocks of the synthesised sounds: sources (voices, noise), filters, envelopes, events in time, a room.

All signals are (N,) float64 at SAMPLE_RATE; a curve is a tuple of (frequency in Hz, level in dB) points, straight
between them over the logarithm of frequency.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...pipelines.null_sounds import SAMPLE_RATE, Curve, filtered, noise, seconds

CONTROL_STEP = 160  # samples: filters of a voice move every 10 ms
TOP = 7_600.0  # Hz: partials above are left out, so that nothing folds back at 8 kHz
Formants = tuple[tuple[float, float, float], ...]  # centre in Hz, bandwidth in Hz, level in dB


def path(points: Iterable[tuple[float, float]], size: int) -> np.ndarray:
    """(size,) values along (place in 0..1, value) points, rounded between them as muscles and motors do."""
    places, values = np.array(list(points)).T
    u = np.linspace(0, 1, size)
    left = np.clip(np.searchsorted(places, u, side="right") - 1, 0, len(places) - 2)
    s = np.clip((u - places[left]) / (places[left + 1] - places[left]), 0, 1)
    return values[left] + (values[left + 1] - values[left]) * s * s * (3 - 2 * s)


def wander(rng: np.random.Generator, size: int, rate: float) -> np.ndarray:
    """(size,) slow noise of unit deviation that changes about ``rate`` times a second."""
    knots = max(4, int(size / SAMPLE_RATE * rate) + 3)
    values = rng.standard_normal(knots)
    return np.interp(np.linspace(0, knots - 1, size), np.arange(knots), values)


def turbulent(rng: np.random.Generator, x: np.ndarray, depth: float, rate: float) -> np.ndarray:
    """``x`` with each octave swelling on its own: what moving air does to a steady sound.

    ``depth`` is the deviation in dB, ``rate`` how often a second it changes.
    """
    edges = (30.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)  # Hz
    total = np.zeros(len(x))
    spectrum, frequency = np.fft.rfft(x), np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE)
    octave = np.interp(np.log(np.maximum(frequency, 1.0)), np.log(edges), np.arange(len(edges)))
    for i in range(len(edges)):
        band = np.fft.irfft(spectrum * np.clip(1 - np.abs(octave - i), 0, 1), len(x))
        total += band * 10 ** (depth * wander(rng, len(x), rate) / 20)
    return total


def resonance(frequency: np.ndarray, formants: Formants) -> np.ndarray:
    """Amplitude of a sum of vocal-tract resonances at each frequency."""
    total = np.zeros_like(frequency)
    for centre, width, decibel in formants:
        total = total + 10 ** (decibel / 20) / np.sqrt(1 + ((frequency - centre) / (width / 2)) ** 2)
    return total


def voice(
    rng: np.random.Generator,
    pitch: np.ndarray,
    tracts: tuple[Formants, ...],
    *,
    tilt: float = -9.0,
    rough: float = 0.02,
    breath: float = 0.1,
) -> np.ndarray:
    """A glottal pulse train through a vocal tract that moves evenly through ``tracts``.

    Additive: partial k has the tract's gain at k times the pitch of the moment, so pitch glides stay exact.

    Args:
        pitch: (N,) Hz.
        tilt: fall of the glottal spectrum in dB per octave.
        rough: deviation of the pitch (a part of it) and of the strength from cycle to cycle.
        breath: noise through the same tract, as a part of the voiced sound.
    """
    size = len(pitch)
    pitch = pitch * (1 + rough * wander(rng, size, 60.0))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    at = np.arange(0, size + CONTROL_STEP, CONTROL_STEP)
    place = np.linspace(0, len(tracts) - 1, len(at))
    slow = np.interp(at, np.arange(size), pitch)
    mix = [np.clip(1 - np.abs(place - i), 0, 1) for i in range(len(tracts))]
    voiced = np.zeros(size)
    for k in range(1, int(TOP / pitch.min()) + 1):
        frequency = np.where(k * slow < TOP, k * slow, 1e9)
        level = sum(m * resonance(frequency, tract) for m, tract in zip(mix, tracts, strict=True))
        voiced += np.interp(np.arange(size), at, level * k ** (tilt / 6.02)) * np.sin(k * phase + k * k * 0.7)
    voiced *= 1 + 5 * rough * wander(rng, size, 60.0)
    hiss = np.zeros(size)
    for m, tract in zip(mix, tracts, strict=True):
        spectrum = np.fft.rfft(rng.standard_normal(size))
        part = np.fft.irfft(spectrum * resonance(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), tract), size)
        hiss += part * np.interp(np.arange(size), at, m)
    return voiced / voiced.std() + breath * hiss / hiss.std()


def swell(size: int, attack: float, release: float) -> np.ndarray:
    """(size,) envelope 0 -> 1 -> 0 with raised-cosine edges of ``attack`` and ``release`` seconds."""
    t = np.arange(size) / SAMPLE_RATE
    edge = np.minimum(t / attack, (t[-1] - t) / release)
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(edge, 0, 1))


def decay(size: int, time: float, attack: float = 0.001) -> np.ndarray:
    """(size,) envelope of a struck thing: ``attack`` seconds up, then down by 1/e every ``time`` seconds."""
    t = np.arange(size) / SAMPLE_RATE
    return np.minimum(t / attack, 1) * np.exp(-t / time)


def click(rng: np.random.Generator, duration: float, modes: Formants) -> np.ndarray:
    """A struck body: each mode (Hz, bandwidth in Hz, dB) rings down at random phase, plus its contact noise."""
    t = seconds(duration)
    ring = sum(
        10 ** (decibel / 20) * np.exp(-np.pi * width * t) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6.28))
        for f, width, decibel in modes
    )
    return ring * decay(len(t), duration, 0.0005)


def place(canvas: np.ndarray, at: float, event: np.ndarray) -> None:
    """Add ``event`` to ``canvas`` from ``at`` seconds on; what overhangs either end is cut."""
    start = round(at * SAMPLE_RATE)
    head = max(0, -start)
    tail = max(head, min(len(event), len(canvas) - start))
    canvas[start + head : start + tail] += event[head:tail]


def room(rng: np.random.Generator, x: np.ndarray, *, time: float = 0.25, wet: float = 0.15) -> np.ndarray:
    """``x`` in a room: exponentially dying echoes (60 dB in ``time`` seconds), ``wet`` as loud as the sound itself."""
    t = seconds(time)
    echo = filtered(rng.standard_normal(len(t)) * 10 ** (-3 * t / time), ((100, -6), (500, 0), (2000, -3), (8000, -15)))
    size = len(x) + len(t)
    tail = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(echo, size), size)[: len(x)]
    return x + wet * tail * (x.std() / (tail.std() + 1e-12))


def over(rng: np.random.Generator, x: np.ndarray, floor: float, curve: Curve) -> np.ndarray:
    """``x``, peak 1, over a noise floor of ``floor`` dB (deviation against that peak)."""
    return x / np.abs(x).max() + 10 ** (floor / 20) * noise(rng, len(x), curve)
