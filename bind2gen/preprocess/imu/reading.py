"""From a table to a recording in SI units, with everything that was assumed or repaired said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...errors import EmptyInputError, InputError, NonFiniteError
from .grid import LEAST_GAP, long_steps
from .layouts import SENSORS, Columns, find_columns, listed, named_columns
from .recording import ImuDescription, ImuRecording, Stated, warn
from .settings import ImuSettings
from .tables import Table
from .times import HEAD, Timing, checked_rate, to_seconds, understood
from .units import Units, find_units, restlessness

LARGEST = 1e9  # of any sensor in any unit: 2,000,000 mdeg/s and raw counts of 24 bits are far below
RESTLESS = 0.5  # relative spread of a vector's length, above which it is not taken for gravity
ADDED = "linear acceleration and gravity were added"


class Survey:
    """One pass over the blocks of a table: its times, its first rows, and the range of each channel.

    Of a streamed file nothing else is held: nine bytes a row.
    """

    def __init__(self, table: Table, columns: Columns, stated: Stated) -> None:
        self.name, self.columns, self.stated = table.name, columns, stated
        self.rate = table.rate if stated.sampling_rate is None else stated.sampling_rate
        self.rows = self.missing = 0
        self.heads, self.times, self.copies = [], [], []
        self.low, self.high, self.last = np.full(6, np.inf), np.full(6, -np.inf), np.full((6, 1), np.nan)

    def blocks(self, table: Table) -> Iterator[np.ndarray]:
        """The values of a table, (6, n) each, taken account of."""
        for values, times in table.blocks(self.columns, timed=self.rate is None):
            holes, size = np.isnan(values), np.abs(values)
            if (beyond := (size > LARGEST).any(axis=0)).any():
                row = f"{self.name}: row {self.rows + int(beyond.argmax())} holds"
                if np.isinf(size).any():
                    raise NonFiniteError(f"{row} an infinite value; remove it or write NaN")
                raise InputError(f"{row} more than any sensor, over {LARGEST:g}; it may be damaged")
            self.heads += [values[:, : HEAD - self.rows]] if self.rows < HEAD else []
            if times is not None:
                before = np.concatenate([self.last, values[:, :-1]], axis=1)
                self.times.append(times)
                self.copies.append(((values == before) | holes).all(axis=0) & ~holes.all(axis=0))
                self.last = values[:, -1:]
            self.rows += values.shape[1]
            self.missing += int(holes.sum())
            self.low = np.fmin(self.low, np.fmin.reduce(values, axis=1, initial=np.inf))
            self.high = np.fmax(self.high, np.fmax.reduce(values, axis=1, initial=-np.inf))
            yield values
        if self.rows == 0:
            raise EmptyInputError(f"{self.name}: the recording has no samples")

    def timing(self) -> tuple[Timing, str | None]:
        """When the rows were taken, and the unit of the time column."""
        rate = None if self.rate is None else checked_rate(self.rate, self.name)
        if rate is None and not self.times:
            raise InputError(
                f"{self.name}: its sampling rate is missing; give sampling_rate= in Hz or a column of times"
            )
        if self.rows < 2:
            raise InputError(f"{self.name}: wanted at least two samples, got {self.rows}")
        if rate is not None:
            return Timing(rate, notes=(f"evenly spaced at {rate:g} Hz, as stated",)), None
        known, times = tuple((self.columns.units[2] or "").split(", ")), self.times
        self.times = []  # of a long recording there is no need to hold them twice
        times[:] = [np.concatenate(times)]
        seconds, start, unit = to_seconds(times.pop(), self.stated.time_unit, known, self.name)
        found = understood(seconds, unit, self.stated.timestamps, self.name, np.concatenate(self.copies))
        return replace(found, start=start), unit

    def absent(self) -> np.ndarray:
        """(6,) bool, channels without a value: those of the gyroscope, or none; errors name all others."""
        absent = ~np.isfinite(self.low)
        if not self.columns.accelerometer:
            alone = "no accelerometer in it, only a gyroscope; pass (accelerometer file, gyroscope file)"
            raise InputError(f"{self.name}: {alone}")
        if absent[:3].all():
            raise NonFiniteError(f"{self.name}: the accelerometer has no values at all")
        for sensor, part in zip(SENSORS, (absent[:3], absent[3:]), strict=True):
            if part.any() and not part.all():
                raise NonFiniteError(f"{self.name}: the {sensor}'s {_axis(part)} axis has no values at all")
        return absent

    def faults(
        self, has_gyroscope: bool, missing: int, gaps: tuple[tuple[float, float], ...], gap: float
    ) -> Iterator[str]:
        """What looks broken or is not there."""
        still = self.low == self.high
        for sensor, part in zip(SENSORS[: 1 + has_gyroscope], (still[:3], still[3:]), strict=False):
            if part.all():
                yield f"the {sensor} never changes; is the sensor broken? The embedding will mean little"
            elif part.any():
                yield f"the {sensor}'s {_axis(part)} axis never changes; is the sensor broken?"
        if not has_gyroscope:
            yield "no gyroscope in it; its three channels are zeros"
        if missing:
            yield f"{missing} values are missing; holes of up to {gap:g} s are bridged, longer ones become zeros"
        if longest := max((end - start for start, end in gaps), default=0.0):
            several = f"{len(gaps)} stretches have no samples, the longest {longest:.2f} s; they become zeros"
            yield several if len(gaps) > 1 else f"1 stretch of {longest:.2f} s has no samples; it becomes zeros"


def _axis(part: np.ndarray) -> str:
    return "xyz"[int(part.argmax())]


def columns_of(table: Table, stated: Stated, role: str | None = None) -> Columns:
    """Which columns to use: those that the caller or the header names, or told by their values; ``role`` is the sensor
    of a table that holds one."""
    if table.columns is not None:
        return table.columns
    if stated.columns is not None:
        columns = named_columns(table.names, stated.columns, table.name)
    else:
        columns = find_columns(table.names, table.name, role) if table.header else _by_values(table, stated, role)
    if role is not None and not getattr(columns, role):
        raise InputError(f"{table.name}: wanted a table of the {role}, its columns are {listed(table.names)}")
    return columns


def _by_values(table: Table, stated: Stated, role: str | None) -> Columns:
    """Columns without names: one rises evenly, three have the size of gravity, three others are the gyroscope."""
    numbers = next(iter(table.frames([*range(len(table.names))]))).select_dtypes("number").dropna(axis=1, how="all")
    steps = numbers.diff().iloc[1:]
    rising = [c for c in numbers if (steps[c] >= 0).all() and steps[c].median() > 0]
    rising.sort(key=lambda c: bool((steps[c] == 1).all()))  # numbers of rows last
    rest = [c for c in numbers if c not in rising]
    if len(rest) not in (3, 6):
        rest = [c for c in rest if steps[c].any()]  # WISDM's person
    triples = [tuple(rest[i : i + 3]) for i in range(0, len(rest), 3)]
    whole = [triple for triple in triples if len(triple) == 3]
    heavy = sorted((move, t) for t in whole if (move := restlessness(numbers[[*t]].to_numpy().T)) < RESTLESS)
    time = rising[0] if rising else None
    sure = len(heavy) == 1 or (len(heavy) == 2 and heavy[0][0] < 0.5 * heavy[1][0])
    if len(rest) == 3 and (heavy or role):
        found = Columns((), triples[0], time) if role == "gyroscope" else Columns(triples[0], (), time)
    elif len(rest) == 6 and (sure or (time is None and stated.sampling_rate is not None)):
        first = heavy[0][1] if sure else triples[0]
        found = Columns(first, triples[1 - triples.index(first)], time)
    else:
        raise InputError(
            f"{table.name}: {len(table.names)} columns without names, of which {len(heavy)} times three have gravity's "
            "size; say which they are, e.g. columns={'time': 0, 'accelerometer': (1, 2, 3), 'gyroscope': (4, 5, 6)}"
        )
    said = {"time": found.time, **{sensor: getattr(found, sensor) for sensor in SENSORS}}
    words = ", ".join(f"{part} {number}" for part, number in said.items() if number not in (None, ()))
    return replace(found, note=f"columns without names, told by their values: {words}")


@dataclass(frozen=True)
class Reading:
    """How the blocks of a table become a recording; ``values`` gives them, (6, n) float64 each."""

    name: str
    timing: Timing
    units: Units
    description: ImuDescription
    values: Callable[[], Iterable[np.ndarray]]

    def blocks(self) -> Iterator[torch.Tensor]:
        """The rows that are kept, (6, m) float32 in m/s^2 and rad/s each."""
        rows, first = self.timing.rows, 0
        if rows is not None and (np.diff(rows) < 0).any():
            raise InputError(f"{self.name}: rows cannot be sorted while streaming; sort the file, or load it whole")
        for values in self.values():
            stop = first + values.shape[1]
            kept = values if rows is None else values[:, rows[slice(*np.searchsorted(rows, [first, stop]))] - first]
            first = stop
            yield self.units.in_si(kept)

    def recording(self) -> ImuRecording:
        """All of it."""
        values, timing = np.concatenate([*self.values()], axis=1), self.timing
        samples = self.units.in_si(values if timing.rows is None else values[:, timing.rows])
        times = None if timing.times is None else torch.from_numpy(timing.times)
        return ImuRecording(samples, timing.rate, times, self.name, self.description, timing.start)


def read(table: Table, stated: Stated, settings: ImuSettings, *, whole: bool, notes: tuple[str, ...] = ()) -> Reading:
    """Judge a table by one pass over its blocks, which ``whole`` keeps, and warn of what is doubtful.

    ``notes`` are what else there is to say of it. InputError and its subclasses where it makes no sense.
    """
    columns, name = columns_of(table, stated), table.name
    survey, kept = Survey(table, columns, stated), []
    for values in survey.blocks(table):
        kept += [values] if whole else []
    timing, time_unit = survey.timing()
    absent = survey.absent()
    has_gyroscope = not absent[3:].all()
    if not has_gyroscope and settings.missing_gyroscope == "refuse":
        raise InputError(f"{name}: no gyroscope in it; pass (accelerometer file, gyroscope file), or "
                         "missing_gyroscope='zeros' in ImuSettings")  # fmt: skip
    head = np.concatenate(survey.heads, axis=1)
    units = find_units(head, timing.rate, stated, columns, has_gyroscope, name)
    missing = survey.missing - int(absent.sum()) * survey.rows
    longest = max(settings.max_gap, LEAST_GAP / timing.rate)
    gaps = () if timing.times is None else tuple(long_steps(timing.times, longest))
    faults = survey.faults(has_gyroscope, missing, gaps, settings.max_gap)
    warn(name, *timing.warnings, *units.warnings, *faults)
    used = {role: getattr(columns, role) for role in (*SENSORS, "gravity")}
    used["time"] = () if time_unit is None or columns.time is None else (columns.time,)
    used = {role: tuple(table.names[i] for i in found) for role, found in used.items() if found and table.names}
    assumed = (*notes, columns.note, ADDED if columns.gravity else None, *timing.notes)
    notes = tuple(note for note in (*assumed, *timing.warnings, *units.notes, *units.warnings) if note)
    description = ImuDescription(units.accelerometer, units.gyroscope, time_unit, used, gaps, missing, notes)
    again = (lambda: kept) if whole else (lambda: (values for values, _ in table.blocks(columns, timed=False)))
    return Reading(name, timing, units, description, again)
