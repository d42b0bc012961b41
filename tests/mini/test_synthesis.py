"""The synthesised sounds have the rates, pitches and rhythms that they were designed with."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from bind2gen.errors import InputError
from bind2gen.files.bundled import concept_of
from bind2gen.mini import synthesis as sounds
from bind2gen.mini.recipe import JUDGED
from bind2gen.mini.synthesis import NAMES, SAMPLE_RATE, dsp, machines, synthesise

made = functools.cache(synthesise)  # for tests that only listen


def spectrogram(x: np.ndarray, frame: int = 1024, hop: int = 160) -> np.ndarray:
    """(frames, frame // 2 + 1) magnitudes."""
    frames = np.lib.stride_tricks.sliding_window_view(x, frame)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(frame), axis=1))


def envelope_peak(x: np.ndarray, low: float, high: float) -> float:
    """Strongest rate in Hz, between two bounds, in the spectrum of the power envelope."""
    power = x.astype(np.float64) ** 2
    spectrum = np.abs(np.fft.rfft(power - power.mean(), 8 * len(power)))
    rates = np.fft.rfftfreq(8 * len(power), 1 / SAMPLE_RATE)
    inside = (rates >= low) & (rates <= high)
    return float(rates[inside][spectrum[inside].argmax()])


def envelope(x: np.ndarray, hop: int = 80) -> np.ndarray:
    """Power per 5 ms, in dB below the loudest."""
    power = (x[: len(x) // hop * hop].astype(np.float64) ** 2).reshape(-1, hop).mean(1)
    return 10 * np.log10(power / power.max() + 1e-12)


def centroid(x: np.ndarray) -> float:
    """Centre of the power spectrum in Hz."""
    power = np.abs(np.fft.rfft(x)) ** 2
    return float((power * np.fft.rfftfreq(len(x), 1 / SAMPLE_RATE)).sum() / power.sum())


@pytest.mark.parametrize("name", NAMES)
def test_every_sound_is_16_khz_float32_of_4_to_5_seconds_and_audible(name: str) -> None:
    x = made(name)
    assert x.dtype == np.float32 and x.ndim == 1
    assert 4.0 <= len(x) / SAMPLE_RATE <= 5.0
    assert np.isfinite(x).all()
    assert 0.25 <= np.abs(x).max() <= 1.0
    assert x.std() > 0.005
    assert abs(x.mean()) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_decides_the_samples(name: str) -> None:
    state = np.random.get_state()[1].copy()
    first, again, other = made(name), synthesise(name, seed=0), synthesise(name, seed=4)
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.9
    assert np.array_equal(np.random.get_state()[1], state)  # the global generator is left alone


def test_names_match_concepts_and_the_public_names_exist() -> None:
    assert {concept_of(name) for name in NAMES} == set(JUDGED)
    assert concept_of("police_van") == "police van" and concept_of("dog") == "dog"
    assert all(name.isidentifier() for name in NAMES)
    assert all(hasattr(sounds, name) for name in sounds.__all__)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_siren_sweeps_between_its_two_pitches(seed: int) -> None:
    x = made("police_van", seed=seed)
    frames = spectrogram(x)
    hertz = np.fft.rfftfreq(1024, 1 / SAMPLE_RATE)
    band = (hertz > 500) & (hertz < 1500)
    pitch = hertz[band][frames[:, band].argmax(axis=1)]
    # A second partial of the low end lies inside the band, but the first is the louder one.
    assert np.percentile(pitch, 2) == pytest.approx(machines.SIREN_LOW, abs=40)
    assert np.percentile(pitch, 98) == pytest.approx(machines.SIREN_HIGH, abs=40)
    assert np.abs(np.diff(pitch)).max() < 200  # it glides, it does not jump


@pytest.mark.parametrize("seed", [0, 1])
def test_the_clock_ticks_at_its_period(seed: int) -> None:
    level = envelope(made("clock", seed=seed))
    onsets, last = [], -1e9
    for i in np.flatnonzero(level > -12):
        if i - last > 40:  # 0.2 s: the second click of the same beat does not count
            onsets.append(i * 0.005)
            last = i
    assert len(onsets) in (8, 9)
    assert np.diff(onsets) == pytest.approx(machines.TICK_PERIOD, abs=0.011)
    assert np.median(level) < -25  # quiet between the ticks


@pytest.mark.parametrize("seed", [0, 1])
def test_the_rotor_slaps_at_the_blade_rate(seed: int) -> None:
    assert envelope_peak(made("helicopter", seed=seed), 5, 40) == pytest.approx(machines.BLADE_RATE, abs=0.3)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_frog_croaks_in_pulses_and_around_2_khz(seed: int) -> None:
    x = made("frog", seed=seed)
    assert 40 < envelope_peak(x, 20, 80) < 60
    assert 1700 < centroid(x) < 2700


@pytest.mark.parametrize(("name", "low", "high"), [("cow", 80, 200), ("cat", 380, 820), ("insect", 160, 240)])
def test_the_pitch_of_a_voice_lies_where_it_was_put(name: str, low: float, high: float) -> None:
    x = made(name).astype(np.float64)
    level = envelope(x, SAMPLE_RATE // 4)
    start = int(level.argmax()) * SAMPLE_RATE // 4
    part = x[start : start + SAMPLE_RATE // 8]
    correlation = np.correlate(part, part, "full")[len(part) - 1 :]
    lags = np.arange(SAMPLE_RATE // 1000, SAMPLE_RATE // 60)
    # The first lag nearly as good as the best: the best may be a multiple of the period.
    good = lags[correlation[lags] > 0.85 * correlation[lags].max()]
    assert low < SAMPLE_RATE / good[0] < high


def test_things_are_as_bright_as_their_sources() -> None:
    bright = {name: centroid(made(name)) for name in NAMES}
    assert 2500 < bright["bird"] < 6000
    assert bright["airplane"] < 500
    assert bright["cow"] < bright["sheep"] < bright["bird"]
    assert bright["train"] < bright["sea"]


def test_animals_and_keys_pause_where_engines_and_water_do_not() -> None:
    quiet = {name: float((envelope(made(name), 400) < -25).mean()) for name in NAMES}
    for name in ("dog", "cat", "frog", "clock"):
        assert quiet[name] > 0.2, name
    for name in ("sea", "train", "helicopter", "airplane", "drone", "car"):
        assert quiet[name] < 0.02, name


def test_a_voice_keeps_its_pitch_and_its_formant() -> None:
    rng = np.random.default_rng(0)
    x = dsp.voice(rng, np.full(16_000, 200.0), (((1000.0, 100.0, 0.0),),) * 2, tilt=0.0, rough=0.0, breath=0.0)
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    assert spectrum.argmax() == 1000  # 1 Hz bins: the fifth partial sits on the formant
    partials = spectrum[200:7401:200]
    between = spectrum[300:7301:200]
    assert between.max() < 1e-3 * partials.max()
    # A resonance 100 Hz wide is 1 / sqrt(1 + 4 ** 2) as strong 200 Hz off its centre.
    assert spectrum[1200] / spectrum[1000] == pytest.approx(17**-0.5, rel=0.02)


def test_a_curve_filters_by_its_decibels() -> None:
    t = np.arange(16_000) / SAMPLE_RATE
    x = np.sin(2 * np.pi * 500 * t)
    y = dsp.filtered(x, ((100, 0), (500, -20), (8000, -20)))
    assert y[4000:12_000].std() / x[4000:12_000].std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("at", [-0.5, 0.0, 0.9, 5.0])
def test_events_that_overhang_are_cut(at: float) -> None:
    canvas = np.zeros(SAMPLE_RATE)
    dsp.place(canvas, at, np.ones(SAMPLE_RATE // 2))
    inside = max(0.0, min(1.0, at + 0.5) - max(0.0, at))
    assert canvas.sum() == pytest.approx(inside * SAMPLE_RATE, abs=1)


def test_an_unknown_name_is_refused_with_the_choice() -> None:
    with pytest.raises(InputError, match="'unicorn'.*police_van"):
        synthesise("unicorn")
