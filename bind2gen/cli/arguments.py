"""Arguments that commands share, and their types. What the command line alone can show to be wrong is found here."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import Bind2GenError, did_you_mean
from .reporting import one_line

INPUT_MODALITIES = ("audio", "image", "text", "video", "depth", "thermal", "imu")
UNWANTED = {"audio": ("FILE", "not what makes this sound"), "text": ("TEXT", "not this"), "image": ("FILE", "not this")}
DTYPES = ("auto", "float32", "float16", "bfloat16")
DTYPE_HELP = "auto: float16 on cuda; bfloat16 for large models on processors that multiply it (info); else float32"
MAX_SEED = 2**63 - 1
MAX_STEPS = 1000  # the noise schedules of the hosts have that many
USAGE_CODE = 2
DEFAULT_MODEL = "mini"  # bundled


class UsageError(Bind2GenError):
    """The command line is wrong: exit code 2."""


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults behind every option that has one and does not say so itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        nothing = not action.default and type(action.default) not in (int, float)  # 0 is something
        if nothing or action.default == argparse.SUPPRESS or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def option_of(destination: str) -> str:
    """How an option is typed."""
    return f"--{destination.replace('_', '-')}"


def comma_separated(text: str) -> list[str]:
    """The words between commas, without blanks around them; empty ones are left out."""
    return [word.strip() for word in text.split(",") if word.strip()]


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, with what was probably meant, and whose help shows defaults."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **options)  # type: ignore[arg-type]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:  # the command's own parser knows which options are near
            hint = did_you_mean(unknown[0].partition("=")[0], self._long_options(), "--{}")
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        if not hasattr(found, "typed"):  # of the innermost parser
            found.typed = self.typed(sys.argv[1:] if args is None else args)
        return found, unknown

    def typed(self, words: Sequence[str]) -> dict[str, list[str]]:
        """What was given, as it was typed: destination of each option -> the words of its values."""
        options = {option: action.dest for action in self._actions for option in action.option_strings}
        found: dict[str, list[str]] = {}
        values: list[str] = []
        for word in words:
            option, equals, value = word.partition("=")
            if option in options:
                values = found.setdefault(options[option], [])
                values += [value] if equals else []
            else:
                values.append(word)
        return found

    def error(self, message: str) -> NoReturn:
        if found := re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            message += did_you_mean(found[1], re.findall(r"[\w-]+", found[2]))
        self.exit(USAGE_CODE, f"bind2gen: error: {one_line(message)} (see {self.prog} --help)\n")

    def _long_options(self) -> Sequence[str]:
        return [word[2:] for action in self._actions for word in action.option_strings if word.startswith("--")]


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


def share(text: str) -> float:
    """Type of a number in 0..1."""
    if not 0 <= (value := finite(text)) <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number in 0..1, got {text!r}")
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
    """``--audio``, ``--image`` ... ``--imu``, each with one or more inputs, and ``--keep-going``."""
    group = parser.add_argument_group("inputs", "files, folders of them, or - for standard input (of --text its lines)")
    kinds = {
        "audio": "sound files, or example:NAME (see bind2gen info)",
        "image": "picture files",
        "text": "sentences, each in quotes",
        "video": "video files",
        "depth": "depth maps: 16-bit PNG or TIFF, EXR, NPY",
        "thermal": "infrared pictures: grey, radiometric or in false colours",
        "imu": "motion recordings: CSV, JSON, Parquet, NPY, or a phone's export folder",
    }
    for name in INPUT_MODALITIES:
        metavar = "TEXT" if name == "text" else "FILE"
        group.add_argument(f"--{name}", nargs="+", action="extend", metavar=metavar, help=kinds[name])
    add_keep_going(group)


def add_unwanted(group: Any) -> None:
    """``--not-audio``, ``--not-text`` and ``--not-image``."""
    for name, (metavar, words) in UNWANTED.items():
        group.add_argument(f"--not-{name}", nargs="+", action="extend", metavar=metavar, help=f"but {words}")


def given_unwanted(args: argparse.Namespace) -> dict[str, list[str]]:
    """Modality -> inputs that are not meant, of those that were given."""
    return {name: list(values) for name in UNWANTED if (values := getattr(args, f"not_{name}"))}


def add_keep_going(group: Any) -> None:
    """``--keep-going`` and ``--no-keep-going``."""
    group.add_argument(
        "--keep-going", action=argparse.BooleanOptionalAction,
        help="leave out what cannot be read, list it, and end with code 1 (default: where a folder is given)",
    )  # fmt: skip


def add_denoising(parser: argparse.ArgumentParser) -> None:
    """``--steps`` and ``--guidance``."""
    parser.add_argument(
        "--steps", type=whole(1, MAX_STEPS), metavar="N", help="denoising steps (default: the pipeline's)"
    )
    parser.add_argument(
        "--guidance", type=finite, metavar="G", help="guidance scale; 1 or less: none (default: the model's)"
    )


def add_models(parser: argparse.ArgumentParser, *, model_help: str) -> None:
    """``--model``, ``--imagebind``, ``--device``, ``--dtype``, ``--batch-size``."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="DIR_OR_ID", default=DEFAULT_MODEL, help=model_help)
    group.add_argument(
        "--imagebind",
        metavar="PATH_OR_ID",
        help="ImageBind encoder to use: our folder, imagebind_huge.pth, or a hub id (default: the model's own)",
    )
    group.add_argument(
        "--device", default="auto", help="auto (cuda, mps or cpu, the first there is), cpu, cuda, cuda:1, mps"
    )
    group.add_argument("--dtype", choices=DTYPES, default="auto", help=DTYPE_HELP)
    group.add_argument(
        "--batch-size", type=whole(1, 1024), default=4, metavar="N", help="inputs and pictures at a time"
    )


def add_adapter(parser: Any) -> None:
    """``--adapter``, of commands that draw or find."""
    parser.add_argument(
        "--adapter", metavar="DIR",
        help="what bind2gen fit-gap measured of the encoder (default: the model's own, if it is its encoder)",
    )  # fmt: skip


def add_output(parser: argparse.ArgumentParser, *, writes: bool = True) -> None:
    """``--json``, ``--quiet`` and ``--verbose``, and ``--overwrite`` for commands that write files."""
    if writes:
        parser.add_argument("--overwrite", action="store_true", help="replace files that bind2gen did not make, too")
    parser.add_argument("--json", action="store_true", help="print one JSON document, an object, on stdout")
    add_loudness(parser)


def add_loudness(parser: argparse.ArgumentParser) -> None:
    """``--quiet`` and ``--verbose``."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="no progress bars, nothing on stdout but --json")
    group.add_argument(
        "-v", "--verbose", action="store_true",
        help="say what is loaded and how long it takes, and pass on the warnings of the libraries",
    )  # fmt: skip


def given_inputs(args: argparse.Namespace) -> dict[str, list[str]]:
    """Modality -> inputs, of those that were given.

    Raises:
        UsageError: there are none.
    """
    given = {name: list(values) for name in INPUT_MODALITIES if (values := getattr(args, name))}
    if not given:
        raise UsageError("no input: give " + ", ".join(f"--{name}" for name in INPUT_MODALITIES))
    return given


def given_weights(pairs: list[tuple[str, float]], inputs: dict[str, list[str]]) -> dict[str, float] | None:
    """``--weight`` by modality; None where there is none.

    Raises:
        UsageError: of what was not given, twice, or none above zero.
    """
    weights = dict(pairs)
    if len(weights) < len(pairs):
        raise UsageError("--weight: the same kind of input is named twice")
    if unknown := [name for name in weights if name not in inputs]:
        raise UsageError(f"--weight {unknown[0]}=...: no --{unknown[0]} is given")
    if weights and max(weights.get(name, 1.0) for name in inputs) <= 0:
        raise UsageError("--weight: no weight is above zero; give at least one kind of input a weight")
    return weights or None
