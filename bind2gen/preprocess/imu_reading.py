"""From a table or arrays to a recording in SI units, with everything that was assumed or repaired said."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ..errors import Bind2GenWarning, EmptyInputError, InputError, NonFiniteError
from .imu_columns import Columns, find_columns, named_columns
from .imu_files import Block, Table
from .imu_grid import LEAST_GAP, long_steps
from .imu_recording import ImuDescription, ImuRecording
from .imu_times import HEAD, Timing, checked_rate, to_seconds, understood
from .imu_units import Units, find_units
from .sources import one_line

LINEAR = "the accelerometer has its gravity taken off (linear acceleration); the model expects it with gravity"
LARGEST = 1e9  # of any sensor in any unit: 2,000,000 mdeg/s and raw counts of 24 bits are far below
ADDED = "linear acceleration and gravity were added"


@dataclass(frozen=True)
class Stated:
    """What the caller says of a source; None is to be found out. See :func:`bind2gen.preprocess.imu.load`."""

    accelerometer_unit: str | None = None
    gyroscope_unit: str | None = None
    time_unit: str | None = None
    columns: Any = None
    sampling_rate: float | None = None
    timestamps: str = "auto"


@dataclass
class Survey:
    """One pass over the blocks of a source: its times, its first rows, and the range of each channel.

    Of a streamed file nothing else is held: nine bytes a row.
    """

    rows: int = 0
    missing: int = 0
    head: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    copies: list[np.ndarray] = field(default_factory=list)
    last: np.ndarray = field(default_factory=lambda: np.full((6, 1), np.nan))
    low: np.ndarray = field(default_factory=lambda: np.full(6, np.inf))
    high: np.ndarray = field(default_factory=lambda: np.full(6, -np.inf))

    def add(self, values: np.ndarray, times: np.ndarray | None, name: str) -> None:
        """Take account of values (6, n) and times (n,)."""
        if np.isinf(values).any():
            row = self.rows + int(np.isinf(values).any(axis=0).argmax())
            raise NonFiniteError(f"{name}: row {row} holds an infinite value; remove it or write NaN")
        if (np.abs(values) > LARGEST).any():
            row = self.rows + int((np.abs(values) > LARGEST).any(axis=0).argmax())
            raise InputError(f"{name}: row {row} holds more than any sensor, over {LARGEST:g}; it may be damaged")
        if self.rows < HEAD:
            self.head.append(values[:, : HEAD - self.rows])
        if times is not None:
            self.times.append(times)
            before = np.concatenate([self.last, values[:, :-1]], axis=1)
            self.copies.append(((values == before) | np.isnan(values)).all(axis=0) & ~np.isnan(values).all(axis=0))
            self.last = values[:, -1:]
        self.rows += values.shape[1]
        self.missing += int(np.isnan(values).sum())
        self.low = np.fmin(self.low, np.fmin.reduce(values, axis=1, initial=np.inf))
        self.high = np.fmax(self.high, np.fmax.reduce(values, axis=1, initial=-np.inf))


@dataclass(frozen=True)
class Understanding:
    """How the blocks of a source become a recording."""

    name: str
    rows: int
    timing: Timing
    units: Units
    description: ImuDescription

    def samples(self, values: np.ndarray) -> torch.Tensor:
        """All values (6, n) in the source's units to the rows that are kept, (6, m) float32 in SI units."""
        return self._converted(values if self.timing.rows is None else values[:, self.timing.rows])

    def streamed(self, blocks: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """:meth:`samples` block by block.

        Raises:
            InputError: the rows have to be sorted, which takes all of them at once.
        """
        rows = self.timing.rows
        if rows is not None and (np.diff(rows) < 0).any():
            raise InputError(f"{self.name}: rows cannot be sorted while streaming; sort the file, or load it whole")
        first = 0
        for values in blocks:
            stop = first + values.shape[1]
            if rows is not None:
                low, high = np.searchsorted(rows, [first, stop])
                values = values[:, rows[low:high] - first]
            first = stop
            yield self._converted(values)

    def _converted(self, values: np.ndarray) -> torch.Tensor:
        if self.units.gyroscope is None:  # zeros stand for a sensor that is not there
            values = np.concatenate([values[:3], np.zeros_like(values[3:])])
        return torch.from_numpy(np.ascontiguousarray((values * self.units.factors).astype(np.float32)))


def columns_of(table: Table, stated: Stated, role: str | None = None) -> Columns:
    """Which columns of a table to use: named by the caller, by its header, or six in the usual order.

    Args:
        role: ``"accelerometer"`` or ``"gyroscope"`` of tables that hold one sensor.

    Raises:
        InputError: they cannot be told, or the sensor is not among them.
    """
    columns = _columns(table, stated, role)
    if role is not None and not getattr(columns, role):
        names = one_line(", ".join(table.names), 200)
        raise InputError(f"{table.name}: wanted a table of the {role}, its columns are {names}")
    return columns


def _columns(table: Table, stated: Stated, role: str | None) -> Columns:
    if stated.columns is not None:
        return named_columns(table.names, stated.columns, table.name)
    if table.header:
        return find_columns(table.names, table.name, role)
    if len(table.names) == 6 and stated.sampling_rate is not None:
        return Columns((0, 1, 2), (3, 4, 5))
    raise InputError(
        f"{table.name}: {len(table.names)} columns without names; say which they are, e.g. columns={{'time': 0, "
        "'accelerometer': (1, 2, 3), 'gyroscope': (4, 5, 6)}"
    )


def motion_blocks(table: Table, columns: Columns, use_times: bool) -> Iterator[Block]:
    """Blocks of (6, n) float64 in the table's units, NaN for a missing sensor, and their times."""
    for values, times in table.blocks(columns.used, columns.time if use_times else None):
        parts = dict(zip(("accelerometer", "gyroscope", "gravity"), np.split(values, _splits(columns)), strict=True))
        absent = np.full((3, values.shape[1]), np.nan)
        accelerometer = parts["accelerometer"] if columns.accelerometer else absent
        if columns.gravity:
            accelerometer = accelerometer + parts["gravity"]
        yield np.concatenate([accelerometer, parts["gyroscope"] if columns.gyroscope else absent]), times


def _splits(columns: Columns) -> list[int]:
    first = len(columns.accelerometer)
    return [first, first + len(columns.gyroscope or ())]


def understand(
    blocks: Iterable[Block], columns: Columns, stated: Stated, name: str, names: tuple[str, ...]
) -> Understanding:
    """Judge a source by one pass over its blocks.

    Raises:
        InputError and its subclasses: times or units make no sense; there is nothing in it; a sensor is missing.
    """
    survey = Survey()
    for values, times in blocks:
        survey.add(values, times, name)
    if survey.rows == 0:
        raise EmptyInputError(f"{name}: the recording has no samples")
    timing, time_unit = timing_of(survey, columns, stated, name)
    absent = ~np.isfinite(survey.low)
    _refuse_absent(absent, columns, name)
    units = find_units(
        np.concatenate(survey.head, axis=1),
        timing.rate,
        given=(stated.accelerometer_unit, stated.gyroscope_unit),
        header=columns.units[:2],
        has_gyroscope=not absent[3:].all(),
        has_gravity=not columns.linear,
        name=name,
    )
    doubts = (LINEAR,) if columns.linear else ()
    _warn(name, *timing.warnings, *units.warnings, *doubts)
    _warn_of_values(survey, units.gyroscope is not None, name)
    notes = (*doubts, *((ADDED,) if columns.gravity else ()), *timing.notes, *timing.warnings, *units.notes)
    description = ImuDescription(
        accelerometer_unit=units.accelerometer,
        gyroscope_unit=units.gyroscope,
        time_unit=time_unit,
        columns=_names_by_role(columns, names, time_unit is not None),
        missing=survey.missing - int(absent.sum()) * survey.rows,
        notes=(*notes, *units.warnings),
    )
    return Understanding(name, survey.rows, timing, units, description)


def _names_by_role(columns: Columns, names: tuple[str, ...], timed: bool) -> dict[str, tuple[str, ...]]:
    used = {"accelerometer": columns.accelerometer, "gyroscope": columns.gyroscope, "gravity": columns.gravity}
    used["time"] = (columns.time,) if timed and columns.time is not None else None
    return {role: tuple(names[i] for i in found) for role, found in used.items() if found and names}


def timing_of(survey: Survey, columns: Columns, stated: Stated, name: str) -> tuple[Timing, str | None]:
    """When a surveyed source's rows were taken, and the unit of its time column."""
    if stated.sampling_rate is not None:
        rate = checked_rate(stated.sampling_rate, name)
        if survey.rows < 2:
            raise InputError(f"{name}: wanted at least two samples, got {survey.rows}")
        return Timing(rate, notes=(f"evenly spaced at {rate:g} Hz, as stated",)), None
    if not survey.times:
        raise InputError(f"{name}: its sampling rate is missing; give sampling_rate= in Hz or a column of times")
    stamps = np.concatenate(survey.times)
    survey.times.clear()  # of a long recording there is no need to hold them twice
    seconds, start, unit = to_seconds(stamps, stated.time_unit or columns.units[2], name)
    del stamps
    timing = understood(seconds, unit, stated.timestamps, name, np.concatenate(survey.copies))
    return replace(timing, start=start), unit


def _refuse_absent(absent: np.ndarray, columns: Columns, name: str) -> None:
    if not columns.accelerometer:
        raise InputError(f"{name}: no accelerometer in it, only a gyroscope; pass (accelerometer file, gyroscope file)")
    for sensor, part in (("accelerometer", absent[:3]), ("gyroscope", absent[3:])):
        if part.all() and sensor == "accelerometer":
            raise NonFiniteError(f"{name}: the accelerometer has no values at all")
        if part.any() and not part.all():
            raise NonFiniteError(f"{name}: the {sensor}'s {'xyz'[int(part.argmax())]} axis has no values at all")


def _warn_of_values(survey: Survey, has_gyroscope: bool, name: str) -> None:
    still = survey.low == survey.high
    for sensor, part in (("accelerometer", still[:3]), ("gyroscope", still[3:])):
        if sensor == "gyroscope" and not has_gyroscope:
            continue
        if part.all():
            _warn(name, f"the {sensor} never changes; is the sensor broken? The embedding will mean little")
        elif part.any():
            _warn(name, f"the {sensor}'s {'xyz'[int(part.argmax())]} axis never changes; is the sensor broken?")


def recording(understanding: Understanding, samples: torch.Tensor) -> ImuRecording:
    """Put (6, N) samples and what was understood together."""
    timing = understanding.timing
    times = None if timing.times is None else torch.from_numpy(timing.times)
    return ImuRecording(samples, timing.rate, times, understanding.name, understanding.description, timing.start)


def with_gaps(understanding: Understanding, max_gap: float, missing_gyroscope: str) -> Understanding:
    """Note stretches without samples, and warn of them, of missing values and of a missing gyroscope.

    Raises:
        InputError: there is no gyroscope and ``missing_gyroscope`` is ``"refuse"``.
    """
    timing, description, name = understanding.timing, understanding.description, understanding.name
    if description.gyroscope_unit is None:
        if missing_gyroscope == "refuse":
            raise InputError(f"{name}: no gyroscope in it; pass (accelerometer file, gyroscope file), or "
                             "missing_gyroscope='zeros' in ImuSettings")  # fmt: skip
        _warn(name, "no gyroscope in it; its three channels are zeros")
    if description.missing:
        count = description.missing
        _warn(name, f"{count} values are missing; holes of up to {max_gap:g} s are bridged, longer ones become zeros")
    if timing.times is not None:
        gaps = tuple(long_steps(timing.times, max(max_gap, LEAST_GAP / timing.rate)))
        if gaps:
            longest = max(end - start for start, end in gaps)
            several = f"{len(gaps)} stretches have no samples, the longest {longest:.2f} s; they become zeros"
            _warn(name, several if len(gaps) > 1 else f"1 stretch of {longest:.2f} s has no samples; it becomes zeros")
        description = replace(description, gaps=gaps)
    return replace(understanding, description=description)


def _warn(name: str, *messages: str) -> None:
    for message in messages:
        warnings.warn(f"{name}: {message}", Bind2GenWarning, stacklevel=5)
