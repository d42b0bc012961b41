"""``bind2gen matrix``: how like each other one's own files are, as a picture."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from ..files.bundled import EXAMPLE_PREFIX
from .arguments import UsageError, add_inputs, add_models, add_output, given_inputs
from .files import PICTURE_SUFFIXES, check_out_file, save_picture
from .inputs import read_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .names import display_names
from .sensors import add_sensors, sensor_options

if TYPE_CHECKING:
    import torch

    from ..imagebind.model import ImageBindModel

MOST = 200  # inputs of a picture
BY_CONTENT = {"sound": "audio", "picture": "image", "film": "video"}


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "matrix",
        help="a picture of how like each other sounds, pictures, texts and other inputs are",
        description="Cosines between all inputs, as numbers in colour; or, with --shares, which input of another kind "
        "each row is, as the reference's own example shows.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="sounds, pictures and films, told by their content")
    add_inputs(parser)
    parser.add_argument("--out", required=True, metavar="PICTURE", help=f"to write: {', '.join(PICTURE_SUFFIXES)}")
    parser.add_argument(
        "--shares", action="store_true", help="softmax over the columns of each kind instead of cosines"
    )  # fmt: skip
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, load the encoder, embed, draw."""
    for kind, files in _recognised(args.files).items():
        setattr(args, kind, [*files, *(getattr(args, kind) or ())])
    named = given_inputs(args)
    sensors = sensor_options(args, named)
    inputs = read_inputs(named, keep_going=args.keep_going)
    if args.shares and len(named) < 2:
        raise UsageError("--shares: wanted two kinds of inputs, such as --audio and --text")
    if not 2 <= inputs.count <= MOST:
        raise UsageError(f"wanted 2 to {MOST} inputs, got {inputs.count}")
    out = check_out_file(args.out, PICTURE_SUFFIXES, args)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    import torch

    from ..inspect.matrix import draw_matrix

    # Two kinds of pictures have no scale of their own, so texts lend theirs.
    towers = sorted({*named, "text"} if args.shares else named)
    options = {"device": device, "dtype": choose_dtype(args.dtype, device, choice), "quiet": args.quiet}
    model, processor = load_encoder(choice, modalities=towers, **options)
    sensors.adapt(processor)
    found = inputs.embedded(model, processor, sensors, batch_size=args.batch_size, quiet=args.quiet)
    kinds = [name for name, rows in found.items() for _ in rows]
    names = [display_names(inputs.named[name], name)[i] for name, rows in found.items() for i in rows]
    if len(kinds) < 2:
        raise InputError(f"{inputs.count - len(inputs.skipped)} of {inputs.count} inputs can be read, wanted two")
    rows = torch.cat([torch.stack(list(rows.values())) for rows in found.values() if rows]).cpu().float()
    values = rows @ rows.T  # (N, N)
    if args.shares:
        values = _shares(values, kinds, model)
    files = [inputs.files[name][i] for name, rows in found.items() for i in rows]
    title = f"{'shares' if args.shares else 'cosines'}, {choice.label}"
    save_picture(draw_matrix(values.numpy(), names, kinds, files, title), out, {"bind2gen": __version__})
    if args.json:
        told = {"picture": str(out), "inputs": names, "modalities": kinds, "model": choice.label}
        print(json.dumps(told | {"values": [[round(v, 4) if v == v else None for v in row] for row in values.tolist()],
                                 "skipped": inputs.skipped}))  # fmt: skip
    elif not args.quiet:
        print(out)
    return inputs.finished()


def _recognised(files: list[str]) -> dict[str, list[str]]:
    """Modality -> files, by what is in them.

    Raises:
        UsageError: what they hold does not say what they are.
    """
    if not files:
        return {}
    from ..store.contents import recognise

    found: dict[str, list[str]] = {}
    for file in files:
        kind = "sound" if file.startswith(EXAMPLE_PREFIX) else recognise(file).kind
        if kind not in BY_CONTENT:
            raise UsageError(f"{file}: wanted a sound, a picture or a film; say what else it is by --depth, --thermal, "
                             "--imu")  # fmt: skip
        found.setdefault(BY_CONTENT[kind], []).append(file)
    return found


def _shares(values: torch.Tensor, kinds: list[str], model: ImageBindModel) -> torch.Tensor:
    """(N, N) cosines to the softmax of each row over the columns of each kind but its own, which become NaN."""
    import torch

    from ..space.zero_shot import pair_scale

    shares = torch.full_like(values, torch.nan)
    places = {kind: torch.tensor([i for i, one in enumerate(kinds) if one == kind]) for kind in kinds}
    for first, rows in places.items():
        for second, columns in places.items():
            if first != second:
                logits = pair_scale(model, first, second) * values[rows[:, None], columns]
                shares[rows[:, None], columns] = logits.softmax(1)
    return shares
