"""Motion: accelerometer and gyroscope from any file or array to the model's windows."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError, ShapeError, TooLargeError
from ..resampling import padded_end
from ..sources import is_file_source, source_name
from .arrays import from_arrays, is_array_source, is_numpy_file, read_numpy
from .folders import is_uci_har, load_uci_har, pair_in, read_pair
from .grid import GridStream
from .reading import read
from .recording import STANDARD_GRAVITY, ImuDescription, ImuRecording, Stated, warn
from .settings import DEFAULTS, POLICIES, READINGS, ImuSettings
from .tables import open_table
from .times import MAX_RATE, checked_rate

__all__ = [
    "ImuDescription", "ImuRecording", "ImuSettings", "POLICIES", "READINGS", "STANDARD_GRAVITY", "Stated",
    "clip_bounds", "cut", "load", "load_uci_har", "oriented", "resample", "transform", "transform_batch",
]  # fmt: skip

LITTLE = 0.5  # of a window; a recording that fills less is warned of


def load(
    source: Any,
    *,
    settings: ImuSettings = DEFAULTS,
    accelerometer_unit: str | None = None,
    gyroscope_unit: str | None = None,
    time_unit: str | None = None,
    columns: Any = None,
    sampling_rate: float | None = None,
    timestamps: str = "auto",
    row: int | None = None,
) -> ImuRecording:
    """Read a recording; what is not stated is found out, and ``description`` says what was found.

    Args:
        source: a path, bytes or file object of a table (CSV, TSV or white-space text, also gzipped; JSON; Parquet),
            as known recorders write it (:data:`bind2gen.preprocess.imu.layouts.LAYOUTS`), with other names of columns,
            or without; NPY or NPZ; a folder with a table of each sensor (``Accelerometer.csv`` and ``Gyroscope.csv``,
            or one name with ``acc`` and one with ``gyr`` in it) or of UCI HAR (``total_acc_x_*.txt``; see ``row``);
            ``(accelerometer file, gyroscope file)``; an array or tensor (6, N), (N, 6), or (3, N), (N, 3) without
            gyroscope; ``(array, rate)``; a dict with ``accelerometer`` and ``gyroscope`` or ``samples``, and
            ``timestamps`` or ``sampling_rate``; or an :class:`ImuRecording`. ``Gravity.csv`` beside an
            ``Accelerometer.csv`` that has its gravity taken off is added to it.
        settings: ``max_gap``, ``max_seconds`` and ``missing_gyroscope`` are used here.
        accelerometer_unit: ``"m/s^2"``, ``"g"`` or ``"mg"``; None: by header or layout, or by the size of gravity.
        gyroscope_unit: ``"rad/s"``, ``"deg/s"`` or ``"mdeg/s"``; None: by header or layout, or by peak and gravity's
            turning; where none of them tells it, a warning says so.
        time_unit: ``"s"``, ``"ms"``, ``"us"``, ``"ns"`` or ``"iso"``.
        columns: ``{"accelerometer": three, "gyroscope": three, "time": one}``, names or numbers from 0; of a pair,
            numbers or names that hold for both files.
        sampling_rate: Hz; the samples are taken as evenly spaced, and times are passed over.
        timestamps: what to make of times that jitter, repeat or run backwards: ``"auto"``, ``"given"``, ``"even"`` or
            ``"sort"``; see :func:`~bind2gen.preprocess.imu.times.understood`.
        row: which window of a UCI HAR folder, from 0.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
        DependencyError: Parquet without pyarrow.
    """
    if isinstance(source, ImuRecording):
        return _checked_length(source, settings)
    stated = Stated(accelerometer_unit, gyroscope_unit, time_unit, columns, sampling_rate, timestamps)
    if isinstance(source, str | os.PathLike) and (folder := Path(source)).is_dir():
        if is_uci_har(folder):
            windows = load_uci_har(folder, row)
            if len(windows) > 1:
                most = f"UCI HAR holds {len(windows)} windows"
                raise InputError(f"{source_name(folder)}: {most}; give row=0..{len(windows) - 1}")
            return windows[0]
        source = pair_in(folder)
    if is_array_source(source):
        found = read(from_arrays(source), stated, settings, whole=True)
    elif isinstance(source, tuple) and len(source) == 2:
        found = read_pair(*source, stated, settings)
    elif is_file_source(source):
        table = read_numpy(source) if is_numpy_file(source) else open_table(source)
        found = read(table, stated, settings, whole=True)
    else:
        raise ShapeError(
            f"{source_name(source)}: wanted motion as a path, bytes, file object, folder, array or pair of files, got "
            f"{type(source).__name__}"
        )
    return _checked_length(found.recording(), settings)


def _checked_length(motion: ImuRecording, settings: ImuSettings) -> ImuRecording:
    if motion.seconds > settings.max_seconds:
        raise TooLargeError(
            f"{motion.name}: {motion.seconds:.0f} s of motion, the limit is {settings.max_seconds:.0f} s; cut it, "
            "stream it with embed_timeline, or raise max_seconds in ImuSettings"
        )
    if motion.sampling_rate > MAX_RATE:  # of uneven times, which may be slow
        checked_rate(motion.sampling_rate, motion.name)
    return motion


def oriented(samples: torch.Tensor, settings: ImuSettings) -> torch.Tensor:
    """(6, n) with the axes in the order that the settings want."""
    if settings.axes == "xyz" and not settings.flip_accelerometer:
        return samples
    numbers, signs = settings.axis_order
    sign = torch.tensor(signs * 2, dtype=samples.dtype, device=samples.device)[:, None]
    if settings.flip_accelerometer:
        sign[:3] = -sign[:3]
    return samples[[*numbers, *(3 + number for number in numbers)]] * sign


def grid_stream(motion: ImuRecording, settings: ImuSettings) -> GridStream:
    """What brings this recording's samples to the rate of the settings, in one go or block by block."""
    times = None if motion.timestamps is None else motion.timestamps.cpu().numpy()
    return GridStream(motion.sampling_rate, times, settings.sampling_rate, settings.max_gap)


def resample(motion: ImuRecording, settings: ImuSettings = DEFAULTS) -> torch.Tensor:
    """The whole recording at the settings' rate, (6, n) float32, finite, axes in order.

    Band-limited: a sine keeps frequency and amplitude, what is above the new Nyquist frequency goes.

    Raises:
        ShapeError: the recording is not (6, N) with N of two or more.
    """
    samples = motion.samples
    if samples.ndim != 2 or len(samples) != 6 or samples.shape[1] < 2:
        raise ShapeError(f"{motion.name}: wanted (6, N) samples with N >= 2, got shape {tuple(samples.shape)}")
    return oriented(grid_stream(motion, settings).push(samples, end=True), settings)


def clip_bounds(num_samples: int, settings: ImuSettings) -> list[tuple[int, int]]:
    """First sample and one past the last of each window of ``num_samples`` at ``settings.sampling_rate``."""
    length = settings.clip_samples
    last = max(num_samples - length, 0)
    if settings.policy == "sliding":
        # The last window is moved back to end with the recording: no end is lost, none is mostly padding.
        starts = [*range(0, last, settings.hop_samples), last]
    else:
        count = math.ceil(num_samples / length) if settings.policy == "cover" else settings.num_clips
        starts = [last * i // max(count - 1, 1) for i in range(count)]
    return [(start, min(start + length, num_samples)) for start in starts]


def cut(motion: ImuRecording, settings: ImuSettings = DEFAULTS) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of a recording, (S, 6, samples), zeros at the end, and their start and end, (S, 2) s on the CPU."""
    samples = resample(motion, settings)
    bounds = clip_bounds(samples.shape[1], settings)
    if bounds[0][1] < LITTLE * settings.clip_samples:
        seconds, wanted = samples.shape[1] / settings.sampling_rate, settings.clip_samples / settings.sampling_rate
        warn(motion.name, f"{seconds:.2f} s of motion where a window takes {wanted:g} s; the rest is zeros")
    windows = torch.stack([padded_end(samples[:, start:end], settings.samples) for start, end in bounds])
    return windows, torch.tensor(bounds, dtype=torch.float32) / settings.sampling_rate


def transform(motion: ImuRecording, settings: ImuSettings = DEFAULTS) -> torch.Tensor:
    """Resample, put axes in order, cut windows, add zeros at the end; no normalisation, as in imu2clip.

    Returns:
        (S, 6, samples) float32 on the recording's device: accelerometer xyz in m/s^2, gyroscope xyz in rad/s.
    """
    return cut(motion, settings)[0]


def transform_batch(motions: list[ImuRecording], settings: ImuSettings) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """:func:`transform` of many recordings, each with its windows' times (see :func:`cut`)."""
    return [cut(motion, settings) for motion in motions]
