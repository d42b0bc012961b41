"""``bind2gen generate --host``: any pipeline of diffusers that has a slot, by way of :func:`bind2gen.bind`."""

from __future__ import annotations

import argparse
import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import HostError
from ..files.hub import pipeline_index
from ..hosts.pictures import FIRST_FRAME, IP_ADAPTER_FILE, NOT_GUIDED
from .arguments import DEFAULT_MODEL, UsageError, above_zero, finite, given_unwanted, option_of
from .inputs import Inputs, check_file, read_inputs
from .loading import ModelChoice, choose_model, load_pipeline, one_reason
from .names import display_names
from .reporting import progress, quiet_models, step_counter
from .sizes import size_options

if TYPE_CHECKING:
    import torch
    from tqdm import tqdm

    from ..hosts.pictures.contract import Slot
    from ..pipelines.binding import BoundPipeline
    from ..pipelines.conditioning import ImageBindConditioning

MASK_SIDE = 256  # of regions' masks, which the host brings to its own size
OF_HOSTS = ("ip_adapter", "ip_adapter_scale", "region", "begin_with", "steer")  # options that go with --host alone


def add_generator(parser: argparse.ArgumentParser, option: str = "--host") -> Any:
    """``--host``, or what it is called here, and ``--ip-adapter``; the group that they are in."""
    group = parser.add_argument_group("another host", "instead of --model, with --imagebind")
    group.add_argument(option, metavar="DIR", help="folder of a pipeline of diffusers, of a kind that `info` lists")
    group.add_argument(
        "--ip-adapter", metavar="FILE", help=f"its IP-Adapter (default: {IP_ADAPTER_FILE} in the folder)"
    )
    return group


def add_host(parser: argparse.ArgumentParser, *, regions: bool = False) -> None:
    """``--host`` and all that goes with it."""
    group = add_generator(parser)
    group.add_argument("--ip-adapter-scale", type=finite, metavar="X", help="its weight beside the prompt (default: 1)")
    group.add_argument(
        "--steer", nargs="?", type=above_zero, const=True, metavar="STRENGTH",
        help="no slot, but a look at what is about to be drawn, at each step: for pipelines that have none; slow",
    )  # fmt: skip
    group.add_argument("--begin-with", metavar="FILE", help="picture that the host begins with, or its depth hint")
    if regions:
        group.add_argument(
            "--region", nargs="+", type=_region, metavar="X0,Y0,X1,Y1",
            help="all inputs into one picture, each where it counts: shares of width and height, one an input, in the "
            "order audio, image, text ... (IP-Adapter)",
        )  # fmt: skip


def _region(text: str) -> tuple[float, ...]:
    """Left, top, right and bottom, as shares of a picture."""
    try:
        box = tuple(float(part) for part in text.split(","))
        left, top, right, bottom = box
    except ValueError:
        box = ()
    if not box or not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise argparse.ArgumentTypeError(f"wanted X0,Y0,X1,Y1 with 0 <= X0 < X1 <= 1, and so Y, got {text!r}")
    return box


def check_regions(args: argparse.Namespace, choice: ModelChoice, count: int) -> None:
    """``--region`` fits ``count`` inputs and the host.

    Raises:
        UsageError: it does not.
    """
    if args.region is None:
        return
    if not choice.host or "masks" not in inspect.signature(choice.host.conditioned).parameters:
        raise UsageError("--region: it goes with --host FOLDER of an IP-Adapter")
    if len(args.region) != count:
        raise UsageError(f"--region: wanted {count}, one an input, got {len(args.region)}")
    if args.weight or args.best_of > 1:
        raise UsageError("--region: neither --weight nor --best-of go with it")


def region_masks(args: argparse.Namespace) -> dict[str, Any]:
    """The argument by which hosts take regions; empty without any."""
    if args.region is None:
        return {}
    import numpy as np

    masks = []
    for left, top, right, bottom in args.region:
        mask = np.zeros((MASK_SIDE, MASK_SIDE), np.float32)
        mask[round(top * MASK_SIDE) : round(bottom * MASK_SIDE), round(left * MASK_SIDE) : round(right * MASK_SIDE)] = 1
        masks.append(mask)
    return {"masks": masks}


def choose_host(args: argparse.Namespace, *, media: str = "image", option: str = "--host") -> ModelChoice:
    """Find out what ``--host`` and ``--ip-adapter`` name, or ``--model``, before any weights are read.

    Args:
        media: a host that makes something else is refused; empty takes any.
        option: by which ``args.host`` was given.

    Raises:
        UsageError: options that do not go together, or one is missing.
        Bind2GenError: there is no such file or folder, or no host in it.
    """
    if args.host is None:
        if given := [option_of(n) for n in OF_HOSTS if getattr(args, n, None) is not None]:
            raise UsageError(f"{', '.join(given)}: they go with {option} FOLDER")
        return choose_model(args.model, args.imagebind, adapter=args.adapter)
    if args.model != DEFAULT_MODEL:
        raise UsageError(f"{option} and --model: give one of the two")
    choice = choose_model(args.host, args.imagebind, adapter=args.adapter, option=option)
    from ..hosts.pictures.contract import saved_host  # imports torch and diffusers
    from ..hosts.pictures.steering import Steering

    with one_reason(choice.source):
        host = Steering() if args.steer else saved_host(choice.source)
    slot = host.SLOTS[0]
    if media and slot.media != media:
        raise UsageError(f"{option} {args.host}: {slot.name} makes films; bind2gen film takes it")
    if args.prompt and not slot.prompt:
        raise UsageError(f"--prompt: {slot.name} reads none; words go in by --text")
    if args.begin_with is not None:
        check_file(args.begin_with, "image")
    elif needs := _begins_with(choice.source, slot):
        raise UsageError(f"{option} {args.host}: {slot.name} needs {needs}: --begin-with FILE")
    if not host.file:
        if args.ip_adapter is not None or args.ip_adapter_scale is not None:
            raise UsageError(f"--ip-adapter and --ip-adapter-scale: {slot.name} has none")
        return replace(choice, host=host)
    file = Path(args.ip_adapter or Path(choice.source) / host.file)
    if args.ip_adapter is None and not file.is_file():
        raise UsageError(f"{option} {args.host}: add --ip-adapter FILE, or --steer to do without")
    if not file.is_file():
        raise HostError(f"--ip-adapter {args.ip_adapter}: no such file")
    name, _, encoder = choice.label.partition(" + ")
    return replace(choice, label=f"{name} + {file.stem} + {encoder}", host=host, ip_adapter=str(file))


def _begins_with(source: str, slot: Slot) -> str:
    """The picture that the pipeline of a folder cannot begin without; empty where there is none."""
    import diffusers

    kind = getattr(diffusers, str((pipeline_index(source) or {}).get("_class_name")), object)
    hinted = "hint" in inspect.signature(kind.__call__).parameters
    return FIRST_FRAME if slot.needs == FIRST_FRAME else "a depth hint" if hinted else ""


def read_unwanted(args: argparse.Namespace, choice: ModelChoice) -> Inputs:
    """What ``--not-audio`` and the like name, which is to be guided away from; as of :func:`read_inputs`.

    Raises:
        UsageError: nothing is, or the host has learned itself from what.
    """
    given = given_unwanted(args)
    options = ", ".join(f"--not-{name}" for name in given)
    if given and not args.steer and args.guidance is not None and args.guidance <= 1:
        raise UsageError(NOT_GUIDED.format(options, "--guidance"))
    if given and choice.host and (slot := choice.host.SLOTS[0]).negative == "internal":
        raise UsageError(f"{options}: {slot.name} has learned what to be guided away from, and takes nothing else")
    return read_inputs(given)


def _negative(pipe: ImageBindConditioning, unwanted: Inputs) -> torch.Tensor | None:
    """(1, D): the middle of all that is not meant."""
    if not unwanted.files:
        return None
    import torch

    from ..space.arithmetic import match_norm

    rows = [pipe.condition(pipe.embed(**{name: files})) for name, files in unwanted.files.items()]
    return match_norm(torch.cat(rows).mean(0, keepdim=True), pipe.host_norm)


def told_unwanted(unwanted: Inputs) -> dict[str, Any]:
    """What was not meant, by the names that it was given by; for JSON and the pictures' metadata."""
    named = {name: display_names(values, name) for name, values in unwanted.named.items()}
    return {"not": named} if named else {}


def load_chosen(choice: ModelChoice, **options: Any) -> ImageBindConditioning:
    """What :func:`choose_host` found, on its device; arguments as of :func:`load_bound`."""
    return (load_bound if choice.host else load_pipeline)(choice, **options)


def load_bound(
    choice: ModelChoice, *, modalities: list[str], device: torch.device, dtype: torch.dtype, quiet: bool
) -> BoundPipeline:
    """The pipeline with ImageBind in front, on its device; its own progress bar is off."""
    with quiet_models(quiet=quiet), progress("load", total=3, quiet=quiet) as bar:
        from ..hosts.pictures.steering import Steering
        from ..imagebind.loading import load_config
        from ..pipelines.binding import bind
        from ..pipelines.parts import load_adapter

        bar.update()
        adapter = None if choice.adapter is None else load_adapter(choice.adapter)
        width = load_config(choice.imagebind).embed_dim if adapter is None else adapter.width
        own = {} if choice.ip_adapter is None else {"file": choice.ip_adapter}
        with one_reason(choice.source):
            pipe = choice.host.load(choice.source, embed_dim=width, dtype=dtype, **own)
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        bar.update()
        own = {"modalities": modalities, "dtype": dtype, "steer": isinstance(choice.host, Steering)}
        bound = bind(pipe, imagebind=choice.imagebind, adapter=adapter, **own)
        bar.update()
    return bound


def begun_with(args: argparse.Namespace, pipe: ImageBindConditioning) -> dict[str, Any]:
    """What ``--begin-with`` names, as the argument by which the pipeline takes a picture of its own."""
    if args.begin_with is None:
        return {}
    from ..preprocess.image import load

    picture = load(args.begin_with)
    if "hint" in pipe.defaults:
        return {"hint": picture}
    if "image" in pipe.defaults:
        return {"host": {"image": picture}}
    raise UsageError(f"--begin-with: {pipe.slot.name} begins with nothing of its own")


def call_options(
    args: argparse.Namespace, pipe: ImageBindConditioning, unwanted: Inputs, bar: tqdm, batches: int
) -> dict[str, Any]:
    """What was said of drawing, as arguments of the call; the steps of all ``batches`` count on ``bar``."""
    options = {
        "negative": _negative(pipe, unwanted),
        "prompt": args.prompt or None,  # not every host reads words
        "negative_prompt": getattr(args, "negative_prompt", None),
        "num_inference_steps": args.steps,
        "guidance_scale": args.guidance,
        "scale": args.ip_adapter_scale,
        "strength": None if args.steer is True else args.steer,
        "callback_on_step_end": step_counter(bar, batches) if "callback_on_step_end" in pipe.defaults else None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return given | size_options(args, pipe.defaults) | begun_with(args, pipe)
