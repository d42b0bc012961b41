"""Arguments that commands share, and their types. What the command line alone can show to be wrong is found here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NoReturn

from ..errors import Bind2GenError
from .reporting import one_line

INPUT_MODALITIES = ("audio", "image", "text", "video", "depth", "thermal", "imu")
DTYPES = ("auto", "float32", "float16", "bfloat16")
MAX_SEED = 2**63 - 1
MAX_STEPS = 1000  # the noise schedules of the hosts have that many
USAGE_CODE = 2
DEFAULT_MODEL = "mini"  # bundled


class UsageError(Bind2GenError):
    """The command line is wrong: exit code 2."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_CODE, f"bind2gen: error: {one_line(message)} (see {self.prog} --help)\n")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Type of a whole number in low..high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"wanted a whole number in {low}..{high}, got {text!r}")
        return value

    return parse


def finite(text: str) -> float:
    """Type of a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"wanted a finite number, got {text!r}")
    return value


def above_zero(text: str) -> float:
    """Type of a finite number above zero."""
    if (value := finite(text)) <= 0:
        raise argparse.ArgumentTypeError(f"wanted a number above zero, got {text!r}")
    return value


def weight(text: str) -> tuple[str, float]:
    """Type of ``audio=0.7``."""
    name, equals, number = text.partition("=")
    if not equals or name not in INPUT_MODALITIES:
        known = ", ".join(INPUT_MODALITIES)
        raise argparse.ArgumentTypeError(f"wanted MODALITY=NUMBER with a modality of {known}, got {text!r}")
    return name, finite(number)


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """``--audio``, ``--image`` ... ``--imu``, each with one or more inputs."""
    group = parser.add_argument_group("inputs")
    kinds = {
        "audio": "sound files, or example:NAME (see bind2gen info)",
        "image": "picture files",
        "text": "sentences, each in quotes",
        "video": "video files",
        "depth": "depth maps: 16-bit PNG or TIFF, EXR, NPY",
        "thermal": "infrared pictures: grey, radiometric or in false colours",
        "imu": "motion recordings: CSV, Parquet, NPY, or a phone's export folder",
    }
    for name in INPUT_MODALITIES:
        metavar = "TEXT" if name == "text" else "FILE"
        group.add_argument(f"--{name}", nargs="+", action="extend", metavar=metavar, help=kinds[name])


def add_models(parser: argparse.ArgumentParser, *, model_help: str) -> None:
    """``--model``, ``--imagebind``, ``--device``, ``--dtype``, ``--batch-size``."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="DIR_OR_ID", default=DEFAULT_MODEL, help=model_help)
    group.add_argument(
        "--imagebind",
        metavar="PATH_OR_ID",
        help="ImageBind encoder to use: our folder, imagebind_huge.pth, or a hub id",
    )
    group.add_argument(
        "--device", default="auto", help="auto (cuda, mps or cpu, the first there is), cpu, cuda, cuda:1, mps"
    )
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="auto: float16 on cuda, float32 elsewhere")
    group.add_argument(
        "--batch-size", type=whole(1, 1024), default=4, metavar="N", help="inputs and pictures at a time (default: 4)"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """``--json`` and ``--quiet``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress bars, nothing on stdout but --json")


def given_inputs(args: argparse.Namespace) -> dict[str, list[str]]:
    """Modality -> inputs, of those that were given.

    Raises:
        UsageError: there are none.
    """
    given = {name: list(values) for name in INPUT_MODALITIES if (values := getattr(args, name))}
    if not given:
        raise UsageError("no input: give " + ", ".join(f"--{name}" for name in INPUT_MODALITIES))
    return given
