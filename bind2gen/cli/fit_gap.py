"""``bind2gen fit-gap``: an encoder's modality gap and the length of its image vectors, measured on files."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..errors import EmptyInputError, InputError, UnreadableError
from .arguments import UsageError, add_keep_going, add_models, add_output
from .files import check_out_folder
from .inputs import STDIN, Inputs, check_file, read_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .names import display_names
from .reporting import progress
from .sensors import SensorOptions, add_sensors, sensor_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from ..imagebind.model import ImageBindModel

WRITES = ("metrics.json", "config.json", "diffusion_pytorch_model.safetensors", "README.md")
OPTIONS = {  # modality -> option, and what it takes
    "image": ("images", "pictures"),
    "audio": ("sounds", "sound files"),
    "depth": ("depth", "depth maps"),
    "thermal": ("thermal", "infrared pictures"),
    "imu": ("imu", "motion recordings; of a folder all that is in it"),
    "video": ("video", "video files"),
    "text": ("text", "texts, one a line"),
}


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "fit-gap",
        help="measure an encoder's modality gap on your files, for generate --adapter",
        description="Measure where each modality's embeddings lie and how long raw image vectors are, on some hundreds "
        "of files of each kind, and write an adapter that moves them to images, with figures of left-out files and a "
        "card. Files of the same name but for the ending are a pair of a picture and something else: of many pairs a "
        "map is learned, and kept where it finds the right picture better than the shift of means.",
    )
    group = parser.add_argument_group("files", "or folders of them; they need not be of the same things")
    for option, what in OPTIONS.values():
        metavar = "FILE" if option == "text" else "DIR"
        group.add_argument(f"--{option}", nargs="+", action="extend", metavar=metavar, help=what)
    group.add_argument("--embeddings", metavar="FILE", help="what bind2gen embed wrote of them, instead of files and "
                       "encoder; does not tell the length")  # fmt: skip
    group.add_argument(
        "--group", type=_pattern, metavar="REGEX",
        help="what of a name is that of its recording, such as ^[^_]+ ; files of one are left out together",
    )  # fmt: skip
    add_keep_going(group)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to measure")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"wanted a regular expression, got {text!r} ({error})") from error


def run(args: argparse.Namespace) -> int:
    """Check, embed or read embeddings, measure, write."""
    given = {name: values for name, (option, _) in OPTIONS.items() if (values := getattr(args, option))}
    if bool(args.embeddings) == bool(given):
        raise UsageError("wanted either files, --images and others, or --embeddings of them")
    if given and "image" not in given:
        raise UsageError("--images: wanted pictures, the others move to where they lie; found none")
    sensors = sensor_options(args, given)
    out = check_out_folder(args.out, files=WRITES, args=args)
    inputs, model, lengths = None, None, None
    if args.embeddings:
        rows, stems, encoder = _read(args.embeddings)
    else:
        inputs, model, rows, stems, encoder = _embedded(args, given, sensors)
        lengths = rows["image"].norm(dim=1)
    from ..train.maps.gap import fit_gap
    from ..train.maps.gap_report import write_gap

    groups = None if args.group is None else {name: _recordings(args.group, listed) for name, listed in stems.items()}
    with progress("fit", total=len(rows), quiet=args.quiet) as bar:
        adapter, report = fit_gap(rows, stems, groups=groups, lengths=lengths, progress=bar.update)
    if model is not None:
        adapter.claim(model)
    files = [str(path) for path in write_gap(out, adapter, report, encoder=encoder)]
    skipped = inputs.skipped if inputs else []
    if args.json:
        print(json.dumps({"folder": str(out), "files": files, "left_out": report.to_dict(), "skipped": skipped}))
    elif not args.quiet:
        print(report.table())
        print(out)
    return inputs.finished() if inputs else 0


def _read(path: str) -> tuple[dict[str, torch.Tensor], dict[str, list[str | None]], str]:
    """Embeddings, what tells pairs, and what the encoder is called, of a file of ``bind2gen embed``."""
    from ..files.embeddings import load_embeddings

    found = load_embeddings(path)
    import torch

    rows = {name: torch.from_numpy(vectors) for name, vectors in found.vectors.items()}
    return rows, {name: _stems(name, listed) for name, listed in found.inputs.items()}, found.details.get("model", path)


def _embedded(
    args: argparse.Namespace, given: dict[str, list[str]], sensors: SensorOptions
) -> tuple[Inputs, ImageBindModel, dict[str, torch.Tensor], dict[str, list[str | None]], str]:
    """Files to embeddings (N, D), images of their raw length; what cannot be read is left out of ``Inputs``."""
    expanded = {name: [part for value in values for part in _parts(name, value)] for name, values in given.items()}
    folders = any(Path(value).is_dir() for values in given.values() for value in values)
    keep_going = folders if args.keep_going is None else args.keep_going
    inputs = read_inputs(expanded, keep_going=keep_going)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    model, processor = load_encoder(choice, modalities=list(given), device=device, dtype=dtype, quiet=args.quiet)
    sensors.adapt(processor)
    import torch

    from ..train.maps.gap import embed_raw

    rows, stems = {}, {}
    with progress("encode", total=inputs.count, quiet=args.quiet) as bar:
        for name in inputs.files:
            model.tower(name)  # refuses a modality that the model does not have before reading files

            def encode(files: list[str], name: str = name) -> torch.Tensor:
                return embed_raw(model, processor, name, [sensors.load(name, file, processor) for file in files])

            found = inputs.encoded(name, encode, args.batch_size, bar.update)
            if not found:
                raise InputError(f"none of the {len(inputs.files[name])} {name} inputs can be read")
            rows[name] = torch.stack(list(found.values()))
            listed = display_names(inputs.named[name], name)
            stems[name] = _stems(name, [listed[i] for i in found])
    return inputs, model, rows, stems, choice.label


def _parts(modality: str, value: str) -> list[str]:
    """What ``read_inputs`` does not take apart itself: folders of recordings, files of texts."""
    path = Path(value)
    if modality == "imu" and path.is_dir():
        if not (found := sorted(str(entry) for entry in path.iterdir() if not entry.name.startswith("."))):
            raise UnreadableError(f"{value}: this is an empty folder, wanted motion recordings")
        return found
    if modality != "text" or value == STDIN:
        return [value]
    check_file(value, modality)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{value}: wanted UTF-8 text, one a line") from error
    if not (found := [line for line in lines if line]):
        raise EmptyInputError(f"{value}: wanted texts, one a line, found none")
    return found


def _stems(modality: str, names: Sequence[str]) -> list[str | None]:
    """Names without folder and ending, by which files are paired; texts have none."""
    return [None if modality == "text" else PurePath(name.removesuffix(".gz")).stem for name in names]


def _recordings(pattern: re.Pattern[str], stems: Sequence[str | None]) -> list[str | None]:
    """The recording of each; one whose name the pattern does not match stands alone."""
    found = [None if stem is None else pattern.search(stem) for stem in stems]
    return [stem if match is None else match[0] for stem, match in zip(stems, found, strict=True)]
