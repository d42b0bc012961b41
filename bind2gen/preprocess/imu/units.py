"""Units of motion sensors: what header and layout say, what the values say, and whether the two agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InputError
from .layouts import Columns
from .recording import STANDARD_GRAVITY, Stated

ACCELEROMETER_UNITS = {"m/s^2": 1.0, "g": STANDARD_GRAVITY, "mg": STANDARD_GRAVITY / 1000}  # in m/s^2
GYROSCOPE_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180, "mdeg/s": math.pi / 180_000}  # in rad/s
NEAR_GRAVITY = (0.6, 1.8)  # of one g: the median size of the accelerometer of anything carried or driven
FASTEST = 40.0  # rad/s; the widest gyroscopes end at 4000 deg/s = 70 rad/s, those of phones at 2000 deg/s = 35 rad/s
FASTEST_DEGREES = 4500.0  # deg/s; above it the numbers are raw counts
HARDLY = 0.2  # of either unit: at rest it is all the same
STILL = 0.1  # m/s^2 of change in gravity's direction a second: below it turning cannot be told from resting
RACING = 3.0  # m/s^3; gravity that would turn so fast if it were radians, and does not, speaks for degrees
TREND = 0.5  # correlation of gravity's turning with the gyroscope, above which the gyroscope's unit is sure
GRAVITY_ALONE = 0.15  # relative spread of a vector's length, below which it may be gravity
SMOOTHING = 0.8  # s, twice over; gravity's direction is followed through the jolts of steps
LINEAR = "the accelerometer has its gravity taken off (linear acceleration); the model expects it with gravity"


@dataclass(frozen=True)
class Units:
    """Units found, and in words what was assumed (notes) or looks wrong (warnings)."""

    accelerometer: str
    gyroscope: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def in_si(self, values: np.ndarray) -> torch.Tensor:
        """(6, n) values to float32 in m/s^2 and rad/s; zeros stand for a gyroscope that is not there."""
        factors = [ACCELEROMETER_UNITS[self.accelerometer], GYROSCOPE_UNITS[self.gyroscope or "rad/s"]]
        made = values * np.repeat(factors, 3)[:, None].astype(np.float32)
        if self.gyroscope is None:
            made[3:] = 0.0
        return torch.from_numpy(np.ascontiguousarray(made, dtype=np.float32))


def find_units(
    head: np.ndarray, rate: float, stated: Stated, columns: Columns, has_gyroscope: bool, name: str
) -> Units:
    """Judge the first samples (6, n) of a recording at ``rate`` Hz: what the caller states is believed, what header or
    layout state is checked. InputError where the unit cannot be told, or the sensors are swapped."""
    for argument, units in (("accelerometer_unit", ACCELEROMETER_UNITS), ("gyroscope_unit", GYROSCOPE_UNITS)):
        if (unit := getattr(stated, argument)) is not None and unit not in units:
            raise InputError(f"{name}: wanted {argument} to be one of {', '.join(units)}, got {unit!r}")
    given = stated.accelerometer_unit or columns.units[0] or "m/s^2"
    slow = _median(_length(_smoothed(head[:3], rate)))  # jolts cancel, gravity stays
    linear = columns.linear and not _near_gravity(slow * ACCELEROMETER_UNITS[given])
    if has_gyroscope and not linear and stated.accelerometer_unit is stated.gyroscope_unit is None:
        _refuse_swapped(head, name)
    says = f"{columns.layout}'s layout" if columns.layout else "the header"
    accelerometer, note, doubt = _accelerometer(
        _length(head[:3]), stated.accelerometer_unit, columns.units[0], linear, says, name
    )
    notes = [f"accelerometer in {accelerometer}, {note or f'by {says}'}"]
    notes += ["called linear acceleration, but gravity is in it"] if columns.linear and not linear else []
    doubts = [LINEAR if linear else doubt]
    gyroscope = None
    if has_gyroscope:
        both = np.concatenate([head[:3] * ACCELEROMETER_UNITS[accelerometer], head[3:]])
        gyroscope, note, doubt = _gyroscope(both, rate, stated.gyroscope_unit, columns.units[1], says, name)
        notes.append(f"gyroscope in {gyroscope}, {note or f'by {says}'}")
        doubts.append(doubt)
    return Units(accelerometer, gyroscope, tuple(notes), tuple(filter(None, doubts)))


def restlessness(vectors: np.ndarray) -> float:
    """How much the length of (3, n) vectors changes, relative to it; infinity where it is gravity's in no unit."""
    sizes = _length(vectors)
    return float(np.std(sizes)) / _median(sizes) if _fits(_median(sizes)) else math.inf


def _length(vectors: np.ndarray) -> np.ndarray:
    """(n,) sizes of the (3, n) vectors that are whole."""
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=0))
    return sizes[np.isfinite(sizes)]


def _median(sizes: np.ndarray) -> float:
    return float(np.median(sizes)) if len(sizes) else 0.0


def _smoothed(values: np.ndarray, rate: float) -> np.ndarray:
    """(C, m) rows that are whole, averaged over SMOOTHING twice; one mean of a recording that is shorter than that."""
    width = max(3, round(SMOOTHING * rate) | 1)
    whole = values[:, np.isfinite(values).all(axis=0)].astype(np.float64)
    if whole.shape[1] < 4 * width:
        return whole.mean(axis=1, keepdims=True) if whole.size else whole
    box = np.convolve(np.ones(width) / width, np.ones(width) / width)
    return np.stack([np.convolve(row, box, "valid") for row in whole])


def _fits(typical: float) -> list[str]:
    return [unit for unit, factor in ACCELEROMETER_UNITS.items() if _near_gravity(typical * factor)]


def _near_gravity(size: float) -> bool:
    return NEAR_GRAVITY[0] <= size / STANDARD_GRAVITY <= NEAR_GRAVITY[1]


def _refuse_swapped(head: np.ndarray, name: str) -> None:
    accelerometer, gyroscope = _length(head[:3]), _length(head[3:])
    if len(accelerometer) == 0 or len(gyroscope) == 0 or np.std(gyroscope) >= GRAVITY_ALONE * np.mean(gyroscope):
        return
    for size in (1.0, STANDARD_GRAVITY):
        if abs(_median(gyroscope) / size - 1) < GRAVITY_ALONE and _median(accelerometer) < 0.5 * size:
            raise InputError(
                f"{name}: accelerometer and gyroscope look swapped: the gyroscope's size stays near {size:g}, like "
                f"gravity, the accelerometer's is {_median(accelerometer):.3g}; give columns= in the right order, or "
                "both units to say that all is well"
            )


def _accelerometer(
    sizes: np.ndarray, given: str | None, written: str | None, linear: bool, says: str, name: str
) -> tuple[str, str | None, str | None]:
    """The unit, how it was found where it is not written, and a doubt."""
    typical = _median(sizes)
    fits = _fits(typical)
    if given is not None:
        return given, "as stated", None
    if written is not None:
        size = typical * ACCELEROMETER_UNITS[written]
        # Gravity alone, seen in another unit, is a wrong label; a small and restless signal has its gravity taken off.
        if fits and written not in fits and not linear and (np.std(sizes) < 0.5 * typical or size > STANDARD_GRAVITY):
            raise InputError(
                f"{name}: {says} says {written}, but the accelerometer's size is {typical:.3g}, which is gravity "
                f"in {fits[0]}; give accelerometer_unit={fits[0]!r} (or {written!r} to believe it)"
            )
        doubt = f"the accelerometer's size is {size:.3g} m/s^2, gravity is 9.8: is gravity taken off, or the unit wrong"
        return written, None, None if _near_gravity(size) else f"{doubt}?"
    if linear:
        unknown = "the accelerometer's unit cannot be told without gravity"
        raise InputError(f"{name}: {unknown}; give accelerometer_unit='m/s^2' or 'g'")
    if not fits:
        raise InputError(
            f"{name}: the accelerometer's size is {typical:.3g}, gravity would be 9.8 in m/s^2 or 1 in g; give "
            "accelerometer_unit= (raw counts must be scaled first; a signal without gravity needs its unit)"
        )
    return fits[0], f"by gravity's size {typical:.3g}", None


def _gyroscope(
    both: np.ndarray, rate: float, given: str | None, written: str | None, says: str, name: str
) -> tuple[str, str | None, str | None]:
    """As :func:`_accelerometer`; ``both`` (6, n) with the accelerometer in m/s^2."""
    sizes = _length(both[3:])
    peak = float(np.quantile(sizes, 0.999)) if len(sizes) else 0.0
    by_turning = _unit_of_turning(both, rate)
    if given is not None:
        return given, "as stated", None
    if written == "rad/s" and peak > FASTEST:
        raise InputError(
            f"{name}: {says} says rad/s, but the gyroscope reaches {peak:.4g}, more than one can turn; give "
            "gyroscope_unit='deg/s' (or 'rad/s' to believe it)"
        )
    if written is not None:
        doubt = f"{says} says {written}, but gravity turns as if the gyroscope were in {by_turning}; check it"
        return written, None, None if by_turning in (None, written) or written == "mdeg/s" else doubt
    if peak > FASTEST_DEGREES:
        counts = "too much for rad/s and for deg/s; scale raw counts, or give gyroscope_unit="
        raise InputError(f"{name}: the gyroscope reaches {peak:.4g}, {counts}")
    if peak > FASTEST:
        return "deg/s", "by its peak", None
    if by_turning:
        return by_turning, "by gravity's turning", None
    doubt = f"the gyroscope's unit is not stated, and gravity does not tell it: taken as rad/s (peak {peak:.3g}); give "
    return (
        "rad/s",
        "assumed: gravity does not tell it",
        f"{doubt}gyroscope_unit= if it is not" if peak > HARDLY else None,
    )


def _unit_of_turning(both: np.ndarray, rate: float) -> str | None:
    """``"rad/s"`` or ``"deg/s"``, from how gravity turns in the sensor's frame; None where that does not say it.

    A vector that stands still in the world changes in a turning frame by dg/dt = -w x g.
    """
    slow = _smoothed(both, rate)
    if slow.shape[1] < 2:
        return None
    change = np.gradient(slow[:3], axis=1) * rate  # (3, n) m/s^3
    expected = -np.cross(slow[3:], slow[:3], axis=0)
    moved, told, both_ways = (float((a * b).sum(axis=0).mean()) for a, b in
                              ((change, change), (expected, expected), (change, expected)))  # fmt: skip
    degree = GYROSCOPE_UNITS["deg/s"]
    if moved >= STILL**2 and both_ways > TREND * math.sqrt(told * moved):
        return "deg/s" if both_ways / told < math.sqrt(degree) else "rad/s"
    return "deg/s" if told > RACING**2 and moved < degree * told else None
