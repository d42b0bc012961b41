"""``bind2gen morph``: a film from one thing to another, along the sphere of embeddings."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .. import __version__
from ..files.films import FORMATS, save_film
from .arguments import (
    INPUT_MODALITIES,
    MAX_SEED,
    UsageError,
    above_zero,
    add_adapter,
    add_denoising,
    add_models,
    add_output,
    whole,
)
from .files import check_out_file, written
from .film import MAX_FRAMES
from .hosts import add_host, choose_host, load_bound
from .inputs import read_inputs
from .loading import choose_device, choose_dtype, load_pipeline
from .names import display_names
from .reporting import progress, step_counter

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
    parser.add_argument("--out", required=True, metavar="FILE", help=f"film to write: {', '.join(FORMATS)}; - for MP4")
    parser.add_argument("--frames", type=whole(2, MAX_FRAMES), default=48, metavar="N", help="from end to end")
    parser.add_argument("--fps", type=above_zero, default=12.0, metavar="N", help="frames a second")
    parser.add_argument("--back", action="store_true", help="and back again")
    parser.add_argument("--prompt", default="", help="the host's own text prompt; the bundled model reads none")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the noise of all frames")
    add_denoising(parser)
    add_models(parser, model_help="bundled name, pipeline folder or hub id; a host alone needs --imagebind")
    add_adapter(parser)
    add_host(parser)
    add_output(parser)
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
    out = check_out_file(args.out, tuple(FORMATS), args)
    choice = choose_host(args)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    import torch

    from ..pipelines.film import draw_film
    from ..space.arithmetic import match_norm, normalize, slerp

    load = load_bound if choice.host else load_pipeline
    towers = sorted({name for given in ends for name in given})
    pipe = load(choice, modalities=towers, device=device, dtype=dtype, quiet=args.quiet)
    first, last = (
        normalize(pipe.condition(pipe.embed(**{name: files[0] for name, files in given.files.items()})))
        for given in inputs
    )
    way = torch.linspace(0, 1, args.frames, device=first.device)[:, None]
    rows = match_norm(slerp(first, last, way), pipe.host_norm)
    options = {"num_inference_steps": args.steps, "guidance_scale": args.guidance, "prompt": args.prompt or None,
               "scale": args.ip_adapter_scale}  # fmt: skip
    with progress("denoise", total=None, quiet=args.quiet) as bar:
        if "callback_on_step_end" in pipe.defaults:
            options["callback_on_step_end"] = step_counter(bar, -(-len(rows) // args.batch_size))
        given = {name: value for name, value in options.items() if value is not None}
        frames = draw_film(pipe, rows, seed=args.seed, batch_size=args.batch_size, **given)
    frames += frames[-2:0:-1] if args.back else []
    told = {
        end: {name: display_names(values, name)[0] for name, values in one.named.items()}
        for end, one in zip(ENDS, inputs, strict=True)
    }
    about = {"bind2gen": __version__, "model": choice.label, **told, "prompt": args.prompt, "seed": args.seed,
             "fps": args.fps, "frames": len(frames)}  # fmt: skip
    with written(out, next(iter(FORMATS))) as temporary:
        save_film(temporary, frames, fps=args.fps, comment=f"bind2gen {__version__}")
    if args.json:
        print(json.dumps({"film": str(out), "device": str(device), **about}))
    elif not args.quiet:
        print(out)
    return 0
