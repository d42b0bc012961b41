from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bind2gen.errors import Bind2GenError, Bind2GenWarning, InputError, NonFiniteError, ShapeError, TooLargeError
from bind2gen.preprocess import imu
from bind2gen.preprocess.imu import STANDARD_GRAVITY, ImuRecording, ImuSettings

MINI = ImuSettings(sampling_rate=50.0, samples=100)
QUICK = settings(max_examples=25, deadline=None)


def motion(times: np.ndarray, hertz: float = 2.0, amplitude: float = 1.0) -> np.ndarray:
    """(6, N): gravity on z and a sine on every channel, m/s^2 and rad/s."""
    wave = amplitude * np.sin(2 * np.pi * hertz * times)
    return np.stack([wave, -wave, STANDARD_GRAVITY + wave, wave, 0.5 * wave, -wave])


def even(rate: float, seconds: float, **kwargs: float) -> np.ndarray:
    return motion(np.arange(round(rate * seconds)) / rate, **kwargs)


def sine_of(samples: torch.Tensor, rate: float, hertz: float) -> float:
    """Amplitude of one frequency in (n,) samples, by least squares; robust to a fraction of a period."""
    angle = 2 * math.pi * hertz * torch.arange(len(samples), dtype=torch.float64) / rate
    basis = torch.stack([angle.sin(), angle.cos(), torch.ones_like(angle)], dim=1)
    found = torch.linalg.lstsq(basis, samples.double()[:, None]).solution
    return float(found[:2].norm())


def quietly(source, **options) -> ImuRecording:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)
        return imu.load(source, **options)


# ---- settings ----


def test_both_readings_of_2000_samples_by_name():
    assert imu.READINGS["ten_seconds"] == ImuSettings()
    assert ImuSettings().clip_duration == 10.0 and ImuSettings().sampling_rate == 200
    assert imu.READINGS["five_seconds"].clip_duration == 5.0 and imu.READINGS["five_seconds"].samples == 2000


def test_settings_go_to_json_and_back():
    changed = ImuSettings(sampling_rate=50.0, samples=100, policy="sliding", hop=0.5, window=1.0, axes="y-xz")
    assert ImuSettings.from_dict(changed.to_dict()) == changed


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"policy": "reference"}, "policy"), ({"axes": "xyy"}, "axes"), ({"axes": "xyz-"}, "axes"),
        ({"samples": 0}, "samples"), ({"window": 11.0}, "at most 10 s"), ({"hop": float("nan")}, "hop"),
        ({"missing_gyroscope": "guess"}, "missing_gyroscope"), ({"sampling_rate": True}, "sampling_rate"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values, words):
    with pytest.raises(InputError, match=words):
        ImuSettings(**values)


# ---- resampling ----


@pytest.mark.parametrize("rate", [50, 59.7, 100, 102.4, 200, 400, 1000, 1125.37])
@pytest.mark.parametrize("hertz", [0.7, 5.0, 12.0])
def test_a_sine_keeps_frequency_and_amplitude(rate, hertz):
    settings_ = ImuSettings(sampling_rate=200, samples=2000)
    window = imu.transform(imu.load((even(rate, 10, hertz=hertz), rate)), settings_)[0]
    spectrum = torch.fft.rfft(window[0] * torch.hann_window(2000)).abs()
    assert int(spectrum.argmax()) * 0.1 == pytest.approx(hertz, abs=0.1)
    assert sine_of(window[0], 200, hertz) == pytest.approx(1.0, rel=0.01)
    assert sine_of(window[4], 200, hertz) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("jitter", [0.05, 0.3])
@pytest.mark.parametrize("rate", [100, 250])
def test_irregular_timestamps_keep_a_sine_where_and_what_it_is(rate, jitter):
    rng = np.random.default_rng(0)
    times = (np.arange(10 * rate) + rng.uniform(-jitter, jitter, 10 * rate)) / rate
    times -= times[0]
    recording = imu.load({"samples": motion(times, hertz=5.0), "timestamps": times}, time_unit="s", timestamps="given")
    assert recording.timestamps is not None
    samples = imu.resample(recording, ImuSettings(sampling_rate=100))
    expected = np.sin(2 * np.pi * 5.0 * np.arange(samples.shape[1]) / 100)
    assert np.abs(samples[0].numpy() - expected)[10:-10].max() < 0.03
    assert sine_of(samples[0], 100, 5.0) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("regular", [True, False])
def test_what_the_new_rate_cannot_hold_goes(regular):
    rng = np.random.default_rng(0)
    times = np.arange(5000) / 500 + (0 if regular else rng.uniform(-4e-4, 4e-4, 5000))
    times -= times[0]
    fast = motion(times, hertz=70.0)  # would fold back to 30 Hz at 100 Hz
    recording = imu.load({"samples": fast, "timestamps": times}, time_unit="s")
    samples = imu.resample(recording, ImuSettings(sampling_rate=100))[:, 20:-20]
    assert float(samples[0].abs().max()) < 0.01
    assert torch.allclose(samples[2], torch.full_like(samples[2], STANDARD_GRAVITY), atol=0.01)


def test_gravity_holds_to_the_ends():
    still = np.zeros((6, 500)) + np.array([0, 0, STANDARD_GRAVITY, 0, 0, 0])[:, None]
    samples = imu.resample(quietly((still, 102.4)), ImuSettings(sampling_rate=50))
    assert torch.allclose(samples[2], torch.full_like(samples[2], STANDARD_GRAVITY), atol=1e-3)


def test_the_models_own_rate_changes_nothing():
    array = even(200, 10).astype(np.float32)
    assert torch.equal(imu.transform(imu.load((array, 200)))[0], torch.from_numpy(array))


def test_callers_array_is_unchanged_bit_for_bit():
    array = even(200, 3).astype(np.float32)
    array[2, 100:400] = np.nan
    before = array.tobytes()
    imu.transform(quietly((array, 200)), ImuSettings(samples=200, axes="-y-xz", flip_accelerometer=True))
    tensor = torch.from_numpy(array)
    imu.transform(quietly((tensor, 200)), ImuSettings(samples=200))
    imu.transform(ImuRecording(tensor, 200.0), ImuSettings(samples=200))
    assert array.tobytes() == before and tensor.numpy().tobytes() == before


# ---- windows ----


@given(st.integers(1, 5000), st.integers(50, 300))
def test_cover_holds_every_moment_in_ceil_windows(count, samples):
    bounds = imu.clip_bounds(count, ImuSettings(samples=samples))
    assert len(bounds) == -(-count // samples)
    assert bounds[0][0] == 0 and bounds[-1][1] == count
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(bounds))


@given(st.integers(1, 5000), st.floats(0.01, 20.0), st.floats(0.1, 10.0))
def test_sliding_windows_step_by_hop_and_end_with_the_recording(count, hop, window):
    sliding = ImuSettings(policy="sliding", hop=hop, window=window)
    bounds = imu.clip_bounds(count, sliding)
    assert bounds[0][0] == 0 and bounds[-1][1] == count
    steps = [later[0] - earlier[0] for earlier, later in pairwise(bounds)]
    assert all(step == sliding.hop_samples for step in steps[:-1])
    assert all(0 < step <= sliding.hop_samples for step in steps)


def test_windows_are_slices_of_the_whole_with_their_times():
    recording = imu.load((even(50, 7.3), 50))
    whole = imu.resample(recording, MINI)
    [(windows, times)] = imu.transform_batch([recording], ImuSettings(50.0, 100, policy="sliding", hop=1.5))
    assert times.tolist() == pytest.approx(np.array([[0, 2], [1.5, 3.5], [3, 5], [4.5, 6.5], [5.3, 7.3]]))
    for window, (start, end) in zip(windows, (times * 50).round().long().tolist(), strict=True):
        assert torch.equal(window, whole[:, start:end])


def test_a_short_recording_has_zeros_at_its_end_and_is_warned_of():
    with pytest.warns(Bind2GenWarning, match="3.00 s of motion where a window takes 10 s"):
        windows, times = imu.cut(imu.load((even(200, 3), 200)))
    assert windows.shape == (1, 6, 2000) and times.tolist() == [[0.0, 3.0]]
    assert windows[0, :, 600:].abs().max() == 0 and windows[0, 2, :600].min() > 8


def test_axes_are_put_in_order_with_their_signs():
    recording = imu.load((even(50, 4), 50))
    plain = imu.transform(recording, MINI)
    turned = imu.transform(recording, ImuSettings(50.0, 100, axes="y-xz", flip_accelerometer=True))
    assert torch.equal(turned[:, 0], -plain[:, 1]) and torch.equal(turned[:, 1], plain[:, 0])
    assert torch.equal(turned[:, 2], -plain[:, 2])
    assert torch.equal(turned[:, 3], plain[:, 4]) and torch.equal(turned[:, 4], -plain[:, 3])


# ---- units ----


@QUICK
@given(st.integers(0, 100), st.sampled_from([25.0, 50.0, 102.4, 200.0]), st.sampled_from(["g", "mg", "m/s^2"]))
def test_the_same_motion_in_any_unit_gives_equal_tensors(seed, rate, unit):
    rng = np.random.default_rng(seed)
    si = even(rate, 6, hertz=1.0) + 0.3 * rng.standard_normal((6, round(rate * 6)))
    other = si.copy()
    other[:3] /= {"g": STANDARD_GRAVITY, "mg": STANDARD_GRAVITY / 1000, "m/s^2": 1.0}[unit]
    other[3:] *= 180 / np.pi
    stated = imu.load((other, rate), accelerometer_unit=unit, gyroscope_unit="deg/s")
    assert torch.allclose(imu.transform(imu.load((si, rate), gyroscope_unit="rad/s")), imu.transform(stated), atol=1e-4)
    found = imu.load((other, rate), gyroscope_unit="deg/s")
    assert found.description.accelerometer_unit == unit and torch.equal(found.samples, stated.samples)


def turning(rate: float, seconds: float) -> np.ndarray:
    """(6, N) of a body that rolls to and fro in gravity: what both sensors must then see."""
    times = np.arange(round(rate * seconds)) / rate
    angle, speed = 0.8 * np.sin(2 * np.pi * 0.25 * times), 0.8 * 2 * np.pi * 0.25 * np.cos(2 * np.pi * 0.25 * times)
    zero = np.zeros_like(times)
    return np.stack([zero, STANDARD_GRAVITY * np.sin(angle), STANDARD_GRAVITY * np.cos(angle), speed, zero, zero])


@pytest.mark.parametrize(("unit", "factor"), [("rad/s", 1.0), ("deg/s", 180 / np.pi)])
@pytest.mark.parametrize("faster", [1.0, 50.0])
def test_the_gyroscopes_unit_follows_from_gravity_or_from_its_peak(unit, factor, faster):
    array = turning(100, 20)
    array[3:] *= factor
    if faster > 1 and unit == "deg/s":
        array[3:, 100:120] *= faster  # more than anyone can turn in rad/s
    description = quietly((array, 100)).description
    assert description.gyroscope_unit == unit
    assert any(word in description.notes[-1] for word in ("gravity", "peak"))


def test_swapped_sensors_are_named():
    with pytest.raises(InputError, match="swapped"):
        imu.load((even(100, 5, amplitude=0.2)[[3, 4, 5, 0, 1, 2]], 100))


@pytest.mark.parametrize("scale", [0.0, 0.01, 40.0, 16_384.0])
def test_an_accelerometer_without_gravitys_size_needs_its_unit(scale):
    array = even(100, 5)
    array[:3] *= scale
    with pytest.raises(InputError, match="accelerometer_unit"):
        imu.load((array, 100))


# ---- faults ----


def test_short_holes_are_bridged_and_long_ones_become_zeros():
    array = even(100, 8, hertz=0.5)
    array[0, 200:210] = np.nan  # 0.1 s
    array[1, 300:400] = np.nan  # 1 s
    with pytest.warns(Bind2GenWarning, match="110 values are missing"):
        recording = imu.load((array, 100))
    samples, clean = imu.resample(recording, MINI), imu.resample(imu.load((even(100, 8, hertz=0.5), 100)), MINI)
    assert samples.isfinite().all()
    assert (samples[0] - clean[0]).abs().max() < 0.03
    assert samples[1, 150:200].abs().max() == 0 and (samples[1, :140] - clean[1, :140]).abs().max() < 0.01
    assert torch.equal(samples[2:], clean[2:])


def test_a_stretch_without_samples_becomes_zeros_and_is_described():
    times = np.concatenate([np.arange(300), np.arange(500, 800)]) / 100
    with pytest.warns(Bind2GenWarning, match="1 stretch of 2.01 s has no samples; it becomes zeros"):
        recording = imu.load({"samples": motion(times), "timestamps": times})
    assert np.allclose(recording.description.gaps, ((2.99, 5.0),))  # s
    samples = imu.resample(recording, MINI)
    assert samples.shape[1] == 400
    assert samples[:, 150:250].abs().max() == 0 and samples[2, :150].min() > 8 and samples[2, 250:].min() > 8


def test_times_of_handing_over_are_taken_as_even():
    rng = np.random.default_rng(0)
    taken = np.arange(1000) / 100
    handed = np.floor(np.maximum.accumulate(taken + rng.exponential(0.01, 1000)) * 1000)  # ms, in bunches
    assert (np.diff(handed) == 0).sum() > 10
    with pytest.warns(Bind2GenWarning, match="taken as evenly spaced at 100"):
        recording = imu.load({"samples": motion(taken, hertz=5.0), "timestamps": handed})
    assert recording.timestamps is None and recording.sampling_rate == pytest.approx(100, rel=1e-3)
    assert sine_of(imu.resample(recording, MINI)[0], 50, 5.0) == pytest.approx(1.0, rel=0.01)


def test_rows_written_twice_count_once():
    times = np.arange(400) / 100
    twice = {"samples": motion(times).repeat(2, axis=1), "timestamps": times.repeat(2)}
    with pytest.warns(Bind2GenWarning, match="400 rows are copies"):
        recording = imu.load(twice)
    assert recording.sampling_rate == pytest.approx(100) and recording.samples.shape == (6, 400)


def test_of_two_samples_at_one_time_given_as_true_the_first_counts():
    times = np.arange(400) // 2 / 50  # in pairs
    with pytest.warns(Bind2GenWarning, match="200 rows came at the time of the row before"):
        recording = imu.load({"samples": motion(np.arange(400) / 97), "timestamps": times}, timestamps="given")
    assert recording.sampling_rate == pytest.approx(50) and recording.samples.shape == (6, 200)


def test_time_that_runs_backwards_is_refused_or_sorted():
    times = np.arange(400) / 100
    order = np.r_[0:200, 210:400, 200:210]
    source = {"samples": motion(times)[:, order], "timestamps": times[order]}
    with pytest.raises(InputError, match=r"backwards at row 390 \(3.990 s, then 2.000 s\)"):
        imu.load(source)
    with pytest.warns(Bind2GenWarning, match="sorted"):
        recording = imu.load(source, timestamps="sort")
    assert torch.equal(recording.samples, imu.load((motion(times), 100)).samples)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.concatenate([np.tile([[0], [0], [9.8]], 300), even(100, 3)[3:]]), "accelerometer never changes"),
        (np.concatenate([even(100, 3)[:3], np.zeros((3, 300))]), "gyroscope never changes"),
        (np.concatenate([even(100, 3)[:5], np.full((1, 300), 0.5)]), "gyroscope's z axis never changes"),
        (even(100, 3)[:3], "no gyroscope"),
    ],
)
def test_broken_and_missing_sensors_are_warned_of(array, words):
    with pytest.warns(Bind2GenWarning, match=words):
        recording = imu.load((array, 100))
    assert imu.transform(recording, MINI).isfinite().all()


def test_a_missing_gyroscope_can_be_refused():
    with pytest.raises(InputError, match="no gyroscope"):
        imu.load((even(100, 3)[:3], 100), settings=ImuSettings(missing_gyroscope="refuse"))


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        (even(100, 3), {}, InputError, "array: its sampling rate is missing"),
        ((even(100, 3), 0), {}, InputError, "sampling rate"),
        ((even(100, 3)[:, :1], 100), {}, InputError, "two samples"),
        ((np.zeros((6, 0)), 100), {}, InputError, "no samples"),
        ((np.zeros((4, 9)), 100), {}, ShapeError, r"\(6, N\).*\(4, 9\)"),
        ((even(100, 3) > 0, 100), {}, ShapeError, "bool"),
        ((np.full((6, 50), np.nan), 100), {}, NonFiniteError, "accelerometer has no values"),
        ((np.full((6, 50), np.inf), 100), {}, NonFiniteError, "infinite"),
        ((even(100, 3), 100), {"accelerometer_unit": "feet"}, InputError, "accelerometer_unit"),
        ({"samples": even(100, 3), "timestamps": np.arange(300)}, {}, InputError, "row numbers"),
        ({"samples": even(100, 3), "timestamps": np.zeros(300)}, {}, InputError, "same time"),
        ({"samples": even(100, 3), "timestamps": np.arange(299) / 100}, {}, ShapeError, "299 timestamps"),
        ({"gyroscope": even(100, 3)[:3]}, {}, InputError, "accelerometer"),
        (5, {}, ShapeError, "int: wanted motion"),
        ((even(1, 90_000), 1), {}, TooLargeError, "max_seconds"),
    ],
)  # fmt: skip
def test_bad_values_are_named_errors(source, options, error, words):
    with pytest.raises(Bind2GenError, match=words) as caught:
        imu.load(source, **options)
    assert isinstance(caught.value, error) and "\n" not in str(caught.value)


@QUICK
@given(
    rate=st.floats(0.1, 5000), channels=st.sampled_from([1, 3, 6, 7]), count=st.integers(0, 700),
    dtype=st.sampled_from(["float16", "float32", "float64", "int16", "int64", "uint8", "bool"]),
    scale=st.floats(1e-3, 1e4), stamped=st.booleans(), turned=st.booleans(), seed=st.integers(0, 9),
)  # fmt: skip
def test_anything_is_a_finite_tensor_of_the_right_shape_or_a_named_error(
    rate, channels, count, dtype, scale, stamped, turned, seed
):
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        array = (scale * (rng.standard_normal((channels, count)) + [[1]] * channels)).astype(dtype)
    array = array.T if turned else array
    times = np.cumsum(rng.exponential(1 / rate, count))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)
        try:
            recording = imu.load({"samples": array, "timestamps": times} if stamped else (array, rate))
            windows, bounds = imu.cut(recording, MINI)
        except Bind2GenError as error:
            assert "\n" not in str(error) and len(str(error)) > 20
            return
    assert windows.shape[1:] == (6, 100) and windows.dtype == torch.float32 and windows.isfinite().all()
    assert bounds.shape == (len(windows), 2) and (bounds[:, 1] > bounds[:, 0]).all()
