"""``bind2gen verify``: whether released weights give the numbers here that the reference published."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UnreadableError
from .arguments import DEFAULT_MODEL, DTYPES, add_output
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .reporting import FAILED, progress, say

if TYPE_CHECKING:
    from ..imagebind.published import Comparison

TITLES = {"image": "Vision", "audio": "Audio", "text": "Text"}  # the reference's words


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "verify",
        help="check released ImageBind weights against the numbers that were published with them",
        description="Compute the similarities of ImageBind's own sample files (three pictures, three sounds, three "
        "texts) and compare them with the table in its README. Exit code 1 where they differ.",
    )
    parser.add_argument("--imagebind", required=True, metavar="PATH_OR_ID", help="imagebind_huge.pth, or what bind2gen "
                        "convert made of it, or a hub id")  # fmt: skip
    parser.add_argument("--assets", required=True, metavar="DIR", help="folder .assets of ImageBind's repository")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="others agree to fewer digits")
    add_output(parser, writes=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, load three towers, embed, compare."""
    if not Path(args.assets).is_dir():
        raise UnreadableError(f"--assets {args.assets}: wanted a folder with ImageBind's sample files, there is none")
    choice = choose_model(DEFAULT_MODEL, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    from ..imagebind import published

    published.sample_files(args.assets)  # before gigabytes are read
    towers = ["image", "audio", "text"]
    model, processor = load_encoder(choice, modalities=towers, device=device, dtype=dtype, quiet=args.quiet)
    with progress("encode", total=None, quiet=args.quiet):
        found = published.compare(published.similarity_tables(model, processor, args.assets))
    agrees = all(one.agrees for one in found)
    if args.json:
        print(json.dumps({"agrees": agrees, "needed_decimals": published.NEEDED, "tables": list(map(_plain, found))}))
    elif not args.quiet:
        print("\n\n".join(map(_table, found)))
        if agrees:
            print(f"\n{choice.label} gives the published numbers here")
    if not agrees:
        wrong = ", ".join(_title(one) for one in found if not one.agrees)
        advice = "other weights, other sample files, or a fault in this installation"
        say(f"bind2gen: error: {choice.label} does not give the published numbers ({wrong}): {advice}")
    return 0 if agrees else FAILED


def _title(one: Comparison) -> str:
    return " x ".join(TITLES[name] for name in one.modalities)


def _table(one: Comparison) -> str:
    """Published rows and ours, side by side."""
    width = one.published.decimals
    rows = [
        "  ".join(f"{x:.{width}f}" for x in theirs) + "   |   " + "  ".join(f"{x:.{width}f}" for x in ours)
        for theirs, ours in zip(one.published.values, one.ours.tolist(), strict=True)
    ]
    agreement = f"{one.decimals} of {width} decimals agree, the greatest difference is {one.difference:.1e}"
    return "\n".join([f"{_title(one)} (published | here): {agreement}", *rows])


def _plain(one: Comparison) -> dict[str, Any]:
    return {
        "rows": one.modalities[0], "columns": one.modalities[1], "agrees": one.agrees, "decimals": one.decimals,
        "published_decimals": one.published.decimals, "difference": one.difference, "published": one.published.values,
        "here": one.ours.tolist(),
    }  # fmt: skip
