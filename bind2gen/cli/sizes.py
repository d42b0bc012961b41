"""``--size``: how large pictures are, and what of that cannot be, found before any weights are read."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ..errors import Bind2GenError
from .arguments import UsageError

if TYPE_CHECKING:
    import torch

    from .loading import ModelChoice

LARGEST = 16_384  # pixels of a side
GIBIBYTE = 2**30
DECODED_AT_ONCE = 16  # frames, of diffusers' pipelines


def add_size(parser: argparse.ArgumentParser) -> None:
    """``--size``, where the host can draw others."""
    parser.add_argument(
        "--size", type=_size, metavar="WxH", help="pixels, as 768x512, or 512 for a square (default: the model's)"
    )


def _size(text: str) -> tuple[int, int]:
    """Type of ``768x512`` or ``512``: width and height."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise argparse.ArgumentTypeError(f"wanted WIDTHxHEIGHT or one number, of 1..{LARGEST} pixels, got {text!r}")
    return width, height


def check_size(
    args: argparse.Namespace, choice: ModelChoice, *, at_once: int, kept: int, device: torch.device, dtype: torch.dtype
) -> None:
    """``--size`` is a multiple of what the autoencoder needs, and what is drawn, of whatever size, has room.

    Args:
        at_once: pictures or frames denoised together.
        kept: how many are in memory at the end.

    Raises:
        UsageError: no such multiple.
        Bind2GenError: the least that this takes is more than the device, or for what is kept the machine, has.
    """
    unet, vae, movq = (_config(choice, part) for part in ("unet", "vae", "movq"))
    channels = (vae or movq).get("block_out_channels", [0])
    scale, side = 2 ** (len(channels) - 1), unet.get("sample_size")
    width, height = args.size or (((side if isinstance(side, int) else 0) * scale,) * 2)
    # Pipelines would round: Kandinsky's up, and down those of transformers, whose patches are two latents wide.
    grain = scale**2 if movq else 2 * scale if _config(choice, "transformer") else scale
    if args.size and (width % grain or height % grain):
        raise UsageError(f"--size {width}x{height}: wanted multiples of {grain}")
    # What the denoiser keeps for its way up, one a block at least; what the decoder's last block takes and gives.
    skips = sum(wide / 4**level for level, wide in enumerate(unet.get("block_out_channels", []))) / scale**2
    decoding = min(at_once, DECODED_AT_ONCE) * 2 * channels[0]
    drawn = width * height * dtype.itemsize * max(at_once * skips, decoding)
    # Kept as bytes; a film's frames come as floats first.
    for need, room, name in (
        (drawn, _room(device), str(device)),
        (width * height * 3 * (kept + 4 * at_once), psutil.virtual_memory().total, "this machine"),
    ):
        if need > room:
            words = f"{max(kept, at_once)} of {width}x{height} pixels take at least {need / GIBIBYTE:.0f} GiB"
            advice = "a smaller --size, fewer frames, or --batch-size 1"
            raise Bind2GenError(f"--size: {words}, {name} has {room / GIBIBYTE:.0f}; {advice}")


def size_options(args: argparse.Namespace, defaults: dict[str, Any]) -> dict[str, int]:
    """The arguments of a call by which ``--size`` goes in.

    Raises:
        UsageError: the pipeline draws one size only.
    """
    if args.size is None:
        return {}
    if not {"width", "height"} <= defaults.keys():
        raise UsageError("--size: this pipeline draws one size only")
    return dict(zip(("width", "height"), args.size, strict=True))


def _config(choice: ModelChoice, part: str) -> dict[str, Any]:
    """Of a part in a local folder; empty without one."""
    file = Path(choice.source, part, "config.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _room(device: torch.device) -> int:
    """Bytes of the device's memory."""
    import torch

    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total
