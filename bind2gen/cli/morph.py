"""``bind2gen morph``: a film from one thing to another, along the sphere of embeddings."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import __version__
from .arguments import (
    INPUT_MODALITIES,
    UsageError,
    above_zero,
    whole,
)
from .film import MAX_FRAMES, add_film, check_film, write_film
from .hosts import call_options, choose_host, load_chosen, read_unwanted, told_unwanted
from .inputs import read_inputs
from .loading import choose_device, choose_dtype
from .names import display_names
from .reporting import progress
from .sizes import check_size

ENDS = ("from", "to")


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "morph",
        help="make a film from one thing to another",
        description="Slide from one thing to another along the sphere of embeddings, every frame drawn from the same "
        "noise. Several kinds of input at one end are blended.",
    )
    for end in ENDS:
        group = parser.add_argument_group(f"where it {'begins' if end == 'from' else 'ends'}")
        for name in INPUT_MODALITIES:
            metavar = "TEXT" if name == "text" else "FILE"
            group.add_argument(f"--{end}-{name}", metavar=metavar, help="example:NAME too" if name == "audio" else None)
    parser.add_argument("--frames", type=whole(2, MAX_FRAMES), default=48, metavar="N", help="from end to end")
    parser.add_argument("--fps", type=above_zero, default=12.0, metavar="N", help="frames a second")
    parser.add_argument("--back", action="store_true", help="and back again")
    add_film(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, load, encode both ends, draw what lies between, write."""
    ends = [
        {name: [value] for name in INPUT_MODALITIES if (value := getattr(args, f"{end}_{name}")) is not None}
        for end in ENDS
    ]
    for end, given in zip(ENDS, ends, strict=True):
        if not given:
            raise UsageError(f"nothing to go {end}: give --{end}-audio, --{end}-text, --{end}-image or another")
    inputs = [read_inputs(given) for given in ends]
    out = check_film(args)
    choice = choose_host(args)
    unwanted = read_unwanted(args, choice)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    check_size(args, choice, at_once=args.batch_size, kept=args.frames, device=device, dtype=dtype)
    import torch

    from ..pipelines.film import draw_film
    from ..space.arithmetic import match_norm, normalize, slerp

    towers = sorted({name for given in ends for name in given} | unwanted.files.keys())
    pipe = load_chosen(choice, modalities=towers, device=device, dtype=dtype, quiet=args.quiet)
    first, last = (
        normalize(pipe.condition(pipe.embed(**{name: files[0] for name, files in given.files.items()})))
        for given in inputs
    )
    way = torch.linspace(0, 1, args.frames, device=first.device)[:, None]
    rows = match_norm(slerp(first, last, way), pipe.host_norm)
    with progress("denoise", total=None, quiet=args.quiet) as bar:
        options = call_options(args, pipe, unwanted, bar, -(-len(rows) // args.batch_size))
        frames = draw_film(pipe, rows, seed=args.seed, batch_size=args.batch_size, **options)
    frames += frames[-2:0:-1] if args.back else []
    told = {
        end: {name: display_names(values, name)[0] for name, values in one.named.items()}
        for end, one in zip(ENDS, inputs, strict=True)
    }
    about = {"bind2gen": __version__, "model": choice.label, **told, "prompt": args.prompt, "seed": args.seed,
             "fps": args.fps, "frames": len(frames)} | told_unwanted(unwanted)  # fmt: skip
    write_film(args, out, frames, about)
    if args.json:
        print(json.dumps({"film": str(out), "device": str(device), **about}))
    elif not args.quiet:
        print(out)
    return 0
