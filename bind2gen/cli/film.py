"""``bind2gen film``: a sound to a film that follows it, with the sound as its track."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..files.films import FORMATS, contact_sheet, save_film
from .arguments import (
    MAX_SEED,
    UsageError,
    above_zero,
    add_adapter,
    add_denoising,
    add_models,
    add_output,
    add_unwanted,
    whole,
)
from .files import PICTURE_SUFFIXES, check_out_file, save_picture, written
from .hosts import add_host, call_options, choose_host, load_chosen, read_unwanted, told_unwanted
from .inputs import Inputs, read_inputs
from .loading import choose_device, choose_dtype
from .names import display_names
from .reporting import progress
from .sizes import add_size, check_size

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..preprocess.waveform import Waveform

STRENGTHS = ("constant", "loudness", "onsets")  # of pipelines.film, which imports torch
MAX_FRAMES = 2000


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "film",
        help="make a film that follows a sound",
        description="Make a film of what is heard, moment by moment, with the sound as its track. A host that draws "
        "pictures draws every frame from the same noise; AnimateDiff draws all at once, so that things move; Stable "
        "Video Diffusion goes on from --begin-with.",
    )
    parser.add_argument(
        "--audio", nargs="+", required=True, metavar="FILE",
        help="sound file, or example:NAME; several are heard one after the other",
    )  # fmt: skip
    time = parser.add_argument_group("time")
    time.add_argument("--fps", type=above_zero, default=8.0, metavar="N", help="frames a second")
    time.add_argument(
        "--window", type=above_zero, metavar="S", help="seconds heard at a time (default: 1, or the model's clip)"
    )
    time.add_argument("--hop", type=above_zero, default=0.5, metavar="S", help="seconds between windows")
    time.add_argument("--smooth", type=above_zero, metavar="S", help="seconds to smooth over (default: half a hop)")
    time.add_argument("--strength", choices=STRENGTHS, default="constant",
                      help="what the weight of AnimateDiff's IP-Adapter follows, frame by frame")  # fmt: skip
    parser.add_argument("--negative-prompt", metavar="PROMPT", help="what the film should not show; as --prompt")
    add_film(parser)
    parser.set_defaults(run=run)


def add_film(parser: argparse.ArgumentParser) -> None:
    """What every film is drawn with, and where it goes."""
    parser.add_argument("--out", required=True, metavar="FILE", help=f"film to write: {', '.join(FORMATS)}; - for MP4")
    parser.add_argument("--sheet", metavar="FILE", help="picture of all frames, side by side, to write beside it")
    parser.add_argument("--prompt", default="", help="the host's own text prompt; the bundled model reads none")
    parser.add_argument("--seed", type=whole(0, MAX_SEED), default=0, metavar="N", help="of the noise of all frames")
    add_unwanted(parser)
    add_denoising(parser)
    add_size(parser)
    add_models(parser, model_help="bundled name, pipeline folder or hub id; a host alone needs --imagebind")
    add_adapter(parser)
    add_host(parser)
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked cheaply, load, hear, denoise, write."""
    inputs = read_inputs({"audio": args.audio})
    out = check_film(args)
    choice = choose_host(args, media="")
    unwanted = read_unwanted(args, choice)
    if args.strength != "constant" and not (choice.host and choice.host.own_frames):
        raise UsageError(f"--strength {args.strength}: it goes with --host FOLDER of an AnimateDiff")
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    sound = _heard(inputs)
    count = max(1, round(sound.seconds * args.fps))
    if count > MAX_FRAMES:
        raise UsageError(f"--fps {args.fps:g}: {count} frames of {sound.seconds:.0f} s, wanted at most {MAX_FRAMES}")
    at_once = count if choice.host and choice.host.own_frames else args.batch_size
    check_size(args, choice, at_once=at_once, kept=count, device=device, dtype=dtype)
    from ..pipelines.film import draw_film, frame_scales, hear  # imports torch

    pipe = load_chosen(choice, modalities=["audio", *unwanted.files], device=device, dtype=dtype, quiet=args.quiet)
    rows = hear(pipe, sound, count, fps=args.fps, window=args.window, hop=args.hop, smooth=args.smooth)
    batches = 1 if choice.host and choice.host.own_frames else -(-count // args.batch_size)
    own = {"fps": round(args.fps)} if "fps" in pipe.defaults else {}  # Stable Video Diffusion reads it
    with progress("denoise", total=None, quiet=args.quiet) as bar:
        given = call_options(args, pipe, unwanted, bar, batches) | own
        scales = frame_scales(args.strength, sound, count, args.fps)
        frames = draw_film(pipe, rows, seed=args.seed, scales=scales, batch_size=args.batch_size, **given)
    about = {
        "bind2gen": __version__, "model": choice.label, "audio": display_names(inputs.named["audio"], "audio"),
        "prompt": args.prompt, "seed": args.seed, "fps": args.fps, "frames": len(frames), "strength": args.strength,
    } | told_unwanted(unwanted)  # fmt: skip
    track = (sound.samples.numpy(), sound.sample_rate)
    write_film(args, out, frames, about, sound=track)
    if args.json:
        print(json.dumps({"film": str(out), "seconds": len(frames) / args.fps, "device": str(device), **about}))
    elif not args.quiet:
        print(out)
    return inputs.finished()


def check_film(args: argparse.Namespace) -> Path:
    """Where the film goes; it and its sheet can be written, or as :func:`check_out_file`."""
    if args.sheet is not None:
        check_out_file(args.sheet, PICTURE_SUFFIXES, args)
    return check_out_file(args.out, tuple(FORMATS), args)


def write_film(args: argparse.Namespace, out: Path, frames: list[Image], about: dict[str, Any], **sound: Any) -> None:
    """The film, with what it is of in its comment, and its sheet."""
    with written(out, next(iter(FORMATS))) as temporary:
        comment = f"bind2gen {__version__} {json.dumps(about)}"
        save_film(temporary, frames, fps=args.fps, comment=comment, **sound)
    if args.sheet is not None:
        save_picture(contact_sheet(frames), Path(args.sheet), about)


def _heard(inputs: Inputs) -> Waveform:
    """All sounds, one after the other; of several the channels' mean, at the highest rate."""
    import torch

    from ..preprocess.audio import load, resample
    from ..preprocess.waveform import Waveform

    sounds = [load(file) for file in inputs.files["audio"]]
    if len(sounds) == 1:
        return sounds[0]
    rate = max(sound.sample_rate for sound in sounds)
    parts = [resample(sound.samples.mean(0, keepdim=True), sound.sample_rate, rate) for sound in sounds]
    return Waveform(torch.cat(parts, dim=1), rate, ", ".join(sound.name for sound in sounds))
