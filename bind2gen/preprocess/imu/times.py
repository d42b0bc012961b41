"""Time stamps of motion sensors: their unit, their faults, and whether the samples behind them are evenly spaced."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError, NonFiniteError, ShapeError
from ..sources import one_line

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # in seconds
TICKS = {**UNITS, "100 us": 1e-4}  # and those of recorders that count in units of their own
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
DAY = 86_400.0  # s


@dataclass(frozen=True)
class Timing:
    """When the rows of a source were sampled, what was repaired (warnings) and assumed (notes)."""

    rate: float  # Hz, mean
    times: np.ndarray | None = None  # (M,) s from 0, strictly rising, of the rows that are kept; None: evenly spaced
    rows: np.ndarray | None = None  # (M,) numbers of the rows that are kept, in their order; None: all as they stand
    start: float = 0.0  # s, the clock's reading at the first row
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def checked_rate(rate: object, name: str) -> float:
    """A sampling rate in Hz that a motion sensor can have, 1 Hz .. 100 kHz; InputError where it is none."""
    try:
        value = float("nan") if isinstance(rate, bool) else float(rate)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = float("nan")
    if not MIN_RATE <= value <= MAX_RATE:
        raise InputError(f"{name}: wanted a sampling rate of {MIN_RATE:g}..{MAX_RATE:g} Hz, got {one_line(rate, 40)}")
    return value


def to_seconds(
    stamps: np.ndarray, given: str | None, known: tuple[str, ...], name: str
) -> tuple[np.ndarray, float, str]:
    """Stamps (N,) of any kind to seconds from the first one, the first one in seconds, and the unit they were in.

    Stamps are numbers, ``datetime64``, ISO 8601 texts or clock times; ``given`` is the unit as the caller states it,
    ``known`` are those that header or layout speak of: of several the steps tell which.
    """
    if given is not None and given not in (*UNITS, "iso"):
        raise InputError(f"{name}: wanted time_unit to be one of {', '.join(UNITS)} or iso, got {given!r}")
    iso = stamps.dtype.kind in "USOTM"
    if iso:
        dates = stamps.astype("datetime64[ns]") if stamps.dtype.kind == "M" else _from_text(stamps, name)
        stamps, unset, given = dates.astype(np.int64), np.isnat(dates), "ns"
    elif stamps.dtype.kind in "iuf":
        unset = ~np.isfinite(stamps)
    else:
        raise ShapeError(f"{name}: wanted times as numbers or ISO 8601 text, got dtype {stamps.dtype}")
    if unset.any():
        first = f"{int(unset.sum())} rows have no time, the first is row {int(unset.argmax())}"
        raise NonFiniteError(f"{name}: {first}; remove such rows, or give sampling_rate= in Hz")
    stamps = stamps.astype(np.int64 if stamps.dtype.kind in "iu" else np.float64, copy=False)
    # Off the first stamp before the change to float: nanoseconds since 1970 need more digits than a float has.
    first, seconds = float(stamps[0]), stamps - stamps[0]
    del stamps  # the times of a long recording are the largest thing in memory
    likely = [unit for unit in (given, *known) if unit in TICKS][: 1 if given in UNITS else None] or list(UNITS)
    unit = likely[0] if len(likely) == 1 else _unit(first, seconds[:HEAD], likely, name)
    seconds = seconds.astype(np.float64, copy=False)
    seconds *= TICKS[unit]
    return seconds, first * TICKS[unit], "iso" if iso else unit


def _from_text(stamps: np.ndarray, name: str) -> np.ndarray:
    """ISO 8601 texts, or clock times of a day and the days after it, to ``datetime64[ns]``."""
    import pandas as pd

    texts = pd.Series(stamps, dtype=object).astype(str).str.strip().str.replace("/", "-")
    if texts.str.fullmatch(r"\d{1,2}:\d\d:\d\d(\.\d+)?").all():
        seconds = np.array(pd.to_timedelta(texts, errors="coerce").dt.total_seconds())
        seconds[1:] += DAY * np.cumsum(np.diff(seconds) < -DAY / 2)  # past midnight
        return np.datetime64(0, "ns") + (seconds * 1e9).round().astype("timedelta64[ns]")
    found = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    wrong = texts[found.isna() & ~texts.str.lower().isin(("", "nan", "none", "nat", "<na>"))]
    if len(wrong):
        got = one_line(wrong.iloc[0], 40)
        raise InputError(f"{name}: wanted times as numbers or ISO 8601 text, got {got!r}; give sampling_rate=")
    return found.dt.tz_localize(None).to_numpy().astype("datetime64[ns]")


def _unit(first: float, from_first: np.ndarray, units: list[str], name: str) -> str:
    for unit in units:
        if EPOCH_YEARS[0] <= first * TICKS[unit] < EPOCH_YEARS[1] and unit in UNITS:
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
    if unit := next((unit for unit in units if SHORTEST_STEP <= step * TICKS[unit] < LONGEST_STEP), None):
        return unit
    raise InputError(f"{name}: cannot tell the unit of times that go by {step:g}; give time_unit=s, ms, us or ns")


def understood(seconds: np.ndarray, unit: str, handling: str, name: str, copies: np.ndarray) -> Timing:
    """Judge times (N,) s from 0, no finer than the unit that they were written in.

    Args:
        handling: ``"auto"``: stamps that are evenly spaced but for rounding, or that repeat (then they say when the
            system handed a sample over, not when it was taken), become an even grid; others are taken as they are.
            ``"given"``: as they are. ``"even"``: only the mean rate is used. ``"sort"``: rows are put in the order of
            their times first.
        copies: (N,) bool, rows whose values repeat those of the row before; with the same time they are left out.
    """
    if handling not in HANDLINGS:
        raise InputError(f"{name}: wanted timestamps to be one of {', '.join(HANDLINGS)}, got {handling!r}")
    warnings: list[str] = []
    rows = None  # an hour has many: their numbers are made where they are needed
    if (same := np.diff(seconds) == 0).any() and (twice := np.append(False, same) & copies).any():
        seconds, rows = seconds[~twice], np.flatnonzero(~twice)
        warnings.append(f"{int(twice.sum())} rows are copies of the row before; they were left out")
    if (back := np.diff(seconds) < 0).any():
        rows = np.arange(len(seconds)) if rows is None else rows
        at = int(np.argmax(back)) + 1
        if handling != "sort":
            raise InputError(
                f"{name}: time runs backwards at row {rows[at]} ({seconds[at - 1]:.3f} s, then {seconds[at]:.3f} s); "
                "give timestamps='sort' to put the rows in order, or sampling_rate= to pass over the times"
            )
        order = np.argsort(seconds, kind="stable")
        seconds, rows = seconds[order], rows[order]
        warnings.append("the rows were not in the order of their times; they were sorted")
    if len(seconds) < 2 or seconds[-1] == seconds[0]:
        raise InputError(f"{name}: all rows have the same time; give sampling_rate= in Hz")
    seconds = seconds if seconds[0] == 0 else seconds - seconds[0]
    repeats = int((np.diff(seconds) == 0).sum())
    evened, rate, pieces, error = _evened(seconds)
    checked_rate(rate, name)
    if handling == "even":
        return Timing((len(seconds) - 1) / float(seconds[-1]), None, rows, 0.0, tuple(warnings))
    rounding = TICKS.get(unit, 1e-3)
    even = error <= max(EVEN / rate, 0.75 * rounding if rounding < 0.5 / rate else 0.0)
    if handling == "given" or not (even or (repeats and error <= LATE)):
        del evened
        return _as_given(seconds, rows, warnings)
    if repeats:
        warnings.append(
            f"{repeats} of {len(seconds)} rows repeat the time before, so the times say when samples were handed over, "
            f"not when they were taken; taken as evenly spaced at {rate:.2f} Hz"
        )
    return Timing(rate, None if pieces == 1 else evened - evened[0], rows, 0.0, tuple(warnings))


def _evened(seconds: np.ndarray) -> tuple[np.ndarray, float, int, float]:
    """Pieces between long steps laid on lines of one slope: times, rate, number of pieces, largest change in s."""
    steps = np.diff(seconds)
    starts = np.flatnonzero(np.append(True, steps > max(SPLIT, LONG * float(np.median(steps)))))
    del steps
    counts = np.diff(starts, append=len(seconds))
    numbers = np.arange(len(seconds), dtype=np.float64)  # of rows, from each piece's middle
    numbers -= np.repeat(starts + (counts - 1) / 2, counts)
    middles = np.repeat(np.add.reduceat(seconds, starts) / counts, counts)
    change, spread = seconds - middles, float(numbers @ numbers)
    period = float(numbers @ change) / spread if spread else 0.0
    if period <= 0:  # nothing but gaps
        return seconds, (len(seconds) - 1) / float(seconds[-1]), len(starts), np.inf
    numbers *= period
    change -= numbers
    numbers += middles
    largest = float(max(change.max(), -change.min()))
    del change, middles
    # Two pieces may touch where the first was handed over late.
    rising = bool((np.diff(numbers) > 0).all())
    return numbers, 1 / period, len(starts), largest if rising else np.inf


def _as_given(seconds: np.ndarray, rows: np.ndarray | None, warnings: list[str]) -> Timing:
    steps = np.diff(seconds)
    least = CLOSE * float(np.median(steps[steps > 0], overwrite_input=True))
    kept = np.ones(len(seconds), dtype=bool)
    for row in np.flatnonzero(steps < least) + 1:
        before = row - 1 - int(kept[row - 1 :: -1].argmax())
        kept[row] = seconds[row] - seconds[before] >= least
    if not kept.all():
        left = f"{int((~kept).sum())} rows came at the time of the row before or right after it; they were left out"
        warnings = [*warnings, left]
        seconds, rows = seconds[kept], np.flatnonzero(kept) if rows is None else rows[kept]
    return Timing(1 / float(np.median(np.diff(seconds), overwrite_input=True)), seconds, rows, 0.0, tuple(warnings))
