"""Motion: accelerometer and gyroscope from any file or array to the model's windows."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import Bind2GenWarning, ShapeError, TooLargeError
from .imu_arrays import Arrays, from_arrays, is_array_source, is_numpy_file, read_numpy
from .imu_files import Table, open_table
from .imu_folders import gravity_beside, load_folder, load_uci_har
from .imu_grid import GridStream
from .imu_pairs import merged, read_track, with_gravity
from .imu_reading import ADDED, Stated, Understanding, columns_of, motion_blocks, recording, understand, with_gaps
from .imu_recording import STANDARD_GRAVITY, ImuDescription, ImuRecording
from .imu_settings import DEFAULTS, POLICIES, READINGS, ImuSettings
from .resampling import padded_end
from .sources import is_file_source, source_name

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
        source: a path, bytes or file object of a table (CSV, TSV or white-space text, also gzipped; Parquet), NPY or
            NPZ; a folder of Sensor Logger or Phyphox (``Accelerometer.csv`` and ``Gyroscope.csv``) or of UCI HAR
            (``total_acc_x_*.txt`` ...; see ``row``); ``(accelerometer file, gyroscope file)``; an array or tensor
            (6, N), (N, 6), or (3, N), (N, 3) without gyroscope; ``(array, rate)``; a dict with ``accelerometer`` and
            ``gyroscope`` or ``samples``, and ``timestamps`` or ``sampling_rate``; or an :class:`ImuRecording`.
            ``Gravity.csv`` beside an ``Accelerometer.csv`` that has its gravity taken off is added to it.
        settings: ``max_gap``, ``max_seconds`` and ``missing_gyroscope`` are used here.
        accelerometer_unit: ``"m/s^2"``, ``"g"`` or ``"mg"``; None: by the header, or by the size of gravity.
        gyroscope_unit: ``"rad/s"``, ``"deg/s"`` or ``"mdeg/s"``; None: by the header, or by peak and gravity's turning.
        time_unit: ``"s"``, ``"ms"``, ``"us"``, ``"ns"`` or ``"iso"``.
        columns: ``{"accelerometer": three, "gyroscope": three, "time": one}``, names or numbers from 0; of a pair,
            numbers or names that hold for both files.
        sampling_rate: Hz; the samples are taken as evenly spaced, and times are passed over.
        timestamps: what to make of times that jitter, repeat or run backwards: ``"auto"``, ``"given"``, ``"even"`` or
            ``"sort"``; see :func:`~bind2gen.preprocess.imu_times.understood`.
        row: which window of a UCI HAR folder, from 0.

    Raises:
        UnreadableError, EmptyInputError, NonFiniteError, ShapeError, TooLargeError, InputError: all name the source.
        DependencyError: Parquet without pyarrow.
    """
    if isinstance(source, ImuRecording):
        return _checked_length(source, settings)
    stated = Stated(accelerometer_unit, gyroscope_unit, time_unit, columns, sampling_rate, timestamps)
    if is_array_source(source):
        return _from_arrays(from_arrays(source), stated, settings, "array")
    if isinstance(source, tuple) and len(source) == 2:
        return _from_pair(source[0], source[1], stated, settings)
    if isinstance(source, str | os.PathLike) and Path(source).is_dir():
        return load_folder(Path(source), row, lambda first, second: _from_pair(first, second, stated, settings))
    if not is_file_source(source):
        raise ShapeError(
            f"{source_name(source)}: wanted motion as a path, bytes, file object, folder, array or pair of files, got "
            f"{type(source).__name__}"
        )
    return _from_file(source, stated, settings)


def _from_file(source: Any, stated: Stated, settings: ImuSettings) -> ImuRecording:
    if is_numpy_file(source):
        return _from_arrays(read_numpy(source), stated, settings, source_name(source))
    understanding, values = _whole_table(open_table(source), stated)
    return _finished(understanding, values, settings)


def _from_arrays(arrays: Arrays, stated: Stated, settings: ImuSettings, name: str) -> ImuRecording:
    return _finished(arrays.understood(stated, name), arrays.values, settings)


def _whole_table(table: Table, stated: Stated) -> tuple[Understanding, np.ndarray]:
    columns = columns_of(table, stated)
    blocks = list(motion_blocks(table, columns, stated.sampling_rate is None))
    understanding = understand(blocks, columns, stated, table.name, table.names)
    return understanding, np.concatenate([values for values, _ in blocks], axis=1)


def _finished(understanding: Understanding, values: np.ndarray, settings: ImuSettings) -> ImuRecording:
    understanding = with_gaps(understanding, settings.max_gap, settings.missing_gyroscope)
    return _checked_length(recording(understanding, understanding.samples(values)), settings)


def _from_pair(accelerometer: Any, gyroscope: Any, stated: Stated, settings: ImuSettings) -> ImuRecording:
    first, second = (read_track(accelerometer, "accelerometer", stated), read_track(gyroscope, "gyroscope", stated))
    bare, beside = first, gravity_beside(accelerometer)
    if beside is not None and stated.columns is None:
        first = with_gravity(first, beside, stated, settings.max_gap)
    tracks = (first, second)
    arrays, columns = merged(tracks, settings.max_gap)
    name = f"{tracks[0].name} + {tracks[1].name}"
    judged = replace(stated, time_unit="s", timestamps="given", columns=None)  # the times have been judged one by one
    understanding = arrays.understood(judged, name, columns)
    if first is not bare:
        description = understanding.description
        understanding = replace(understanding, description=replace(description, notes=(ADDED, *description.notes)))
    for message in (message for track in tracks for message in track.timing.warnings):
        _warn(f"{name}: {message}")
    return _finished(understanding, arrays.values, settings)


def _checked_length(motion: ImuRecording, settings: ImuSettings) -> ImuRecording:
    if motion.seconds > settings.max_seconds:
        raise TooLargeError(
            f"{motion.name}: {motion.seconds:.0f} s of motion, the limit is {settings.max_seconds:.0f} s; cut it, "
            "stream it with embed_timeline, or raise max_seconds in ImuSettings"
        )
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
        _warn(f"{motion.name}: {seconds:.2f} s of motion where a window takes {wanted:g} s; the rest is zeros")
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


def _warn(message: str) -> None:
    warnings.warn(message, Bind2GenWarning, stacklevel=4)
