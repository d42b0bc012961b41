"""``bind2gen convert``: released ImageBind weights to a folder of ours."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import UnreadableError
from ..files.hub import is_hub_id
from ..modality import MODALITIES
from .arguments import DTYPES, add_output
from .files import check_out_folder
from .loading import check_hub
from .reporting import progress, quiet_models

WRITES = ("config.json", "model.safetensors", "processor_config.json")


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "convert",
        help="turn imagebind_huge.pth or a hub layout into safetensors",
        description="Write released ImageBind weights as a folder that ImageBindModel.from_pretrained loads. "
        "The released weights are licensed CC BY-NC-SA 4.0, and so is what is made from them.",
    )
    parser.add_argument("src", metavar="SRC", help="imagebind_huge.pth, a folder or a hub id")
    parser.add_argument("outdir", metavar="OUTDIR", help="folder to write")
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=tuple(MODALITIES),
        metavar="MODALITY",
        help=f"keep only towers of these: {', '.join(MODALITIES)}",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of the parameters (auto: as in the source)")
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check the places, convert, name the folder."""
    if Path(args.src).expanduser().exists():
        args.src = str(Path(args.src).expanduser())
    elif not is_hub_id(args.src):
        raise UnreadableError(f"{args.src}: no such file or folder, and no hub id like owner/name")
    if is_hub_id(args.src):
        check_hub(args.src, "SRC")
    out = check_out_folder(args.outdir, "OUTDIR", files=WRITES, args=args)
    with progress("convert", total=2, quiet=args.quiet) as bar, quiet_models(quiet=args.quiet):
        import torch

        from ..imagebind.checkpoint import convert_checkpoint

        bar.update()
        dtype = None if args.dtype == "auto" else getattr(torch, args.dtype)
        convert_checkpoint(args.src, out, modalities=args.modalities, dtype=dtype)
        bar.update()
    size = sum(path.stat().st_size for path in out.iterdir() if path.is_file())
    if args.json:
        print(json.dumps({"folder": str(out), "bytes": size, "modalities": args.modalities or list(MODALITIES)}))
    elif not args.quiet:
        print(out)
