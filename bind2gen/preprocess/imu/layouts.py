"""Which columns of a table are motion: the layouts of known recorders, and a general rule for all others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import InputError
from ..sources import one_line

Triple = tuple[int, ...]  # column numbers of x, y, z; none where there is no such sensor
SENSORS = ("accelerometer", "gyroscope")


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are used, and what header or layout say of them."""

    accelerometer: Triple = ()
    gyroscope: Triple = ()
    time: int | None = None
    gravity: Triple = ()  # to be added to an accelerometer that has its gravity taken off
    linear: bool = False  # the accelerometer is said to have its gravity taken off, and there is no gravity
    units: tuple[str | None, ...] = (None, None, None)  # of accelerometer, gyroscope, time; "a, b" is one of them
    layout: str | None = None  # name of the recorder
    note: str | None = None  # what was assumed


@dataclass(frozen=True)
class Layout:
    """Names that a recorder gives its columns, as regular expressions of lower case; ``@`` stands for x, y and z.

    A table is of this layout if it has the time and a sensor, or where ``time`` is "" both sensors. ``units`` are
    those of accelerometer, gyroscope and time where the header states none; ``linear``: gravity is taken off; ``file``:
    what the names of its files begin with.
    """

    name: str
    time: str
    accelerometer: str
    gyroscope: str
    units: tuple[str | None, ...]
    linear: bool = False
    file: str = ""

    def columns(self, names: list[str], file: str) -> Columns | None:
        """The columns of a table with these names, if it is of this layout."""

        def found(form: str) -> Triple:
            return tuple(i for i, name in enumerate(names) if form and re.fullmatch(form, name))[:1]

        triples = [
            sum((found(form.replace("@", axis)) for axis in "xyz"), ()) for form in (self.accelerometer, self.gyroscope)
        ]
        triples, time = [triple if len(triple) == 3 else () for triple in triples], found(self.time)
        if not (any(triples) and time if self.time else all(triples)) or not re.match(self.file, file):
            return None
        return Columns(*triples, time[0] if time else None, (), self.linear, self.units, self.name)


# Sources: Ego4D's documentation of its IMU files; EuRoC MAV's README; ROS's sensor_msgs/Imu; Sensor Logger's help;
# MbientLab's MetaBase, WitMotion's and GoPro's (gopro-telemetry) exports; Xsens' MT Manager and DOT manuals, of which
# the first counts time in 100 us and the second in us; Shimmer's Consensys manual.
LAYOUTS = (
    Layout("Ego4D", "canonical_timestamp_ms", "accl_@", "gyro_@", ("m/s^2", "rad/s", "ms")),
    Layout("EuRoC", r"timestamp \[ns\]", "a_rs_s_@.*", "w_rs_s_@.*", ("m/s^2", "rad/s", "ns")),
    Layout("ROS", "", r"(.*\W)?linear_acceleration[\W_]@", r"(.*\W)?angular_velocity[\W_]@", ("m/s^2", "rad/s", None)),
    Layout(
        "Sensor Logger", "seconds_elapsed", "(acc.* )?@( .*)?", "", ("m/s^2", None, "s"), True, "accelerometer(?!unc)"
    ),
    Layout("Sensor Logger", "seconds_elapsed", "", "@", (None, "rad/s", "s"), False, "gyroscope"),
    Layout("MbientLab", r"epoch? \(ms\)", r"@-axis \(g\)", r"@-axis \(deg/s\)", ("g", "deg/s", "ms")),
    Layout("WitMotion", r"(chip)?time\b.*", r"a@ ?\(g\)", r"w@ ?\(.*/s\)", ("g", "deg/s", None)),
    Layout("GoPro", "cts", r"accelerometer.* (@|\(@\).*)", r"gyroscope.* (@|\(@\).*)", ("m/s^2", "rad/s", "ms")),
    Layout("Xsens", "sampletimefine", "acc_@", "gyr_@", ("m/s^2", None, "100 us, us")),
    Layout("Shimmer", ".*timestamp.*", r".*accel_(\w+_)?@_cal.*", ".*gyro_@_cal.*", ("m/s^2", "deg/s", "ms")),
    Layout("Physics Toolbox", "time", "gf@", "w@", ("g", "rad/s", None)),
)

# ---- the general rule: words after splitting "motionRotationRateX(rad/s)" into motion, rotation, rate, x ----

WORDS = {
    "accelerometer": {"acc", "accl", "accel", "accelerometer", "acceleration", "accelero", "alpha", "gforce", "ac"},
    "gyroscope": {"gyro", "gyr", "gyroscope", "rotation", "angular", "omega", "gy"},
}
LETTERS = {("a",): "accelerometer", ("f",): "accelerometer", ("g",): "gyroscope", ("w",): "gyroscope"}
LINEAR = re.compile("user|body|dynamic|free|lin.*")  # acceleration less gravity
NOT_MOTION = {
    "mag", "magnetic", "magnetometer", "magnetometerx", "field", "orientation", "attitude", "quaternion", "quat",
    "absolute", "norm", "magnitude", "location", "gps", "vector", "bias", "drift", "accuracy", "heading", "count",
}  # fmt: skip
UNCALIBRATED = {"uncal", "uncalibrated", "raw"}
TIMES = {
    "time", "timestamp", "timestamps", "seconds", "elapsed", "t", "ts", "epoch", "epoc", "datetime", "millis", "date",
    "milliseconds", "microseconds", "micros", "nanoseconds", "nanos", "gpst",
}  # fmt: skip
UNITS = {  # without blanks and brackets, in lower case
    "accelerometer": {"m/s^2": r"m(/s|/sec|s|ps)(\^|\*\*)?[2²°]|m/s/s|m\*?s\^?-2", "g": "gs?", "mg": "mg"},
    "gyroscope": {"rad/s": r"r(ad)?(/s(ec)?|s|ps|\*?s\^?-1)", "mdeg/s": r"m(dps|deg/s|°/s)",
                  "deg/s": r"(°|deg(ree)?s?)(/s(ec)?|s\^?-1)|d(eg)?ps|degs"},
    "time": {"s": "s|secs?|seconds?", "ms": "ms|msec|millis(econds)?", "us": "[uµμ]s|micros(econds)?",
             "ns": "ns|nsec|nanos(econds)?", "iso": "iso|txt"},
}  # fmt: skip
KINDS = {unit: kind for kind, units in UNITS.items() for unit in units}
BRACKETS = re.compile(r"[(\[]((?:[^()\[\]]|\([^()]*\))*)[)\]]")  # one in another too: (m/(s^2))
AXIS_END = re.compile(r"(acc|accl|accel|accelerometer|acceleration|gyro|gyr|gyroscope|ac|gy|g|a|w|omega|)([xyz])")


def _kept(bracket: re.Match[str]) -> str:
    return f" {bracket[1]} " if bracket[1].lower() in ("x", "y", "z") else " "  # GoPro's "Accelerometer (z) [m/s2]"


def unit_of(text: str) -> str | None:
    """A unit as people write it, in the one way that is used here."""
    text = re.sub(r"[\s()\[\]]", "", re.sub("\ufffd+|º", "°", text)).lower()  # a degree sign in another encoding
    return next((u for units in UNITS.values() for u, form in units.items() if re.fullmatch(form, text)), None)


class _Name:
    """A column's name: its words without axis and unit, and those."""

    def __init__(self, name: str) -> None:
        bare = name.strip().strip("\"'")
        self.unit = next(filter(None, map(unit_of, BRACKETS.findall(bare))), None)
        split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", BRACKETS.sub(_kept, bare)).lower().replace("_", " ")
        words = [w for w in re.findall(r"(?:[^\W\d]|°)+\d*(?:/[^\W\d]+[\d²^]*)?|\d+", split) if w != "axis"]
        if self.unit is None and len(words) > 1 and words[-1] not in "xyz" and (unit := unit_of(words[-1])):
            self.unit, words = unit, words[:-1]
        at = next((i for i, word in enumerate(words) if AXIS_END.fullmatch(word)), None)
        self.axis = None if at is None else words[at][-1]
        self.words = tuple(w for i, word in enumerate(words) if (w := word[:-1] if i == at else word))
        self.time_unit = next((u for u in (self.unit, *map(unit_of, self.words)) if u in UNITS["time"]), None)

    def kind(self) -> str | None:
        """``accelerometer``, ``linear``, ``gravity``, ``gyroscope``, ``bare`` (an axis and no more) or None."""
        words = set(self.words)
        if words & NOT_MOTION:
            return None
        if any(word.startswith("gravit") for word in words):
            return "gravity"
        kind = next((kind for kind in reversed(SENSORS) if words & WORDS[kind]), None)
        kind = kind or LETTERS.get(self.words) or KINDS.get(self.unit or "")
        linear = kind == "accelerometer" and any(map(LINEAR.fullmatch, words))
        return "linear" if linear else kind or (None if words else "bare")


def find_columns(names: Sequence[str], source: str, role: str | None = None) -> Columns:
    """Understand a header. Columns x, y, z and no more are of ``role``, or what the name of the file says."""
    spelled, file = [name.strip().strip("\"'") for name in names], re.split(r"[/\\]", source)[-1].lower()
    for i, (name, *others) in enumerate(zip(spelled, spelled[1:], spelled[2:], strict=False)):
        if others == ["1", "2"]:  # GoPro's "Accelerometer (z,x,y) [m/s2], 1, 2"
            order = re.search(r"\(([xyz]), ?([xyz]), ?([xyz])\)", name)
            spelled[i : i + 3] = [f"{name} {axis}" for axis in (order.groups() if order else "xyz")]
    parsed, lower = [_Name(name) for name in spelled], [name.lower() for name in spelled]
    words = _by_words(parsed, role, file)
    known = [columns for layout in LAYOUTS if (columns := layout.columns(lower, file))]
    # One that leaves out a sensor which the words name is not the layout of this table.
    found = next(
        (columns for columns in known if all(getattr(columns, s) or not getattr(words, s) for s in SENSORS)), words
    )
    if not found.accelerometer and not found.gyroscope:
        raise InputError(
            f"{source}: no accelerometer found among the columns {listed(names)}; name them, e.g. "
            "columns={'accelerometer': ('ax', 'ay', 'az'), 'gyroscope': ('gx', 'gy', 'gz'), 'time': 't'}"
        )
    return _with_units(found if found.time is not None else replace(found, time=_time_column(parsed)), parsed)


def _by_words(parsed: list[_Name], role: str | None, file: str) -> Columns:
    groups: dict[tuple[str, tuple[str, ...]], dict[str, int]] = {}
    for number, name in enumerate(parsed):
        if name.axis and (kind := name.kind()):
            groups.setdefault((kind, name.words), {}).setdefault(name.axis, number)
    ranked = sorted(
        (bool(UNCALIBRATED & {*words}), "total" not in words, tuple(axes[a] for a in "xyz"), kind)
        for (kind, words), axes in groups.items() if len(axes) == 3
    )  # fmt: skip
    best = {kind: triple for *_, triple, kind in reversed(ranked)}
    alone = best.get("bare") or (best.get("gravity", ()) if role else ())
    best.setdefault(role or kind_of_file(file), alone)
    linear = not best.get("accelerometer") and "linear" in best
    gravity = best.get("gravity", ()) if linear else ()
    accelerometer = best.get("linear" if linear else "accelerometer", ())
    return Columns(accelerometer, best.get("gyroscope", ()), None, gravity, linear and not gravity)


def _with_units(columns: Columns, parsed: list[_Name]) -> Columns:
    """With the units that the header states, which come before those of the layout."""
    stated: list[str | None] = []
    for kind, triple in zip(SENSORS, (columns.accelerometer, columns.gyroscope), strict=True):
        units = {parsed[number].unit for number in triple}
        stated.append(units.pop() if len(units) == 1 and units <= {*UNITS[kind]} else None)
    stated.append(None if columns.time is None else parsed[columns.time].time_unit)
    return replace(columns, units=tuple(ours or theirs for ours, theirs in zip(stated, columns.units, strict=True)))


def _time_column(parsed: Sequence[_Name]) -> int | None:
    """The best time: one that counts from the start, then other times, then dates, then what has a unit of time."""
    found = []
    for number, name in enumerate(parsed):
        words = set(name.words)
        if name.axis is None and not words & NOT_MOTION and (words & TIMES or name.unit in UNITS["time"]):
            text = name.time_unit == "iso" or "date" in words
            found.append((not words & TIMES, text, not words & {"elapsed", "since", "start"}, number))
    return min(found)[3] if found else None


def kind_of_file(name: str) -> str:
    """What sensor columns x, y, z of a file are of, by its name."""
    if re.search(r"gyr|rotation|angular", name.lower()):
        return "gyroscope"
    return "other" if re.search(r"gravity|magnet|orientation", name.lower()) else "accelerometer"


def named_columns(names: Sequence[str], wanted: Any, source: str) -> Columns:
    """Columns that the caller names, or gives by numbers from 0; see :func:`bind2gen.preprocess.imu.load`."""
    if not isinstance(wanted, Mapping) or set(wanted) - {*SENSORS, "time"} or not set(wanted) & set(SENSORS):
        raise InputError(
            f"{source}: wanted columns as a dict with the keys accelerometer, gyroscope and time, "
            f"got {one_line(wanted, 80)}"
        )
    stripped, found = [name.strip() for name in names], {}
    for role, given in wanted.items():
        if (
            role in SENSORS
            and given is not None
            and (isinstance(given, str) or not isinstance(given, Sequence) or len(given) != 3)
        ):
            raise InputError(f"{source}: wanted three columns for the {role} (x, y, z), got {one_line(given, 80)}")
        for column in () if given is None else (given,) if role == "time" else given:
            is_name = isinstance(column, str) and column.strip() in stripped
            number = stripped.index(column.strip()) if is_name else column
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
                raise InputError(f"{source}: there is no column {one_line(column, 60)!r}; there are {listed(names)}")
            found.setdefault(role, []).append(number)
    triples = (tuple(found.get(role, ())) for role in SENSORS)
    return _with_units(Columns(*triples, *found.get("time", [None])), [_Name(name) for name in names])


def listed(names: Sequence[str]) -> str:
    return one_line(", ".join(str(name).strip() for name in names), 200) or "none"
