"""``bind2gen embed``: inputs to embeddings in a file, one of each input or one of each window of it."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import __version__
from ..errors import InputError
from .arguments import UsageError, above_zero, add_inputs, add_models, add_output, given_inputs, whole
from .files import check_out_file, written
from .inputs import Inputs, read_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .names import display_names
from .reporting import tell_pace
from .sensors import add_sensors, sensor_options

SUFFIXES = (".npz", ".safetensors", ".json")  # of embedding_files.FORMATS, which imports numpy
TIMED = ("audio", "video", "imu")  # of timeline.KINDS, which imports torch
MAX_WORKERS = 1000


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "embed",
        help="write embeddings of sounds, pictures, texts, videos, depth, infrared, motion to a file",
        description="Write unit-norm embeddings, (N, D) float32 for each kind of input, with the names of the inputs. "
        "With --timeline one row a window, with its start and end in seconds.",
    )
    add_inputs(parser)
    endings = ", ".join(SUFFIXES)
    parser.add_argument(
        "--out", required=True, metavar="FILE", help=f"file to write: {endings}; - for standard output (JSON)"
    )
    parser.add_argument(
        "--workers", type=whole(0, MAX_WORKERS), metavar="N",
        help="processes that read files beside the one that encodes (default: none for less than 500 files, else one a "
        "processor, up to 8)",
    )  # fmt: skip
    group = parser.add_argument_group("long recordings")
    group.add_argument(
        "--timeline", action="store_true",
        help=f"one embedding a window of {', '.join(TIMED)}; read in pieces, so an hour takes no more memory",
    )  # fmt: skip
    group.add_argument("--hop", type=above_zero, metavar="S", help="seconds between windows (default: half a window)")
    group.add_argument("--window", type=above_zero, metavar="S", help="seconds of a window (default: the model's clip)")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, load the encoder alone, embed in batches or windows, write."""
    named = given_inputs(args)
    sensors = sensor_options(args, named)
    _check_timeline(args, named)
    inputs = read_inputs(named, keep_going=args.keep_going)
    out = check_out_file(args.out, SUFFIXES, args)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    workers, paces = _workers(args, inputs), {}
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    import torch

    from ..files.embeddings import EmbeddingSet, save_embeddings

    model, processor = load_encoder(choice, modalities=list(named), device=device, dtype=dtype, quiet=args.quiet)
    sensors.adapt(processor)
    names = {name: display_names(values, name) for name, values in inputs.named.items()}
    details = {"bind2gen": __version__, "model": choice.label}
    if args.timeline:
        from .timelines import embed_recordings

        embeddings = embed_recordings(model, processor, inputs, names, sensors, args, details)
    else:
        options = {"batch_size": args.batch_size, "quiet": args.quiet, "workers": workers, "paces": paces}
        found = inputs.embedded(model, processor, sensors, **options)
        kept = {name: rows for name, rows in found.items() if rows}
        names = {name: [names[name][i] for i in rows] for name, rows in kept.items()}
        if not kept:
            raise InputError(f"none of the {inputs.count} inputs can be read: {inputs.skipped[0]['reason']}")
        vectors = {name: torch.stack(list(rows.values())).cpu().numpy() for name, rows in kept.items()}
        embeddings = EmbeddingSet(vectors, names, details)
    with written(out, ".json") as temporary:
        save_embeddings(temporary, embeddings)
    if args.json:
        shapes = {name: {"inputs": names[name], "shape": list(x.shape)} for name, x in embeddings.vectors.items()}
        told = {"file": str(out), "model": choice.label, "bind2gen": __version__, "embeddings": shapes}
        print(json.dumps(told | {"skipped": inputs.skipped, "pace": {n: pace.figures() for n, pace in paces.items()}}))
    elif not args.quiet:
        print(out)
        tell_pace(paces, args)
    return inputs.finished()


def _workers(args: argparse.Namespace, inputs: Inputs) -> int:
    """How many; what they are begun by imports torch while this process does so, too."""
    from ..imagebind.processes import start_server, usual_workers

    files = 0 if args.timeline else sum(len(files) for name, files in inputs.files.items() if name != "text")
    if workers := usual_workers(files) if args.workers is None else args.workers:
        start_server()
    return workers


def _check_timeline(args: argparse.Namespace, named: dict[str, list[str]]) -> None:
    if args.timeline and (still := [name for name in named if name not in TIMED]):
        raise UsageError(f"--timeline: --{still[0]} has no time axis; give {', '.join(f'--{name}' for name in TIMED)}")
    if args.timeline and args.workers:
        raise UsageError("--workers: not with --timeline, which reads recordings one after another")
    if not args.timeline and (given := [name for name in ("hop", "window") if getattr(args, name) is not None]):
        raise UsageError(f"--{given[0]}: only with --timeline")
