"""``bind2gen generate --host``: any pipeline of diffusers that has a slot, by way of :func:`bind2gen.bind`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HostError
from ..hosts.pictures import IP_ADAPTER_FILE
from .arguments import DEFAULT_MODEL, UsageError, finite
from .loading import ModelChoice, choose_model, one_reason
from .reporting import progress, quiet_models

if TYPE_CHECKING:
    import torch

    from ..pipelines.binding import BoundPipeline


def add_host(parser: argparse.ArgumentParser) -> None:
    """``--host``, ``--ip-adapter`` and ``--ip-adapter-scale``."""
    group = parser.add_argument_group("another host", "instead of --model, with --imagebind")
    group.add_argument("--host", metavar="DIR", help="folder of a Stable Diffusion 1.5 or SDXL pipeline")
    group.add_argument(
        "--ip-adapter", metavar="FILE", help=f"its IP-Adapter (default: {IP_ADAPTER_FILE} in the folder)"
    )
    group.add_argument("--ip-adapter-scale", type=finite, metavar="X", help="its weight beside the prompt (default: 1)")


def choose_host(args: argparse.Namespace) -> ModelChoice:
    """Find out what ``--host`` and ``--ip-adapter`` name, or ``--model``, before any weights are read.

    Raises:
        UsageError: options that do not go together, or one is missing.
        Bind2GenError: there is no such file or folder.
    """
    if args.host is None:
        if args.ip_adapter is not None or args.ip_adapter_scale is not None:
            raise UsageError("--ip-adapter and --ip-adapter-scale: they go with --host FOLDER")
        return choose_model(args.model, args.imagebind, adapter=args.adapter)
    if args.model != DEFAULT_MODEL:
        raise UsageError("--host and --model: give one of the two")
    choice = choose_model(args.host, args.imagebind, adapter=args.adapter, option="--host")
    file = Path(args.ip_adapter or Path(choice.source) / IP_ADAPTER_FILE)
    if args.ip_adapter is None and not file.is_file():
        raise UsageError(f"--host {args.host}: add --ip-adapter FILE (a Stable unCLIP goes by --model)")
    if not file.is_file():
        raise HostError(f"--ip-adapter {args.ip_adapter}: no such file")
    host, _, encoder = choice.label.partition(" + ")
    return replace(choice, label=f"{host} + {file.stem} + {encoder}", ip_adapter=str(file))


def load_bound(
    choice: ModelChoice, *, modalities: list[str], device: torch.device, dtype: torch.dtype, quiet: bool
) -> BoundPipeline:
    """The pipeline with ImageBind in front, on its device; its own progress bar is off."""
    with quiet_models(quiet=quiet), progress("load", total=3, quiet=quiet) as bar:
        from ..hosts.pictures.ip_adapter import IPAdapter
        from ..imagebind.loading import load_config
        from ..pipelines.binding import bind

        bar.update()
        width = load_config(choice.imagebind).embed_dim
        with one_reason(choice.source):
            pipe = IPAdapter().load(choice.source, file=choice.ip_adapter, embed_dim=width, dtype=dtype)
        pipe.to(device)
        pipe.set_progress_bar_config(disable=True)
        bar.update()
        bound = bind(pipe, imagebind=choice.imagebind, adapter=choice.adapter, modalities=modalities, dtype=dtype)
        bar.update()
    return bound
