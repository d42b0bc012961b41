"""Recordings in several files: a pair of sensors with one clock, a phone's export folder, and the UCI HAR data set."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError, UnreadableError
from ..resampling import hermite
from ..sources import one_line, source_name
from .arrays import array_table
from .grid import LEAST_GAP, long_steps
from .layouts import SENSORS, Columns, find_columns
from .reading import ADDED, Reading, Survey, columns_of, read
from .recording import STANDARD_GRAVITY, ImuDescription, ImuRecording, Stated, warn
from .settings import ImuSettings
from .tables import open_table
from .times import Timing

UCI_HAR_RATE = 50.0  # Hz; windows of 128 samples; total acceleration in g, gyroscope in rad/s (the set's README)
TABLES = (".csv", ".csv.gz", ".txt", ".tsv", ".parquet", ".json")
# Files in folders of Sensor Logger and Phyphox, best first; TotalAcceleration has gravity in it, as the model wants.
ACCELEROMETERS = ("totalacceleration", "accelerometer", "acceleration", "accelerometeruncalibrated")
GYROSCOPES = ("gyroscope", "gyroscopeuncalibrated", "rotation rate", "rotationrate")
GRAVITY = "gravity"  # Sensor Logger's, where its accelerometer has gravity taken off
HAS_GRAVITY = 0.5  # share of the gravity sensor's signal in an accelerometer: 1 with gravity, about 0 without


@dataclass(frozen=True)
class Track:
    """One sensor: values (3, N) in its unit, their times (N,) s on its clock, and the columns they are from."""

    values: np.ndarray
    times: np.ndarray
    timing: Timing
    name: str
    columns: Columns

    def at(self, common: np.ndarray, max_gap: float) -> np.ndarray:
        """(3, M) values at other times; NaN off the ends and in stretches without samples longer than ``max_gap`` s."""
        longest, first, last = max(max_gap, LEAST_GAP / self.timing.rate), self.times[0], self.times[-1]
        known = (self.times, np.ascontiguousarray(self.values), common.clip(first, last))
        made = hermite(*map(torch.from_numpy, known)).numpy()
        for start, stop in [(-np.inf, first - longest), *long_steps(self.times, longest), (last + longest, np.inf)]:
            made[:, (common > start) & (common < stop)] = np.nan
        return made


def read_track(source: Any, role: str, stated: Stated) -> Track:
    """Read one sensor's file, which may hold columns x, y, z and no more."""
    table = open_table(source)
    survey = Survey(table, columns_of(table, stated, role), stated)
    values = np.concatenate([part[3:] if role == "gyroscope" else part[:3] for part in survey.blocks(table)], axis=1)
    timing, _ = survey.timing()
    values = values if timing.rows is None else values[:, timing.rows]
    times = np.arange(values.shape[1]) / timing.rate if timing.times is None else timing.times
    return Track(values, times + timing.start, timing, table.name, survey.columns)


def read_pair(accelerometer: Any, gyroscope: Any, stated: Stated, settings: ImuSettings) -> Reading:
    """Both sensors on the times of the faster one, as far as they overlap; ``Gravity.csv`` beside an accelerometer that
    has its gravity taken off is added to it."""
    first, second = (read_track(s, role, stated) for s, role in zip((accelerometer, gyroscope), SENSORS, strict=True))
    notes = [track.columns.note for track in (first, second) if track.columns.note]
    if isinstance(accelerometer, str | os.PathLike) and stated.columns is None:
        gravity = _tables(Path(accelerometer).parent).get(GRAVITY)
        if gravity is not None and not re.match("total|.*uncal", _stem(Path(accelerometer))):
            bare, first = first, _with_gravity(first, read_track(gravity, SENSORS[0], stated), settings.max_gap)
            notes += [ADDED] if first is not bare else []
    tracks, name = (first, second), f"{first.name} + {second.name}"
    faster = max(tracks, key=lambda track: track.timing.rate)
    start, stop = max(track.times[0] for track in tracks), min(track.times[-1] for track in tracks)
    if stop - start < 2 / min(track.timing.rate for track in tracks):
        spans = " and ".join(f"{track.times[0]:.1f}..{track.times[-1]:.1f} s" for track in tracks)
        raise InputError(f"{name}: the two do not overlap in time ({spans}); are they of one recording?")
    inside = (faster.times >= start) & (faster.times <= stop)
    common = faster.times[inside]
    values = np.concatenate([t.values[:, inside] if t is faster else t.at(common, settings.max_gap) for t in tracks])
    units = (first.columns.units[0], second.columns.units[1], "s")
    layout = first.columns.layout or second.columns.layout
    columns = Columns((0, 1, 2), (3, 4, 5), 6, linear=first.columns.linear, units=units, layout=layout)
    times, rate = (None, faster.timing.rate) if faster.timing.times is None else (common, None)
    warn(name, *(message for track in tracks for message in track.timing.warnings))
    judged = replace(stated, time_unit="s", timestamps="given", columns=None)  # the times have been judged one by one
    return read(array_table(values, times, rate, name, columns), judged, settings, whole=True, notes=tuple(notes))


def _with_gravity(track: Track, gravity: Track, max_gap: float) -> Track:
    """An accelerometer whose gravity was taken off, with that of the gravity sensor added; both are in one unit."""
    made = gravity.at(track.times, max_gap)
    if np.nansum(track.values * made) > HAS_GRAVITY * np.nansum(made * made):
        return track
    name, columns = f"{track.name} + {gravity.name}", replace(track.columns, linear=False)
    return replace(track, values=track.values + made, name=name, columns=columns)


def _tables(folder: Path) -> dict[str, Path]:
    return {_stem(path): path for path in folder.iterdir() if path.name.lower().endswith(TABLES)}


def _stem(path: Path) -> str:
    return path.name.lower().partition(".")[0]


def pair_in(folder: Path) -> tuple[Path, Path]:
    """Accelerometer's and gyroscope's table of an export folder."""
    by_stem = dict(sorted(_tables(folder).items()))

    def best(names: tuple[str, ...], form: str) -> Path | None:
        found = [by_stem[name] for name in names if name in by_stem]
        alike = [path for stem, path in by_stem.items() if re.search(form, stem)]
        return found[0] if found else alike[0] if len(alike) == 1 else None

    accelerometer, gyroscope = best(ACCELEROMETERS, "acc"), best(GYROSCOPES, "gyr")
    if accelerometer is None or gyroscope is None:
        raise UnreadableError(
            f"{source_name(folder)}: wanted motion data, this folder holds neither Accelerometer and Gyroscope tables "
            "nor UCI HAR's Inertial Signals; pass the file in it, or (accelerometer file, gyroscope file)"
        )
    other, table = by_stem.get(ACCELEROMETERS[-1]), open_table(accelerometer)
    if other and GRAVITY not in by_stem and table.header and find_columns(table.names, table.name, SENSORS[0]).linear:
        return other, gyroscope
    return accelerometer, gyroscope


def is_uci_har(folder: Path) -> bool:
    """Whether a folder, or its ``Inertial Signals``, holds ``total_acc_x_*.txt`` ... ``body_gyro_z_*.txt``."""
    return all(_uci_har_files(folder).values())


def _uci_har_files(folder: Path) -> dict[str, Path | None]:
    inner = folder / "Inertial Signals"
    folder = inner if inner.is_dir() else folder
    names = [f"{sensor}_{axis}" for sensor in ("total_acc", "body_gyro") for axis in "xyz"]
    return {name: min(folder.glob(f"{name}_*.txt*"), default=None) for name in names}


def load_uci_har(folder: str | os.PathLike[str], row: int | None = None) -> list[ImuRecording]:
    """Windows of the UCI HAR data set (2.56 s each, half overlapping, of changing people: they are not joined).

    Args:
        folder: ``train`` or ``test``, or ``Inertial Signals`` in it.
        row: only this window, from 0; default is all.

    Raises:
        UnreadableError: the six files are not there or damaged; InputError: there is no such row.
    """
    name, files = source_name(folder), _uci_har_files(Path(folder))
    if not all(files.values()):
        raise UnreadableError(f"{name}: wanted UCI HAR's six files total_acc_x_*.txt ... body_gyro_z_*.txt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # numpy's, of a file without a number
            signals = [np.loadtxt(path, dtype=np.float32, ndmin=2) for path in files.values()]
        windows = torch.from_numpy(np.stack(signals, axis=1))  # (rows, 6, 128)
    except (OSError, ValueError, UserWarning) as error:
        raise UnreadableError(f"{name}: wanted UCI HAR's text files, cannot read them ({one_line(error)})") from None
    if row is not None and not 0 <= row < len(windows):
        raise InputError(f"{name}: wanted a row of 0..{len(windows) - 1}, got {row}")
    if not bool(windows.isfinite().all()):
        raise UnreadableError(f"{name}: UCI HAR's text files hold NaN or infinite values")
    windows[:, :3] *= STANDARD_GRAVITY
    columns = {"accelerometer": tuple(files)[:3], "gyroscope": tuple(files)[3:]}
    note = "UCI HAR: 50 Hz, g and rad/s, as its README says"
    description = ImuDescription("g", "rad/s", None, columns, notes=(note,))
    rows = range(len(windows)) if row is None else [row]
    return [ImuRecording(windows[i], UCI_HAR_RATE, None, f"{name}, row {i}", description) for i in rows]
