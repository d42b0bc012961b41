"""``bind2gen generate``: inputs to pictures."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..atomic import written_whole
from ..errors import Bind2GenError
from .arguments import (
    MAX_SEED,
    MAX_STEPS,
    UsageError,
    add_inputs,
    add_models,
    add_output,
    finite,
    given_inputs,
    weight,
    whole,
)  # fmt: skip
from .files import Destination, plan_pictures, resolve_inputs
from .loading import choose_device, choose_dtype, choose_model, load_pipeline
from .names import display_names
from .reporting import progress
from .seeds import SPREAD, first_seeds
from .sensors import SensorOptions, add_sensors, sensor_options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch
    from PIL.Image import Image

    from ..pipeline import ImageBindUnCLIPPipeline

MAX_NOISE_LEVEL = 999  # of the hosts' noise schedule
MAX_IMAGES = 1000
JPEG_QUALITY = 95  # of 100


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
        help="picture (.png .jpg .webp), or folder for one picture an input",
    )
    add_models(
        parser, model_help="bundled name, pipeline folder or hub id; a host alone needs --imagebind (default: mini)"
    )
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    """How pictures are drawn; one that is not given is left to the pipeline."""
    parser.add_argument(
        "--weight", nargs="+", action="extend", type=weight, default=[], metavar="MODALITY=X",
        help="weight in the blend, 1 where not given: --weight audio=0.7 text=0.3",
    )  # fmt: skip
    parser.add_argument("--prompt", default="", help="the host's own text prompt, for all pictures")
    parser.add_argument("--negative-prompt", metavar="PROMPT", help="what the picture should not show")
    parser.add_argument(
        "--seed",
        type=whole(0, MAX_SEED),
        default=0,
        metavar="N",
        help="of a single input's first picture (default: 0), then N+1 ...; several inputs get seeds of their own, N "
        f"plus a number below {SPREAD} made of each file's bytes: --json and the pictures' metadata hold them",
    )
    parser.add_argument(
        "--steps", type=whole(1, MAX_STEPS), metavar="N", help="denoising steps (default: the pipeline's)"
    )
    parser.add_argument(
        "--guidance", type=finite, metavar="G", help="guidance scale; 1 or less: none (default: the model's)"
    )
    parser.add_argument(
        "--num-images", type=whole(1, MAX_IMAGES), default=1, metavar="N", help="pictures of each input"
    )
    parser.add_argument(
        "--noise-level",
        type=whole(0, MAX_NOISE_LEVEL),
        default=0,
        metavar="N",
        help="0..999, noise on the embedding: more variety",
    )


def run(args: argparse.Namespace) -> None:
    """Check everything that can be checked cheaply, load, encode, denoise and save batch by batch."""
    named = given_inputs(args)
    sensors = sensor_options(args, named)
    weights = _weights(args.weight, named)
    largest = MAX_SEED - (args.num_images - 1) - (SPREAD if max(map(len, named.values())) > 1 else 0)
    if args.seed > largest:
        raise UsageError(f"--seed: wanted at most {largest} for so many pictures, got {args.seed}")
    inputs = resolve_inputs(named)
    destination = plan_pictures(args.out, inputs, args.num_images)
    choice = choose_model(args.model, args.imagebind)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    from .understood import tell, understand  # imports torch

    pipe = load_pipeline(choice, modalities=list(inputs), device=device, dtype=dtype, quiet=args.quiet)
    sensors.adapt(pipe.processor)
    embeds = _encode(pipe, inputs, sensors, batch_size=args.batch_size, quiet=args.quiet)
    understood = understand(pipe, choice, embeds)
    tell(understood, named, model=choice.label, quiet=args.quiet)
    about = _about(args, pipe, choice.label, weights)
    seeds = first_seeds(inputs, args.seed)
    names = {name: display_names(values, name) for name, values in named.items()}
    pictures = [
        # A single input is shared by all; named as it was given, so that an example stays one.
        {"file": str(path), "seed": seeds[i] + k, "inputs": _row(names, i), "understood": _row(understood, i)}
        for i, row in enumerate(destination.paths)
        for k, path in enumerate(row)
    ]
    _draw(pipe, pipe.condition(embeds, weights), args, destination, pictures, about)
    if args.json:
        print(json.dumps({"pictures": pictures, "device": str(device), **about}))
    elif not args.quiet:
        for picture in pictures:
            print(picture["file"])


def _row(lists: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """What belongs to one picture's inputs."""
    return {name: values[number % len(values)] for name, values in lists.items()}


def _weights(pairs: list[tuple[str, float]], inputs: dict[str, list[str]]) -> dict[str, float] | None:
    weights = dict(pairs)
    if len(weights) < len(pairs):
        raise UsageError("--weight: the same kind of input is named twice")
    if unknown := [name for name in weights if name not in inputs]:
        raise UsageError(f"--weight {unknown[0]}=...: no --{unknown[0]} is given")
    if weights and max(weights.get(name, 1.0) for name in inputs) <= 0:
        raise UsageError("--weight: no weight is above zero; give at least one kind of input a weight")
    return weights or None


def _encode(
    pipe: ImageBindUnCLIPPipeline,
    inputs: dict[str, list[str]],
    sensors: SensorOptions,
    *,
    batch_size: int,
    quiet: bool,
) -> dict[str, torch.Tensor]:
    """Embeddings of all inputs, (N, D) of each kind, in bounded batches; one that is shared is encoded once."""
    import torch

    embeds: dict[str, list[torch.Tensor]] = {name: [] for name in inputs}
    with progress("encode", total=sum(map(len, inputs.values())), quiet=quiet) as bar:
        for name, values in inputs.items():
            pipe.imagebind.tower(name)  # refuses a modality that the model does not have before reading files
            for start in range(0, len(values), batch_size):
                batch = [sensors.load(name, value, pipe.processor) for value in values[start : start + batch_size]]
                embeds[name].append(pipe.embed(**{name: batch})[name])
                bar.update(len(batch))
    return {name: torch.cat(parts) for name, parts in embeds.items()}


def _draw(
    pipe: ImageBindUnCLIPPipeline,
    conditioning: torch.Tensor,
    args: argparse.Namespace,
    destination: Destination,
    pictures: list[dict[str, Any]],
    about: dict[str, Any],
) -> None:
    """Denoise ``batch_size`` pictures at a time and save each batch before the next."""
    import torch

    rows = conditioning.repeat_interleave(args.num_images, dim=0)
    paths = [path for row in destination.paths for path in row]
    options = {
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
        "negative_prompt": args.negative_prompt,
    }
    given = {name: value for name, value in options.items() if value is not None}
    _make_folder(destination.folder)
    batches = -(-len(rows) // args.batch_size)
    with progress("denoise", total=None, quiet=args.quiet) as bar:

        def count(pipe: Any, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
            bar.total = batches * len(pipe.scheduler.timesteps)  # schedulers may take more steps than asked for
            bar.update()
            return {}

        for start in range(0, len(rows), args.batch_size):
            part = slice(start, start + args.batch_size)
            # On the CPU, so that a seed starts from the same noise on every device.
            generators = [torch.Generator().manual_seed(picture["seed"]) for picture in pictures[part]]
            images = pipe(
                image_embeds=rows[part], rescale_embeds=False, prompt=args.prompt, noise_level=args.noise_level,
                generator=generators, output_type="pil", callback_on_step_end=count, **given,
            ).images  # fmt: skip
            for image, path, picture in zip(images, paths[part], pictures[part], strict=True):
                _save(image, path, about | {key: value for key, value in picture.items() if key != "file"})


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Bind2GenError(f"--out {folder}: cannot be made ({error.strerror})") from error


def _about(args: argparse.Namespace, pipe: Any, label: str, weights: dict[str, float] | None) -> dict[str, Any]:
    """What all pictures of a run share; written into PNG files and the JSON document."""
    default_steps = inspect.signature(type(pipe).__call__).parameters["num_inference_steps"].default
    return {
        "bind2gen": __version__,
        "model": label,
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt or "",
        "weights": weights or {},
        "steps": args.steps or default_steps,
        "guidance": pipe.config.guidance_scale if args.guidance is None else args.guidance,
        "noise_level": args.noise_level,
    }


def _save(image: Image, path: Path, metadata: dict[str, Any]) -> None:
    """Write a picture whole; PNG files carry the metadata as text, one chunk a key."""
    options: dict[str, Any] = {"quality": JPEG_QUALITY}
    if path.suffix.lower() == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Software", f"bind2gen {__version__}")
        for key, value in metadata.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            info.add_itxt(key, text.encode("utf-8", "replace").decode())
        options = {"pnginfo": info}
    with written_whole(path) as temporary:
        image.save(temporary, **options)
