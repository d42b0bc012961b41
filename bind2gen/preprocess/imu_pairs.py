"""Accelerometer and gyroscope from two files, each with its own times of one clock, as phones export them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from .imu_arrays import Arrays
from .imu_columns import Columns
from .imu_files import open_table
from .imu_grid import long_steps
from .imu_reading import Stated, Survey, columns_of, motion_blocks, timing_of
from .imu_times import Timing
from .resampling import hermite

ROLES = ("accelerometer", "gyroscope")
HAS_GRAVITY = 0.5  # share of the gravity sensor's signal in an accelerometer: 1 with gravity, about 0 without


@dataclass(frozen=True)
class Track:
    """One sensor: values (3, N) in the source's unit, when they were taken, and the columns they are from."""

    values: np.ndarray
    timing: Timing
    name: str
    names: tuple[str, ...]
    columns: Columns

    @property
    def times(self) -> np.ndarray:
        """(N,) s on the clock of the source."""
        timing = self.timing
        times = np.arange(self.values.shape[1]) / timing.rate if timing.times is None else timing.times
        return times + timing.start


def read_track(source: Any, role: str, stated: Stated) -> Track:
    """Read one sensor's file, which may hold columns x, y, z and no more.

    Raises:
        InputError and its subclasses: it cannot be read, or the sensor is not in it.
    """
    table = open_table(source)
    columns = columns_of(table, stated, role)
    survey, parts = Survey(), []
    for values, times in motion_blocks(table, columns, stated.sampling_rate is None):
        survey.add(values, times, table.name)
        parts.append(values[3:] if role == "gyroscope" else values[:3])
    timing, _ = timing_of(survey, columns, stated, table.name)
    values = np.concatenate(parts, axis=1)
    return Track(values if timing.rows is None else values[:, timing.rows], timing, table.name, table.names, columns)


def with_gravity(track: Track, source: Any, stated: Stated, max_gap: float) -> Track:
    """An accelerometer whose gravity was taken off, with that of the gravity sensor's file added; others as they are.

    Both must be in one unit, as exports have them.

    Raises:
        InputError and its subclasses: the file cannot be read.
    """
    gravity = read_track(source, "accelerometer", replace(stated, columns=None))
    first, last = gravity.times[0], gravity.times[-1]
    longest = max(max_gap, 2.5 / gravity.timing.rate)
    made = _at(gravity.values, gravity.times, track.times.clip(first, last), longest)
    made[:, (track.times < first - longest) | (track.times > last + longest)] = np.nan
    if np.nansum(track.values * made) > HAS_GRAVITY * np.nansum(made * made):
        return track
    name, columns = f"{track.name} + {gravity.name}", replace(track.columns, linear=False)
    return replace(track, values=track.values + made, name=name, columns=columns)


def merged(tracks: tuple[Track, Track], max_gap: float) -> tuple[Arrays, Columns]:
    """Both sensors on the times of the faster one, as one array; what only one of them has is left out.

    Args:
        tracks: accelerometer and gyroscope.
        max_gap: s; stretches of the slower one without samples that are longer become NaN.

    Raises:
        InputError: they do not overlap in time.
    """
    times = [track.times for track in tracks]
    start, stop = max(t[0] for t in times), min(t[-1] for t in times)
    rates = [track.timing.rate for track in tracks]
    if stop - start < 2 / min(rates):
        spans = " and ".join(f"{t[0]:.1f}..{t[-1]:.1f} s" for t in times)
        names = " + ".join(track.name for track in tracks)
        raise InputError(f"{names}: the two do not overlap in time ({spans}); are they of one recording?")
    faster = int(rates[1] > rates[0])
    inside = (times[faster] >= start) & (times[faster] <= stop)
    common = times[faster][inside]
    values = [
        track.values[:, inside] if i == faster else _at(track.values, times[i], common, max(max_gap, 2.5 / rates[i]))
        for i, track in enumerate(tracks)
    ]
    even = tracks[faster].timing.times is None
    arrays = Arrays(np.concatenate(values), None if even else common, rates[faster] if even else None)
    first, second = (track.columns for track in tracks)
    return arrays, Columns((0, 1, 2), (3, 4, 5), 6, linear=first.linear, units=(first.units[0], second.units[1], "s"))


def _at(values: np.ndarray, times: np.ndarray, common: np.ndarray, longest: float) -> np.ndarray:
    made = hermite(*map(torch.from_numpy, (times, np.ascontiguousarray(values), common))).numpy()
    for start, stop in long_steps(times, longest):
        made[:, (common > start) & (common < stop)] = np.nan
    return made
