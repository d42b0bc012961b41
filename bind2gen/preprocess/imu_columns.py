"""Column names of phone exports and data sets: which is which, and the units they state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .sources import one_line

# Words after splitting "motionRotationRateX(rad/s)" into motion, rotation, rate, x.
ACCELEROMETER = {"acc", "accel", "accelerometer", "acceleration", "accelero", "a", "gforce"}
GYROSCOPE = {"gyro", "gyr", "gyroscope", "rotation", "angular", "omega", "w", "g"}
LINEAR = {"linear", "lin", "user", "body", "dynamic"}  # acceleration less gravity
NOT_MOTION = {
    "mag", "magnetic", "magnetometer", "magnetometerx", "field", "orientation", "attitude", "quaternion", "quat",
    "absolute", "norm", "magnitude", "location", "gps", "vector", "bias", "drift", "accuracy", "heading", "count",
}  # fmt: skip
UNCALIBRATED = {"uncal", "uncalibrated", "raw"}
TIMES = {"time", "timestamp", "timestamps", "seconds", "elapsed", "t", "ts", "epoch", "datetime", "millis", "date"}
UNIT_WORDS = {
    "g": "g", "gs": "g", "mg": "mg", "m/s^2": "m/s^2", "m/s2": "m/s^2", "m/s²": "m/s^2", "m/s/s": "m/s^2",
    "m/sec^2": "m/s^2", "ms-2": "m/s^2", "ms^-2": "m/s^2", "m*s^-2": "m/s^2", "ms2": "m/s^2", "mps2": "m/s^2",
    "m/s**2": "m/s^2", "rad/s": "rad/s", "rads": "rad/s", "rad/sec": "rad/s", "rps": "rad/s", "radps": "rad/s",
    "r/s": "rad/s", "deg/s": "deg/s", "deg/sec": "deg/s", "degs": "deg/s", "dps": "deg/s", "°/s": "deg/s",
    "degps": "deg/s", "degree/s": "deg/s", "degrees/s": "deg/s", "mdps": "mdeg/s", "mdeg/s": "mdeg/s",
}  # fmt: skip
TIME_WORDS = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "ms": "ms", "msec": "ms", "millis": "ms",
    "milliseconds": "ms", "us": "us", "µs": "us", "μs": "us", "microseconds": "us", "micros": "us", "ns": "ns",
    "nanoseconds": "ns", "nanos": "ns", "nsec": "ns", "iso": "iso", "txt": "iso",
}  # fmt: skip
AXIS_END = re.compile(r"(acc|accel|accelerometer|acceleration|gyro|gyr|gyroscope|g|a|w|omega)([xyz])")
ROLES = ("accelerometer", "gyroscope", "time")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used.

    Attributes:
        accelerometer: three column numbers, x y z.
        gyroscope: the same, or None.
        time: a column number, or None.
        gravity: three columns to be added to an accelerometer that has its gravity taken off, or None.
        linear: the accelerometer has its gravity taken off (and there is no ``gravity``).
        units: of accelerometer, gyroscope and time as the names state them, None where they do not.
    """

    accelerometer: tuple[int, ...]
    gyroscope: tuple[int, ...] | None = None
    time: int | None = None
    gravity: tuple[int, ...] | None = None
    linear: bool = False
    units: tuple[str | None, str | None, str | None] = (None, None, None)

    @property
    def used(self) -> list[int]:
        """All column numbers: accelerometer, gyroscope, gravity; the time is apart."""
        return [*self.accelerometer, *(self.gyroscope or ()), *(self.gravity or ())]


@dataclass(frozen=True)
class _Name:
    words: tuple[str, ...]  # without axis and unit
    axis: str | None
    unit: str | None  # as written in brackets or at the end, lower case


def find_columns(names: Sequence[str], source: str, role: str | None = None) -> Columns:
    """Understand a header.

    Args:
        names: of the columns.
        source: name of the file; ``Gyroscope.csv`` may hold columns x, y, z only.
        role: the sensor of such columns, where the caller knows it.

    Raises:
        InputError: there is no accelerometer in it; the message lists the columns.
    """
    parsed = [_parse(name) for name in names]
    groups: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
    for number, name in enumerate(parsed):
        kind = _kind(name)
        if name.axis and kind:
            groups.setdefault((kind, name.words), {}).setdefault(name.axis, number)
    triples = {}
    for (kind, words), axes in groups.items():
        if len(axes) == 3:
            rank = (bool(UNCALIBRATED & set(words)), "total" not in words)
            triples.setdefault(kind, []).append((rank, tuple(axes[axis] for axis in "xyz")))
    best = {kind: min(found)[1] for kind, found in triples.items()}
    if "bare" in best:
        best.setdefault(role or _kind_of_file(source), best["bare"])
    time = _time_column(parsed)
    accelerometer = best.get("accelerometer") or best.get("linear")
    if accelerometer is None and "gyroscope" not in best:
        raise InputError(
            f"{source}: no accelerometer found among the columns {_listed(names)}; name them, e.g. "
            "columns={'accelerometer': ('ax', 'ay', 'az'), 'gyroscope': ('gx', 'gy', 'gz'), 'time': 't'}"
        )
    linear = "accelerometer" not in best and accelerometer is not None
    gravity = best.get("gravity") if linear else None
    gyroscope = best.get("gyroscope")
    units = (_unit(parsed, accelerometer), _unit(parsed, gyroscope), None if time is None else _time_unit(parsed[time]))
    return Columns(accelerometer or (), gyroscope, time, gravity, linear and gravity is None, units)


def named_columns(names: Sequence[str], wanted: Any, source: str) -> Columns:
    """Columns that the caller names: ``{"accelerometer": three, "gyroscope": three, "time": one}``.

    Each column is a name or a number from 0; gyroscope and time may be left out.

    Raises:
        InputError: the form is wrong, or there is no such column.
    """
    if not isinstance(wanted, Mapping) or set(wanted) - set(ROLES) or not set(wanted) & {"accelerometer", "gyroscope"}:
        raise InputError(
            f"{source}: wanted columns as a dict with the keys accelerometer, gyroscope and time, "
            f"got {one_line(wanted, 80)}"
        )
    parsed = [_parse(name) for name in names]
    triples = {}
    for role in ROLES[:2]:
        if wanted.get(role) is None:
            continue
        given = wanted[role]
        if isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 3:
            raise InputError(f"{source}: wanted three columns for the {role} (x, y, z), got {one_line(given, 80)}")
        triples[role] = tuple(_number(names, column, source) for column in given)
    time = None if wanted.get("time") is None else _number(names, wanted["time"], source)
    accelerometer, gyroscope = triples.get("accelerometer"), triples.get("gyroscope")
    units = (_unit(parsed, accelerometer), _unit(parsed, gyroscope), None if time is None else _time_unit(parsed[time]))
    return Columns(accelerometer or (), gyroscope, time, units=units)


def _number(names: Sequence[str], column: Any, source: str) -> int:
    if isinstance(column, int) and not isinstance(column, bool) and 0 <= column < len(names):
        return column
    stripped = [name.strip() for name in names]
    if isinstance(column, str) and column.strip() in stripped:
        return stripped.index(column.strip())
    raise InputError(f"{source}: there is no column {one_line(column, 60)!r}; there are {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    return one_line(", ".join(str(name).strip() for name in names), 200) or "none"


def _parse(name: str) -> _Name:
    bare, unit = name.strip().strip("\"'"), None
    if found := re.search(r"[(\[]([^)\]]*)[)\]]", bare):
        unit, bare = found[1].strip().lower().replace(" ", ""), bare[: found.start()] + " " + bare[found.end() :]
    if found := re.fullmatch(r"gF([xyz])", bare):  # Physics Toolbox: force in g
        return _Name(("acc",), found[1], "g")
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", bare).lower()
    words = re.findall(r"[a-zµμ°²]+\d*(?:/[a-z]+[\d²^]*)?|\d+", split.replace("_", " "))
    if (
        unit is None
        and len(words) > 1
        and (words[-1] in UNIT_WORDS or words[-1] in TIME_WORDS)
        and words[-1] not in "xyz"
    ):
        unit = words.pop()
    axis, rest = None, []
    for word in words:
        joined = AXIS_END.fullmatch(word)
        if word in ("x", "y", "z") and axis is None:
            axis = word
        elif joined and axis is None:
            axis = joined[2]
            rest.append(joined[1])
        else:
            rest.append(word)
    return _Name(tuple(rest), axis, unit)


def _kind(name: _Name) -> str | None:
    """``accelerometer``, ``linear``, ``gravity``, ``gyroscope``, ``bare`` (an axis and no more) or None."""
    words = set(name.words)
    if words & NOT_MOTION:
        return None
    if words & (GYROSCOPE - {"g", "w"}) or name.words in (("g",), ("w",)):
        return "gyroscope"
    if words & (ACCELEROMETER - {"a"}) or name.words == ("a",):
        return "linear" if words & LINEAR else "accelerometer"
    if "gravity" in words:
        return "gravity"
    return "bare" if not words else None


def _kind_of_file(source: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.split(r"[/\\]", source)[-1]).lower()
    if re.search(r"gyr|rotation|angular", words):
        return "gyroscope"
    if re.search(r"gravity|magnet|orientation", words):
        return "other"
    return "accelerometer"


def _time_column(parsed: Sequence[_Name]) -> int | None:
    """The best time: one that counts from the start, then other times, then dates."""
    found = []
    for number, name in enumerate(parsed):
        words = set(name.words)
        stated = name.unit in TIME_WORDS and "since" in words
        if name.axis is None and not words & NOT_MOTION and (words & TIMES or stated):
            text = _time_unit(name) == "iso" or "date" in words
            found.append((text, not words & {"elapsed", "since", "start"}, number))
    return min(found)[2] if found else None


def _unit(parsed: Sequence[_Name], triple: tuple[int, ...] | None) -> str | None:
    found = {UNIT_WORDS.get(parsed[number].unit or "") for number in triple or ()}
    return found.pop() if len(found) == 1 else None


def _time_unit(name: _Name) -> str | None:
    if name.unit in TIME_WORDS:
        return TIME_WORDS[name.unit]
    return next((TIME_WORDS[word] for word in name.words if word in TIME_WORDS and word != "s"), None)
