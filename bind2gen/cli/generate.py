"""``bind2gen generate``: inputs to pictures."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..hosts.pictures import FAST_STEPS
from .again import Again, Recorder
from .arguments import (
    MAX_SEED,
    UsageError,
    add_adapter,
    add_denoising,
    add_inputs,
    add_models,
    add_output,
    add_unwanted,
    given_inputs,
    given_weights,
    weight,
    whole,
)
from .files import make_folder, plan_pictures, save_picture
from .hosts import (
    add_host,
    call_options,
    check_regions,
    choose_host,
    load_chosen,
    read_unwanted,
    region_masks,
    told_unwanted,
)
from .inputs import Inputs, read_inputs
from .loading import choose_device, choose_dtype
from .names import display_names
from .profiling import Profile, timed_steps
from .reporting import progress
from .seeds import SPREAD, first_seeds
from .sensors import add_sensors, sensor_options
from .sizes import add_size, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

    from ..pipelines.conditioning import ImageBindConditioning

MAX_NOISE_LEVEL = 999  # of the hosts' noise schedule
MAX_IMAGES = 1000


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "generate",
        help="make pictures from sounds, pictures, texts, videos, depth, infrared, motion",
        description="Make pictures of what is heard, seen, said or sensed. Several kinds of input are blended. "
        "A picture depends on its input and seed alone, not on what else is made beside it. Says what each input was "
        "taken for and how like it is (1: the very word), and warns where it is like nothing that the model knows.",
    )
    add_inputs(parser)
    _add_drawing(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE_OR_DIR",
        help="picture (.png .jpg .webp), folder for one picture an input, or - for standard output (PNG)",
    )
    add_models(parser, model_help="bundled name, pipeline folder or hub id; a host alone needs --imagebind")
    add_adapter(parser)
    add_host(parser, regions=True)
    add_sensors(parser)
    parser.add_argument(
        "--like", metavar="PNG",
        help="draw a picture of this command again, by what its text says; options given beside it replace its own",
    )  # fmt: skip
    parser.add_argument(
        "--keep-paths", action="store_true",
        help="write absolute paths into pictures as they were typed (default: without their folders, so that --like "
        "finds such files only here or beside the picture)",
    )  # fmt: skip
    parser.add_argument(
        "--profile", action="store_true",
        help="say where time and memory went, on stderr or in --json: starting, importing, loading, reading, encoding, "
        "each step, decoding, saving",
    )  # fmt: skip
    add_output(parser)
    parser.set_defaults(run=run, parser=parser)


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    """How pictures are drawn; one that is not given is left to the pipeline."""
    parser.add_argument(
        "--weight", nargs="+", action="extend", type=weight, default=[], metavar="MODALITY=X",
        help="weight in the blend, 1 where not given: --weight audio=0.7 text=0.3",
    )  # fmt: skip
    parser.add_argument("--prompt", default="", help="the host's own text prompt, for all pictures; the bundled model "
                        "reads none, its words are --text")  # fmt: skip
    parser.add_argument("--negative-prompt", metavar="PROMPT", help="what the picture should not show; as --prompt")
    add_unwanted(parser)
    parser.add_argument(
        "--seed",
        type=whole(0, MAX_SEED),
        default=0,
        metavar="N",
        help="of a single input's first picture, then N+1 ...; several inputs get seeds of their own, N "
        f"plus a number below {SPREAD} made of each file's bytes: --json and the pictures' metadata hold them",
    )
    add_denoising(parser)
    parser.add_argument(
        "--preset", choices=("fast",), help=f"fast: {FAST_STEPS} steps of DPM-Solver++ with noise; as like sounds "
        "as 20 with the bundled model, untried with others",
    )  # fmt: skip
    add_size(parser)
    parser.add_argument(
        "--num-images", type=whole(1, MAX_IMAGES), default=1, metavar="N", help="pictures of each input"
    )
    parser.add_argument(
        "--best-of", type=whole(1, MAX_IMAGES), default=1, metavar="N",
        help="draw N of each picture, with seeds one after the other, and keep the one that is nearest to its input "
        "when it is embedded itself",
    )  # fmt: skip
    parser.add_argument(
        "--noise-level",
        type=whole(0, MAX_NOISE_LEVEL),
        default=0,
        metavar="N",
        help="0..999, noise on the embedding: more variety",
    )


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked cheaply, load, encode, denoise and save batch by batch."""
    profile = Profile(on=args.profile)
    again = None if args.like is None else Again(args)
    args = args if again is None else again.args
    named = given_inputs(args)
    sensors = sensor_options(args, named)
    weights = given_weights(args.weight, named)
    largest = MAX_SEED - (args.num_images * args.best_of - 1) - (SPREAD if max(map(len, named.values())) > 1 else 0)
    if args.seed > largest:
        raise UsageError(f"--seed: wanted at most {largest} for so many pictures, got {args.seed}")
    inputs = read_inputs(named, keep_going=args.keep_going)
    # What pictures are named after and seeded by: with regions all inputs make one.
    sources = {name: values[:1] for name, values in inputs.files.items()} if args.region else inputs.files
    destination = plan_pictures(args.out, sources, args.num_images, args)
    choice = choose_host(args)
    check_regions(args, choice, inputs.count)
    unwanted = read_unwanted(args, choice)
    profile.lap("check")
    device = choose_device(args.device)
    profile.use(device)
    profile.lap("import torch")
    dtype = choose_dtype(args.dtype, device, choice)
    check_size(args, choice, at_once=args.batch_size, kept=args.batch_size, device=device, dtype=dtype)
    import torch

    from .understood import tell, understand

    profile.lap("import the rest")
    looks = ["image"] if args.best_of > 1 and "image" not in named else []
    pipe = load_chosen(
        choice, modalities=[*named, *looks, *unwanted.files], device=device, dtype=dtype, quiet=args.quiet
    )
    for name in [*looks, *unwanted.files]:
        pipe.imagebind.tower(name)  # as the inputs' own, refused before files are read
    if args.preset == "fast":
        from ..hosts.pictures.fast import few_steps

        fast = few_steps(pipe)["num_inference_steps"]
        args.steps = args.steps or fast
    sensors.adapt(pipe.processor)
    profile.lap("load")
    recorder = Recorder(args, pipe, list(named), again)
    profile.lap("fingerprint")
    for tower in pipe.imagebind.towers.values():
        profile.around(tower, "read", "encode")
    # One by one: what an embedding is must not depend on what else is drawn, not even in its last digit.
    found = inputs.embedded(pipe.imagebind, pipe.processor, sensors, batch_size=1, quiet=args.quiet)
    embeds, kept = inputs.placed(found) if args.region else inputs.blended(found)
    profile.lap("encode")
    understood = understand(pipe, choice, embeds)
    given = inputs.named if args.region else _rows(inputs.named, kept)
    tell(understood, given, model=choice.label, quiet=args.quiet)
    profile.lap("recognise")
    about = _about(args, pipe, choice.label, weights) | told_unwanted(unwanted) | recorder.shared
    seeds = first_seeds(sources, args.seed, kept)
    names = given if args.keep_paths else {name: display_names(values, name) for name, values in given.items()}
    files = inputs.files if args.region else _rows(inputs.files, kept)
    of_one = (lambda lists, i: lists) if args.region else _row
    recorder.inputs = [(of_one(names, i), of_one(files, i)) for i in range(len(seeds))]
    paths = [destination.paths[i] for i in kept]
    pictures = [
        # A single input is shared by all; named as it was given, so that an example stays one.
        {"file": str(path), "seed": seeds[i] + k, "inputs": of_one(names, i), "understood": of_one(understood, i)}
        for i, row in enumerate(paths)
        for k, path in zip(range(0, len(row) * args.best_of, args.best_of), row, strict=True)
    ]
    make_folder(destination.folder)
    if args.region:
        conditioning = torch.cat([pipe.condition({name: rows}) for name, rows in embeds.items()])[None]  # (1, S, D)
    else:
        conditioning = torch.cat([pipe.condition(row, weights) for row in _apart(embeds)])
    profile.lap("condition")
    flat = [path for row in paths for path in row]
    _draw(pipe, conditioning, args, unwanted, flat, pictures, about, recorder, profile)
    profile.show(quiet=args.json)
    if args.json:
        told = {"pictures": pictures, "skipped": inputs.skipped, "device": str(device)}
        print(json.dumps(told | about | profile.told()))
    elif not args.quiet:
        for picture in pictures:
            print(picture["file"])
    return inputs.finished()


def _rows(lists: Mapping[str, Sequence[Any]], kept: Sequence[int]) -> dict[str, list[Any]]:
    """Those of the inputs that are kept; what all share stays."""
    count = max(map(len, lists.values()))
    return {name: [values[i] for i in kept] if len(values) == count else list(values) for name, values in lists.items()}


def _apart(embeds: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Embeddings (N, D) as N times (1, D), for the same reason that they are made one by one."""
    count = max(map(len, embeds.values()))
    return [
        {name: rows[i : i + 1] if len(rows) == count else rows for name, rows in embeds.items()} for i in range(count)
    ]


def _row(lists: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """What belongs to one picture's inputs."""
    return {name: values[number % len(values)] for name, values in lists.items()}


def _draw(
    pipe: ImageBindConditioning,
    conditioning: torch.Tensor,
    args: argparse.Namespace,
    unwanted: Inputs,
    paths: list[Path],
    pictures: list[dict[str, Any]],
    about: dict[str, Any],
    recorder: Recorder,
    profile: Profile,
) -> None:
    """Denoise ``batch_size`` pictures at a time and save each batch before the next."""
    from ..pipelines.drawing import draw

    of, drawn, done, (place, beside) = args.best_of, [], 0, recorder.batch
    rows = conditioning.repeat_interleave(args.num_images * of * beside, dim=0)
    at_once = max(args.batch_size, beside)
    own = {"noise_level": args.noise_level or None} | region_masks(args)  # not every host has these
    with progress("denoise", total=None, quiet=args.quiet) as bar:
        options = call_options(args, pipe, unwanted, bar, -(-len(rows) // at_once)) | own
        if "callback_on_step_end" in options:
            options["callback_on_step_end"] = timed_steps(profile, options["callback_on_step_end"])
        seeds = [one["seed"] + k for one in pictures for k in range(of)] * beside
        waiting = iter(zip(rows[:: of * beside], paths, pictures, strict=True))
        for images in draw(pipe, rows, seeds, batch_size=at_once, **options):
            profile.lap("decode")
            drawn += images if beside == 1 else [images[place]]
            while len(drawn) >= of:
                row, path, picture = next(waiting)
                chosen = 0
                if of > 1:
                    (chosen,), (cosine,) = pipe.nearest(drawn[:of], row[None], of)
                    picture |= {"seed": picture["seed"] + chosen, "roundtrip": round(float(cosine), 3)}
                picture |= recorder.told(
                    done // (of * args.num_images), picture["seed"], done + chosen, at_once, len(rows)
                )
                save_picture(
                    drawn[chosen], path, about | {key: value for key, value in picture.items() if key != "file"}
                )
                drawn, done = drawn[of:], done + of
                profile.lap("save")


def _about(
    args: argparse.Namespace, pipe: ImageBindConditioning, label: str, weights: dict[str, float] | None
) -> dict[str, Any]:
    """What all pictures of a run share; written into PNG files and the JSON document."""
    defaults = pipe.defaults
    return {
        "bind2gen": __version__,
        "model": label,
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt or "",
        "weights": weights or {},
        "steps": args.steps or defaults["num_inference_steps"],
        "guidance": defaults["guidance_scale"] if args.guidance is None else args.guidance,
        "noise_level": args.noise_level,
        **({} if args.region is None else {"regions": args.region}),
    } | ({} if args.ip_adapter_scale is None else {"ip_adapter_scale": args.ip_adapter_scale})
