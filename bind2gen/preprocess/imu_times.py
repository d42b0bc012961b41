"""Time stamps of motion sensors: their unit, their faults, and whether the samples behind them are evenly spaced."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import InputError, NonFiniteError, ShapeError
from .sources import one_line

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # in seconds
HANDLINGS = ("auto", "given", "even", "sort")
HEAD = 1 << 15  # rows that units are judged by, so that a streamed file is judged as a loaded one
# A step between samples is read in the unit that makes the rate 5 Hz .. 5 kHz; the four ranges touch.
LONGEST_STEP, SHORTEST_STEP = 0.2, 2e-4  # s
EPOCH_YEARS = (1e9, 1e10)  # s since 1970: 2001 to 2286; no clock that starts with the device counts so far
MIN_RATE, MAX_RATE = 1.0, 100_000.0  # Hz
EVEN = 0.1  # of a period: stamps this near to an even grid are taken as one
SPLIT, LONG = 0.25, 2.5  # s, and of the typical step; a longer step separates pieces that are evened one by one
LATE = 0.25  # s; a system that hands samples over in bunches is at most this late
CLOSE = 0.2  # of the typical step: of two samples nearer than this only the first is kept


@dataclass(frozen=True)
class Timing:
    """When the rows of a source were sampled.

    Attributes:
        rate: Hz, mean.
        times: (M,) float64 s from 0, strictly rising, of the rows that are kept; None where they are evenly spaced.
        rows: (M,) numbers of the rows that are kept, in their order; None is all of them as they stand.
        start: s; the clock's reading at the first row.
        warnings: what was repaired.
        notes: what was assumed.
    """

    rate: float
    times: np.ndarray | None = None
    rows: np.ndarray | None = None
    start: float = 0.0
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def checked_rate(rate: object, name: str) -> float:
    """A sampling rate in Hz that a motion sensor can have.

    Raises:
        InputError: it is no number, or not in 1 Hz .. 100 kHz.
    """
    try:
        value = float("nan") if isinstance(rate, bool) else float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = float("nan")
    if not MIN_RATE <= value <= MAX_RATE:
        raise InputError(f"{name}: wanted a sampling rate of {MIN_RATE:g}..{MAX_RATE:g} Hz, got {one_line(rate, 40)}")
    return value


def to_seconds(stamps: np.ndarray, unit: str | None, name: str) -> tuple[np.ndarray, float, str]:
    """Stamps (N,) of any kind to seconds from the first one, the first one in seconds, and the unit they were in.

    Args:
        stamps: numbers, ``datetime64`` or ISO 8601 strings.
        unit: ``"s"``, ``"ms"``, ``"us"``, ``"ns"`` or ``"iso"``; None to find out.
        name: of the file, for messages.

    Raises:
        InputError: the unit is unknown or cannot be told; a text is no time.
        NonFiniteError: a stamp is missing.
    """
    if unit is not None and unit not in (*UNITS, "iso"):
        raise InputError(f"{name}: wanted time_unit to be one of {', '.join(UNITS)} or iso, got {unit!r}")
    if stamps.dtype.kind in "USO":
        stamps, unit = _from_text(stamps, name), "iso"
    if stamps.dtype.kind == "M":
        if np.isnat(stamps).any():
            raise NonFiniteError(f"{name}: {int(np.isnat(stamps).sum())} rows have no time; remove them")
        start = (stamps[0] - np.datetime64(0, "s")) / np.timedelta64(1, "ns") * 1e-9
        return (stamps - stamps[0]) / np.timedelta64(1, "ns") * 1e-9, float(start), "iso"
    if stamps.dtype.kind not in "iuf":
        raise ShapeError(f"{name}: wanted times as numbers or ISO 8601 text, got dtype {stamps.dtype}")
    if stamps.dtype.kind == "f" and not np.isfinite(stamps).all():
        row = int(np.argmin(np.isfinite(stamps)))
        raise NonFiniteError(f"{name}: row {row} has no time; remove such rows, or give sampling_rate= in Hz")
    # Off the first stamp before the change to float: nanoseconds since 1970 need more digits than a float has.
    from_first = np.subtract(stamps, stamps[0], dtype=np.int64 if stamps.dtype.kind in "iu" else np.float64)
    found = unit if unit in UNITS else _unit(float(stamps[0]), from_first[:HEAD], name)
    return np.multiply(from_first, UNITS[found], dtype=np.float64), float(stamps[0]) * UNITS[found], found


def _from_text(stamps: np.ndarray, name: str) -> np.ndarray:
    """ISO 8601 texts to ``datetime64[ns]``; zones are dropped, for only differences count."""
    texts = [str(text).strip() for text in stamps]
    for separator in ("T", " "):
        texts = [_without_zone(text, separator) for text in texts]
    try:
        return np.array(texts, dtype="datetime64[ns]")
    except ValueError:
        sample = one_line(texts[0], 40)
        raise InputError(
            f"{name}: wanted times as numbers or ISO 8601 text, got {sample!r}; give sampling_rate="
        ) from None


def _without_zone(text: str, separator: str) -> str:
    day, found, clock = text.partition(separator)
    if not found:
        return text
    for mark in "Z+-":
        clock = clock.partition(mark)[0]
    return day + found + clock.strip()


def _unit(first: float, from_first: np.ndarray, name: str) -> str:
    for unit, size in UNITS.items():
        if EPOCH_YEARS[0] <= first * size < EPOCH_YEARS[1]:
            return unit
    steps = np.diff(from_first)
    steps = steps[steps > 0]
    if len(steps) == 0:
        raise InputError(f"{name}: all rows have the same time; give sampling_rate= in Hz")
    if len(steps) > 1 and (steps == 1).all():
        raise InputError(
            f"{name}: the times go 1, 2, 3, which may be milliseconds or row numbers; give time_unit= or sampling_rate="
        )
    step = float(np.mean(steps))
    for unit, size in UNITS.items():
        if SHORTEST_STEP <= step * size < LONGEST_STEP:
            return unit
    raise InputError(f"{name}: cannot tell the unit of times that go by {step:g}; give time_unit=s, ms, us or ns")


def understood(seconds: np.ndarray, unit: str, handling: str, name: str, copies: np.ndarray | None = None) -> Timing:
    """Judge times (N,) s in the order of the rows.

    Args:
        seconds: as :func:`to_seconds` gives them.
        unit: that they were written in; they are no finer than that.
        handling: ``"auto"``: stamps that are evenly spaced but for rounding, or that repeat (then they say when the
            system handed a sample over, not when it was taken), become an even grid; others are taken as they are.
            ``"given"``: as they are. ``"even"``: only the mean rate is used. ``"sort"``: rows are put in the order of
            their times first.
        name: of the file, for messages.
        copies: (N,) bool, rows whose values repeat those of the row before; with the same time they are left out.

    Raises:
        InputError: times run backwards; all are equal; the rate is absurd.
    """
    if handling not in HANDLINGS:
        raise InputError(f"{name}: wanted timestamps to be one of {', '.join(HANDLINGS)}, got {handling!r}")
    if len(seconds) < 2:
        raise InputError(f"{name}: wanted at least two samples, got {len(seconds)}")
    warnings: list[str] = []
    rows = None  # an hour has many: their numbers are made where they are needed
    if copies is not None and (twice := np.concatenate([[False], np.diff(seconds) == 0]) & copies).any():
        seconds, rows = seconds[~twice], np.flatnonzero(~twice)
        warnings.append(f"{int(twice.sum())} rows are copies of the row before; they were left out")
    if (np.diff(seconds) < 0).any():
        seconds, rows = _sorted(seconds, rows, handling, name)
        warnings.append("the rows were not in the order of their times; they were sorted")
    if len(seconds) < 2 or seconds[-1] == seconds[0]:
        raise InputError(f"{name}: all rows have the same time; give sampling_rate= in Hz")
    seconds = seconds if seconds[0] == 0 else seconds - seconds[0]
    repeats = int((np.diff(seconds) == 0).sum())
    evened, rate, pieces, error = _evened(seconds)
    checked_rate(rate, name)
    rounding = UNITS.get(unit, 1e-3)
    bunched = repeats > 0 and error <= LATE
    even = error <= max(EVEN / rate, 0.75 * rounding if rounding < 0.5 / rate else 0.0) or bunched
    if handling == "even" or (handling in ("auto", "sort") and even):
        if repeats and handling != "even":
            warnings.append(
                f"{repeats} of {len(seconds)} rows repeat the time before, so the times say when samples were handed "
                f"over, not when they were taken; taken as evenly spaced at {rate:.2f} Hz"
            )
        if handling == "even":
            return Timing((len(seconds) - 1) / float(seconds[-1]), None, rows, 0.0, tuple(warnings))
        return Timing(rate, None if pieces == 1 else evened - evened[0], rows, 0.0, tuple(warnings))
    return _as_given(seconds, rows, warnings)


def _sorted(seconds: np.ndarray, rows: np.ndarray | None, handling: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(seconds)) if rows is None else rows
    if handling != "sort":
        at = int(np.argmax(np.diff(seconds) < 0)) + 1
        raise InputError(
            f"{name}: time runs backwards at row {rows[at]} ({seconds[at - 1]:.3f} s, then {seconds[at]:.3f} s); "
            "give timestamps='sort' to put the rows in order, or sampling_rate= to pass over the times"
        )
    order = np.argsort(seconds, kind="stable")
    return seconds[order], rows[order]


def _evened(seconds: np.ndarray) -> tuple[np.ndarray, float, int, float]:
    """Pieces between long steps laid on lines of one slope: times, rate, number of pieces, largest change in s."""
    steps = np.diff(seconds)
    cuts = np.flatnonzero(steps > max(SPLIT, LONG * float(np.median(steps)))) + 1
    del steps  # the times of a long recording are the largest thing in memory
    edges = [0, *cuts.tolist(), len(seconds)]
    pieces = [slice(start, stop) for start, stop in pairwise(edges)]
    counts = np.diff(edges).astype(np.float64)
    spread = float((counts * (counts**2 - 1) / 12).sum())  # of row numbers about each piece's middle
    if spread == 0:  # nothing but gaps
        return seconds, (len(seconds) - 1) / float(seconds[-1]), len(pieces), np.inf
    period = sum(float(_about_middle(seconds[piece]) @ seconds[piece]) for piece in pieces) / spread
    evened = np.empty_like(seconds)
    for piece in pieces:
        evened[piece] = seconds[piece].mean() + period * _about_middle(seconds[piece])
    # Two pieces may touch where the first was handed over late.
    rising = period > 0 and bool((np.diff(evened) > 0).all())
    return evened, 1 / period, len(pieces), float(np.abs(seconds - evened).max()) if rising else np.inf


def _about_middle(piece: np.ndarray) -> np.ndarray:
    """Row numbers that sum to zero."""
    return np.arange(len(piece)) - (len(piece) - 1) / 2


def _as_given(seconds: np.ndarray, rows: np.ndarray | None, warnings: list[str]) -> Timing:
    steps = np.diff(seconds)
    least = CLOSE * float(np.median(steps[steps > 0]))
    kept = np.ones(len(seconds), dtype=bool)
    for row in np.flatnonzero(steps < least) + 1:
        before = row - 1
        while not kept[before]:
            before -= 1
        kept[row] = seconds[row] - seconds[before] >= least
    if not kept.all():
        count = int((~kept).sum())
        warnings = [*warnings, f"{count} rows came at the time of the row before or right after it; they were left out"]
        seconds, rows = seconds[kept], np.flatnonzero(kept) if rows is None else rows[kept]
    return Timing(1 / float(np.median(np.diff(seconds))), seconds, rows, 0.0, tuple(warnings))
