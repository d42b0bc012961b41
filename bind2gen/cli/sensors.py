"""Sensor options: what the command line says of depth, infrared and motion files. The choices are plain words here.

They repeat those of the modules that read such files, which import torch; a test sees to it that they agree.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import Bind2GenError, Bind2GenWarning
from .arguments import UsageError, above_zero, finite, option_of, whole

if TYPE_CHECKING:
    from ..imagebind.processor import ImageBindProcessor
    from ..preprocess.imu import Stated

DEPTH_SENSORS = (
    "kinect_v1", "kinect_v2", "realsense", "realsense_d435", "realsense_d455", "xtion", "iphone_lidar",
)  # fmt: skip
DEPTH_UNITS = ("mm", "cm", "m")
DEPTH_ENCODINGS = ("depth", "sun_rgbd", "relative_inverse")
DEPTH_CONVENTIONS = ("metres", "unrotated")
DEPTH_HOLES = ("fill", "near", "far")
THERMAL_ENCODINGS = (
    "auto", "grey", "radiometric", "iron", "inferno", "magma", "plasma", "turbo", "jet", "hot", "rainbow",
)  # fmt: skip
THERMAL_NORMALIZATIONS = ("plain", "half")
THERMAL_POLARITIES = ("white_hot", "black_hot")
ACCELEROMETER_UNITS = ("m/s^2", "g", "mg")
GYROSCOPE_UNITS = ("rad/s", "deg/s", "mdeg/s")
TIME_UNITS = ("s", "ms", "us", "ns", "iso")
TIMESTAMPS = ("auto", "given", "even", "sort")
MAX_ROW = 10_000_000

# Fields of each modality's settings, and arguments of its load(); args hold them as modality_field.
SETTINGS = {
    "depth": ("convention", "holes"),
    "thermal": ("normalization", "polarity"),
    "imu": ("axes", "flip_accelerometer"),
}
LOADING = {
    "depth": ("sensor", "unit", "encoding", "fx", "fov", "baseline"),
    "thermal": ("encoding", "box"),
    "imu": ("accelerometer_unit", "gyroscope_unit", "time_unit", "sampling_rate", "timestamps", "row"),
}
COLUMNS = ("accelerometer", "gyroscope", "time")
STATED = ("accelerometer_unit", "gyroscope_unit", "time_unit", "columns", "sampling_rate", "timestamps")
SHORTER = {"imu_sampling_rate": "--imu-rate"}  # options that are not called as their argument is


def add_sensors(parser: argparse.ArgumentParser) -> None:
    """One group of options for each of depth, thermal and IMU."""
    _add_depth(parser.add_argument_group("depth files"))
    _add_thermal(parser.add_argument_group("thermal files"))
    _add_imu(parser.add_argument_group("IMU files; what is not said is found out (see bind2gen inspect)"))


def _add_depth(group: Any) -> None:
    group.add_argument("--depth-sensor", choices=DEPTH_SENSORS, metavar="NAME", help=", ".join(DEPTH_SENSORS))
    group.add_argument(
        "--depth-unit", type=_unit, metavar="UNIT",
        help="mm (default of whole numbers), cm, m (default of floats), or metres in one unit: 0.0002",
    )  # fmt: skip
    group.add_argument(
        "--depth-encoding", choices=DEPTH_ENCODINGS, metavar="NAME",
        help="depth; sun_rgbd: that data set's rotated bits; relative_inverse: 8-bit drawings, white is near",
    )  # fmt: skip
    optics = group.add_mutually_exclusive_group()
    optics.add_argument("--depth-fx", type=above_zero, metavar="PX", help="focal length in pixels of the map")
    optics.add_argument("--depth-fov", type=_angle, metavar="DEG", help="horizontal field of view, instead of fx")
    group.add_argument("--depth-baseline", type=above_zero, metavar="M", help="metres between the two views")
    group.add_argument(
        "--depth-convention", choices=DEPTH_CONVENTIONS, metavar="NAME",
        help="metres, or unrotated: depth eight times too large, as the released weights may have seen it "
        "(default: the model's)",
    )  # fmt: skip
    group.add_argument(
        "--depth-holes", choices=DEPTH_HOLES, metavar="NAME",
        help="fill pixels without depth from around them, or take them as near or far (default: the model's)",
    )  # fmt: skip


def _add_thermal(group: Any) -> None:
    group.add_argument(
        "--thermal-encoding", choices=THERMAL_ENCODINGS, metavar="NAME",
        help=f"{', '.join(THERMAL_ENCODINGS[:3])}, or a palette: {', '.join(THERMAL_ENCODINGS[3:])} (default: auto)",
    )  # fmt: skip
    group.add_argument(
        "--thermal-box", type=_box, metavar="X0,Y0,X1,Y1", help="part of each picture, e.g. a person, in pixels"
    )
    group.add_argument(
        "--thermal-normalization",
        choices=THERMAL_NORMALIZATIONS,
        metavar="NAME",
        help="plain: 0..1; half: -1..1 (default: the model's)",
    )
    group.add_argument(
        "--thermal-polarity",
        choices=THERMAL_POLARITIES,
        metavar="NAME",
        help="of grey files: white_hot, black_hot (default: the model's)",
    )


def _add_imu(group: Any) -> None:
    for sensor, units in (("accelerometer", ACCELEROMETER_UNITS), ("gyroscope", GYROSCOPE_UNITS)):
        words = ", ".join(units)
        group.add_argument(f"--imu-{sensor}-unit", choices=units, metavar="UNIT", help=words)
        group.add_argument(
            f"--imu-{sensor}-columns", nargs=3, metavar=("X", "Y", "Z"), help="names, or numbers from 0, of columns"
        )
    group.add_argument("--imu-time-unit", choices=TIME_UNITS, metavar="UNIT", help=", ".join(TIME_UNITS))
    group.add_argument("--imu-time-column", metavar="COLUMN", help="name, or number from 0")
    group.add_argument(
        "--imu-rate", dest="imu_sampling_rate", type=above_zero, metavar="HZ",
        help="of files without times; with it times are passed over",
    )  # fmt: skip
    group.add_argument(
        "--imu-timestamps", choices=TIMESTAMPS, metavar="NAME",
        help="times that jitter or repeat: auto (default), given (as they are), even, sort (rows out of order)",
    )  # fmt: skip
    group.add_argument("--imu-row", type=whole(0, MAX_ROW), metavar="N", help="window of a UCI HAR folder, from 0")
    group.add_argument(
        "--imu-axes", type=_axes, metavar="ORDER", help="axes that stand at x, y, z: --imu-axes=y-xz (default: xyz)"
    )
    group.add_argument(
        "--imu-flip-accelerometer", action="store_const", const=True, help="Apple's sign of gravity, turned round"
    )


def _unit(text: str) -> str | float:
    return text if text in DEPTH_UNITS else above_zero(text)


def _angle(text: str) -> float:
    if (degrees := above_zero(text)) >= 180:
        raise argparse.ArgumentTypeError(f"wanted degrees between 0 and 180, got {text!r}")
    return degrees


def _box(text: str) -> tuple[float, ...]:
    parts = [finite(part) for part in text.split(",")]
    if len(parts) != 4 or parts[0] >= parts[2] or parts[1] >= parts[3]:
        raise argparse.ArgumentTypeError(f"wanted X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1, got {text!r}")
    return tuple(parts)


def _axes(text: str) -> str:
    if not re.fullmatch(r"(-?[xyz]){3}", text) or len(set(text) - {"-"}) != 3:
        raise argparse.ArgumentTypeError(f"wanted x, y, z in some order, a minus before those turned, got {text!r}")
    return text


@dataclass(frozen=True)
class SensorOptions:
    """What was said of sensors.

    Attributes:
        settings: modality -> fields of its settings.
        loading: modality -> arguments of its ``load``.
    """

    settings: dict[str, dict[str, Any]]
    loading: dict[str, dict[str, Any]]

    def adapt(self, processor: ImageBindProcessor) -> None:
        """Give the processor the settings, for this run."""
        for name, fields in self.settings.items():
            setattr(processor, name, replace(getattr(processor, name), **fields))

    def load(self, name: str, source: str, processor: ImageBindProcessor) -> Any:
        """A sensor's file as its loader reads it, which the processor passes on; of other modalities the file's name.

        Raises:
            Bind2GenError: what the loaders raise, with options in place of arguments.
        """
        if name not in LOADING:
            return source
        from ..preprocess import depth, imu, thermal

        load = {"depth": depth.load, "thermal": thermal.load, "imu": imu.load}[name]
        with in_options(name):
            return load(source, settings=getattr(processor, name), **self.loading.get(name, {}))

    def stated(self) -> Stated:
        """What is said of motion files, for streaming them."""
        from ..preprocess.imu import Stated

        return Stated(**{name: value for name, value in self.loading.get("imu", {}).items() if name in STATED})


def sensor_options(args: argparse.Namespace, given: Collection[str]) -> SensorOptions:
    """Gather what was said.

    Args:
        args: of a parser with :func:`add_sensors`.
        given: modalities that there are inputs of.

    Raises:
        UsageError: an option of a modality that is not among them; a gyroscope's or time column alone.
    """
    settings, loading = ({name: _said(args, name, fields) for name, fields in table.items()}
                         for table in (SETTINGS, LOADING))  # fmt: skip
    columns = {name: getattr(args, f"imu_{name}_column" + ("s" if name != "time" else "")) for name in COLUMNS}
    named = {name: _column(value) for name, value in columns.items() if value is not None}
    if named:
        if "accelerometer" not in named:
            raise UsageError("name the accelerometer's columns too: --imu-accelerometer-columns X Y Z")
        loading["imu"]["columns"] = named
    for name in LOADING:
        if name not in given and (said := {**settings[name], **loading[name]}):
            raise UsageError(f"{_option(name, next(iter(said)))}: there is no {name} input")
    return SensorOptions(settings, loading)


def _said(args: argparse.Namespace, name: str, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: value for field in fields if (value := getattr(args, f"{name}_{field}")) is not None}


def _column(value: str | list[str]) -> Any:
    """A column's name, or its number."""
    if isinstance(value, list):
        return tuple(map(_column, value))
    return int(value) if value.isascii() and value.isdigit() else value


def _option(name: str, field: str) -> str:
    if field == "columns":
        return "--imu-accelerometer-columns"
    return SHORTER.get(f"{name}_{field}", option_of(f"{name}_{field}"))


# ---- messages ----

PHRASES = {  # of the loaders, for those who write Python -> for those who write command lines
    "give sensor (one of": "give --depth-sensor (one of",
    "or fx or fov, and baseline": "or --depth-fx or --depth-fov, and --depth-baseline",
    "stream it with embed_timeline, or raise max_seconds in ImuSettings": "or use bind2gen embed --timeline",
    "or raise max_seconds in AudioSettings": "or use bind2gen embed --timeline",
    "go in as image=": "go in as --image",
    "or (accelerometer file, gyroscope file)": "or a folder with both",
    "pass (accelerometer file, gyroscope file)": "pass a folder that holds Accelerometer.csv and Gyroscope.csv",
}


@contextmanager
def in_options(name: str) -> Iterator[None]:
    """Within the block: errors and warnings on inputs of a modality name options, not Python's arguments."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except Bind2GenError as error:
            raise type(error)(translated(str(error), name)) from error
        finally:
            said = [str(warning.message) for warning in caught if issubclass(warning.category, Bind2GenWarning)]
    for message in said:
        warnings.warn(translated(message, name), Bind2GenWarning, stacklevel=3)


def translated(message: str, name: str) -> str:
    """``give sampling_rate= in Hz`` -> ``give --imu-rate in Hz``."""
    for ours, theirs in PHRASES.items():
        message = message.replace(ours, theirs)
    message = re.sub(r"\bcolumns=(\{[^}]*\})?", "--imu-accelerometer-columns, --imu-gyroscope-columns ", message)

    def option(found: re.Match[str]) -> str:
        value = found[2].strip("'")
        return _option(name, found[1]) + (f" {value}" if value else "")

    fields = "|".join((*LOADING.get(name, ()), *SETTINGS.get(name, ())))
    return re.sub(rf"\b({fields})=('[^']*'|[\w.]*)", option, message) if fields else message
