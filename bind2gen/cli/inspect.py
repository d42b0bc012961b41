"""``bind2gen inspect``: what is understood of a file, and what the model will see of it."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Bind2GenError, Bind2GenWarning, UnreadableError
from ..modality import MODALITIES
from .arguments import DEFAULT_MODEL, add_output
from .files import PICTURE_SUFFIXES, check_out_file, save_picture
from .inputs import read_inputs
from .loading import choose_model, load_settings
from .names import display_names
from .sensors import LOADING, SensorOptions, add_sensors, in_options, sensor_options

if TYPE_CHECKING:
    from ..imagebind.processor import ImageBindProcessor
    from ..inspect.facts import Fact

KINDS = ("audio", "image", "video", "depth", "thermal", "imu")
INDENT = 18  # characters of the longest name of a fact


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "inspect",
        help="show what is understood of a file, and what the model will see of it",
        description="Read a file as the other commands do, say what was understood (rate, units, columns, range, "
        "holes, windows), and with --out draw the tensor that the model will see. No weights are loaded.",
    )
    parser.add_argument("file", metavar="FILE", help="file (of IMU also a folder), example:NAME, or - for stdin")
    parser.add_argument("--as", dest="kind", choices=KINDS, required=True, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", metavar="PICTURE", help=f"picture to write: {', '.join(PICTURE_SUFFIXES)}")
    parser.add_argument("--model", metavar="DIR_OR_ID", default=DEFAULT_MODEL, help="model whose settings to use")
    parser.add_argument("--imagebind", metavar="PATH_OR_ID", help="encoder whose settings to use instead")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check, read, transform, say, draw."""
    sensors = sensor_options(args, [args.kind])
    source = read_inputs({args.kind: [args.file]}).files[args.kind][0]
    if args.kind != "imu" and Path(args.file).is_dir():
        raise UnreadableError(f"{args.file}: wanted one {args.kind} file, this is a folder")
    if args.out and Path(args.out).exists() and Path(args.out).samefile(source):
        raise Bind2GenError(f"--out {args.out}: this is the input and would be overwritten")
    out = check_out_file(args.out, PICTURE_SUFFIXES, args) if args.out else None
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    processor, config = load_settings(choice)
    sensors.adapt(processor)
    tower = MODALITIES[args.kind].tower
    built = tower in config.modalities
    [name] = display_names([args.file], args.kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Bind2GenWarning)
        understood, seen, draw = _looked_at(args.kind, source, processor, sensors)
    doubts = [str(warning.message) for warning in caught if issubclass(warning.category, Bind2GenWarning)]
    for doubt in doubts:
        warnings.warn(doubt, Bind2GenWarning, stacklevel=1)
    if out:
        save_picture(draw(f"{name} as {args.kind}, for {choice.label}"), out)
    if args.json:
        document = {"file": name, "kind": args.kind, "model": choice.label, "model_has_tower": built}
        document |= {"understood": _values(understood), "seen": _values(seen), "warnings": doubts}
        print(json.dumps(document | {"picture": str(out) if out else None}))
    elif not args.quiet:
        lacks = "" if built else f"; {choice.label} itself has no {tower} tower"
        print(f"{name} as {args.kind}, with the settings of {choice.label}{lacks}")
        _print("understood", understood)
        _print("the model sees", seen)
        if out:
            print(f"picture: {out}")


def _looked_at(
    kind: str, source: str, processor: ImageBindProcessor, sensors: SensorOptions
) -> tuple[list[Fact], list[Fact], Any]:
    """Facts on the file, facts on the tensor, and a function that draws it under a title."""
    from ..imagebind.fronts import FRONTS
    from ..inspect import facts as inspection

    settings, front = getattr(processor, kind), FRONTS[kind]
    with in_options(kind):
        raw = sensors.load(kind, source, processor) if kind in LOADING else front.load(source, settings, None)
        [(clips, times)] = front.transform([raw], settings, None)  # (S, *sample), (S, 2) s
        understood = inspection.facts(kind, raw, settings, source)

    def draw(title: str) -> Any:
        from ..inspect.pictures import draw as drawn

        return drawn(kind, clips, times, raw, settings, title)

    return understood, inspection.model_facts(clips, times), draw


def _values(facts: list[Fact]) -> dict[str, Any]:
    """Facts by name; notes, of which there may be several, as a list."""
    values: dict[str, Any] = {fact.name.replace(" ", "_"): fact.value for fact in facts if fact.name != "note"}
    if notes := [fact.value for fact in facts if fact.name == "note"]:
        values["notes"] = notes
    return values


def _print(heading: str, facts: list[Fact]) -> None:
    print(f"{heading}:")
    for fact in facts:
        print(f"  {fact.name:{INDENT}} {fact.words}")
