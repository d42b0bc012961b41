"""Units of motion sensors: what the header says, what the values say, and whether the two agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .imu_recording import STANDARD_GRAVITY

ACCELEROMETER_UNITS = {"m/s^2": 1.0, "g": STANDARD_GRAVITY, "mg": STANDARD_GRAVITY / 1000}  # in m/s^2
GYROSCOPE_UNITS = {"rad/s": 1.0, "deg/s": math.pi / 180, "mdeg/s": math.pi / 180_000}  # in rad/s
NEAR_GRAVITY = (0.6, 1.8)  # of one g: the median size of the accelerometer of anything carried or driven
FASTEST = 40.0  # rad/s; the widest gyroscopes end at 4000 deg/s = 70 rad/s, those of phones at 2000 deg/s = 35 rad/s
FASTEST_DEGREES = 4500.0  # deg/s; above it the numbers are raw counts
STILL = 0.1  # m/s^2 of change in gravity's direction a second: below it turning cannot be told from resting
TREND = 0.5  # correlation of gravity's turning with the gyroscope, above which the gyroscope's unit is sure
GRAVITY_ALONE = 0.15  # relative spread of a vector's length, below which it may be gravity
SMOOTHING = 0.8  # s, twice over; gravity's direction is followed through the jolts of steps


@dataclass(frozen=True)
class Units:
    """Units found, and in words what was assumed (notes) or looks wrong (warnings)."""

    accelerometer: str
    gyroscope: str | None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def factors(self) -> np.ndarray:
        """(6, 1) float32, to m/s^2 and rad/s."""
        gyroscope = GYROSCOPE_UNITS[self.gyroscope] if self.gyroscope is not None else 1.0
        return np.array([[ACCELEROMETER_UNITS[self.accelerometer]]] * 3 + [[gyroscope]] * 3, np.float32)


def find_units(
    head: np.ndarray,
    rate: float,
    *,
    given: tuple[str | None, str | None],
    header: tuple[str | None, str | None],
    has_gyroscope: bool,
    has_gravity: bool,
    name: str,
) -> Units:
    """Judge the first samples of a recording.

    Args:
        head: (6, n) in the source's units, NaN where missing.
        rate: Hz, mean.
        given: units of accelerometer and gyroscope that the caller states; they are believed.
        header: units that the column names state; they are checked.
        has_gyroscope: False where the gyroscope's rows hold nothing.
        has_gravity: False for accelerometers whose gravity was taken off (``linear`` acceleration).
        name: of the file, for messages.

    Raises:
        InputError: an unknown unit; the unit cannot be told; header and values contradict each other; the two sensors
            are swapped.
    """
    _check_known("accelerometer_unit", given[0], ACCELEROMETER_UNITS, name)
    _check_known("gyroscope_unit", given[1], GYROSCOPE_UNITS, name)
    if has_gyroscope and has_gravity and given == (None, None):
        _refuse_swapped(head, name)
    accelerometer, notes, warnings = _accelerometer(_length(head[:3]), given[0], header[0], has_gravity, name)
    if not has_gyroscope:
        return Units(accelerometer, None, tuple(notes), tuple(warnings))
    si = head[:3] * ACCELEROMETER_UNITS[accelerometer]
    gyroscope, more, doubts = _gyroscope(si, head[3:], rate, given[1], header[1], name)
    return Units(accelerometer, gyroscope, (*notes, *more), (*warnings, *doubts))


def _check_known(argument: str, unit: str | None, units: dict[str, float], name: str) -> None:
    if unit is not None and unit not in units:
        raise InputError(f"{name}: wanted {argument} to be one of {', '.join(units)}, got {unit!r}")


def _length(vectors: np.ndarray) -> np.ndarray:
    """(n,) sizes of the (3, n) vectors that are whole."""
    with np.errstate(over="ignore"):
        sizes = np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=0))
    return sizes[np.isfinite(sizes)]


def _refuse_swapped(head: np.ndarray, name: str) -> None:
    accelerometer, gyroscope = _length(head[:3]), _length(head[3:])
    if len(accelerometer) == 0 or len(gyroscope) == 0:
        return
    steady = np.std(gyroscope) < GRAVITY_ALONE * np.mean(gyroscope)
    for size in (1.0, STANDARD_GRAVITY):
        holds = abs(np.median(gyroscope) / size - 1) < GRAVITY_ALONE
        if steady and holds and np.median(accelerometer) < 0.5 * size:
            raise InputError(
                f"{name}: accelerometer and gyroscope look swapped: the gyroscope's size stays near {size:g}, like "
                f"gravity, the accelerometer's is {np.median(accelerometer):.3g}; give columns= in the right order, "
                "or both units to say that all is well"
            )


def _accelerometer(
    sizes: np.ndarray, given: str | None, header: str | None, has_gravity: bool, name: str
) -> tuple[str, list[str], list[str]]:
    typical = float(np.median(sizes)) if len(sizes) else 0.0
    if given is not None:
        return given, [f"accelerometer in {given}, as stated"], []
    fits = [u for u, f in ACCELEROMETER_UNITS.items() if _near_gravity(typical * f)]
    if header is not None:
        wrong = fits and header not in fits and has_gravity
        # Gravity alone, seen in another unit, is a wrong label; a small and restless signal has its gravity taken off.
        steady = len(sizes) > 0 and np.std(sizes) < 0.5 * typical
        if wrong and (steady or typical * ACCELEROMETER_UNITS[header] > STANDARD_GRAVITY):
            raise InputError(
                f"{name}: the header says {header}, but the accelerometer's size is {typical:.3g}, which is gravity in "
                f"{fits[0]}; give accelerometer_unit={fits[0]!r} (or {header!r} to believe the header)"
            )
        return header, [f"accelerometer in {header}, by the header"], _gravity_warning(typical, header, has_gravity)
    if not has_gravity:
        raise InputError(
            f"{name}: the accelerometer's unit cannot be told without gravity; give accelerometer_unit='m/s^2' or 'g'"
        )
    if not fits:
        raise InputError(
            f"{name}: the accelerometer's size is {typical:.3g}, gravity would be 9.8 in m/s^2 or 1 in g; give "
            "accelerometer_unit= (raw counts must be scaled first; a signal without gravity needs its unit)"
        )
    return fits[0], [f"accelerometer in {fits[0]}, by gravity's size {typical:.3g}"], []


def _near_gravity(size: float) -> bool:
    return NEAR_GRAVITY[0] <= size / STANDARD_GRAVITY <= NEAR_GRAVITY[1]


def _gravity_warning(typical: float, unit: str, has_gravity: bool) -> list[str]:
    size = typical * ACCELEROMETER_UNITS[unit]
    if _near_gravity(size) or not has_gravity:
        return []
    return [f"the accelerometer's size is {size:.3g} m/s^2, gravity is 9.8: is gravity taken off, or the unit wrong?"]


def _gyroscope(
    accelerometer: np.ndarray, turning: np.ndarray, rate: float, given: str | None, header: str | None, name: str
) -> tuple[str, list[str], list[str]]:
    if given is not None:
        return given, [f"gyroscope in {given}, as stated"], []
    sizes = _length(turning)
    peak = float(np.quantile(sizes, 0.999)) if len(sizes) else 0.0
    if peak > FASTEST_DEGREES and header is None:
        raise InputError(
            f"{name}: the gyroscope reaches {peak:.4g}, too much for rad/s and for deg/s; scale raw counts, or give "
            "gyroscope_unit="
        )
    factor, sure = _turning_factor(accelerometer, turning, rate)
    by_values = "deg/s" if peak > FASTEST or (sure and factor < math.sqrt(GYROSCOPE_UNITS["deg/s"])) else "rad/s"
    if header is None:
        how = "by its peak" if peak > FASTEST else "by gravity's turning" if sure else "assumed: it hardly turns"
        return by_values, [f"gyroscope in {by_values}, {how}"], []
    if header == "rad/s" and peak > FASTEST:
        raise InputError(
            f"{name}: the header says rad/s, but the gyroscope reaches {peak:.4g}, more than one can turn; give "
            "gyroscope_unit='deg/s' (or 'rad/s' to believe the header)"
        )
    doubts = []
    if sure and header in ("rad/s", "deg/s") and by_values != header:
        doubts = [f"the header says {header}, but gravity turns as if the gyroscope were in {by_values}; check it"]
    return header, [f"gyroscope in {header}, by the header"], doubts


def _turning_factor(accelerometer: np.ndarray, turning: np.ndarray, rate: float) -> tuple[float, bool]:
    """rad/s in one unit of the gyroscope, from how gravity turns in the sensor's frame, and whether that is sure.

    A vector that stands still in the world changes in a turning frame by dg/dt = -w x g.
    """
    width = max(3, round(SMOOTHING * rate) | 1)
    whole = np.isfinite(accelerometer).all(axis=0) & np.isfinite(turning).all(axis=0)
    if whole.sum() < 4 * width:
        return 1.0, False
    box = np.ones(width) / width
    box = np.convolve(box, box)
    gravity = np.stack([np.convolve(row, box, "valid") for row in accelerometer[:, whole].astype(np.float64)])
    rates = np.stack([np.convolve(row, box, "valid") for row in turning[:, whole].astype(np.float64)])
    change = np.gradient(gravity, axis=1) * rate  # (3, n) m/s^3
    expected = -np.cross(rates, gravity, axis=0)
    both, energy, power = (change * expected).sum(), np.square(expected).sum(), np.square(change).sum()
    if energy == 0 or power / change.shape[1] < STILL**2:
        return 1.0, False
    return float(both / energy), bool(both / math.sqrt(energy * power) > TREND)
