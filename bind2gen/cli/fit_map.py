"""``bind2gen fit-map``: a map from the encoder's image embeddings to another CLIP's, for hosts that take those."""

from __future__ import annotations

import argparse
import json
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.atomic import written_whole
from .arguments import add_adapter, add_keep_going, add_models, add_output
from .files import check_out_folder
from .fit_gap import WRITES
from .inputs import Inputs, read_inputs
from .loading import ModelChoice, check_hub, choose_device, choose_dtype, choose_model, load_encoder, one_reason
from .reporting import progress, quiet_models

if TYPE_CHECKING:
    import torch

    from ..imagebind.model import ImageBindModel
    from ..imagebind.processor import ImageBindProcessor
    from ..space.adapter import EmbeddingAdapter
    from ..train.maps.spaces import TargetEncoder

WAYS = ("rotation", "ridge")  # of train.maps.spaces, which imports torch
CACHE = "embedded"  # folder of what is embedded already, in the folder that is written


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "fit-map",
        help="a map to another CLIP's image embeddings, for generate --host KANDINSKY --adapter",
        description="Embed pictures (any, some thousands) by both encoders, fit a linear map from one to the other, "
        "and write an adapter with it, figures of left-out pictures and a card. Stopped, the same command goes on.",
    )
    parser.add_argument("--images", nargs="+", action="extend", required=True, metavar="DIR",
                        help="pictures, or folders of them")  # fmt: skip
    parser.add_argument("--to", required=True, metavar="SPACE",
                        help="vit-l (Karlo, FLUX's IP-Adapter), vit-bigg (Kandinsky 2.2), or a folder or hub id of a "
                        "CLIP image encoder, or of a pipeline with one")  # fmt: skip
    parser.add_argument("--way", choices=WAYS, default=WAYS[0], help="ridge comes nearer to pictures, rotation is "
                        "right more often for sounds (default: %(default)s)")  # fmt: skip
    add_keep_going(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to map from")
    add_adapter(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, embed by both encoders, fit, write."""
    inputs = read_inputs({"image": args.images}, keep_going=args.keep_going)
    out = check_out_folder(args.out, files=WRITES, args=args)
    choice = choose_model(args.model, args.imagebind, adapter=args.adapter, needs_pipeline=False)
    device = choose_device(args.device)
    from ..train.maps.spaces import TARGETS, TargetEncoder, fit_space, write_space

    if not Path(repository := TARGETS.get(args.to, (args.to, ""))[0]).exists():
        check_hub(repository, "--to")
    place = {"device": device, "dtype": choose_dtype(args.dtype, device, choice)}
    model, processor = load_encoder(choice, modalities=["image"], **place, quiet=args.quiet)
    with quiet_models(quiet=args.quiet), one_reason(args.to):
        target = TargetEncoder(args.to, **place)
    adapter = _before(args, choice, model)
    adapter.claim(model, strict=True)
    source, theirs = _embedded(inputs, model, processor, target, out, args)
    label = args.to if args.to in TARGETS else Path(args.to).name
    options = {"way": args.way, "adapter": adapter, "space": target.space, "negative": target.negative()}
    made, report = fit_space(source, theirs, **options)
    files = [str(path) for path in write_space(out, made, report, encoder=choice.label, target=label)]
    shutil.rmtree(out / CACHE, ignore_errors=True)
    if args.json:
        told = {"folder": str(out), "files": files, "kept": report.kept, "table": report.table()}
        print(json.dumps(told | {"skipped": inputs.skipped}))
    elif not args.quiet:
        print(report.table())
        print(out)
    return inputs.finished()


def _before(args: argparse.Namespace, choice: ModelChoice, model: ImageBindModel) -> EmbeddingAdapter:
    """What moves modalities to images before the map: ``--adapter``, or what lies beside the encoder."""
    from ..pipelines.parts import fitting_adapter, load_adapter

    if args.adapter is not None:
        return load_adapter(args.adapter)
    return fitting_adapter(model, None, choice.imagebind or choice.source)


def _embedded(
    inputs: Inputs,
    model: ImageBindModel,
    processor: ImageBindProcessor,
    target: TargetEncoder,
    out: Path,
    args: argparse.Namespace,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) and (N, T) of the pictures that can be read; what an earlier run embedded is taken from its files."""
    import numpy as np
    import torch

    from ..imagebind.embedding import encode_inputs
    from ..preprocess.image import load

    cache = out / CACHE
    cache.mkdir(parents=True, exist_ok=True)
    encoders = f"{model.fingerprint()} {args.to} {target.width}"

    def encode(files: list[str]) -> torch.Tensor:
        told = [encoders, *(f"{file} {Path(file).stat().st_size} {Path(file).stat().st_mtime_ns}" for file in files)]
        path = cache / f"{zlib.crc32(chr(10).join(told).encode()):08x}.npy"
        if path.is_file():
            return torch.from_numpy(np.load(path))
        pictures = [load(file) for file in files]
        rows = encode_inputs(model, processor, "image", pictures, unit_norm=False).float().cpu()
        rows = torch.cat([rows, target.embed(pictures)], dim=1)
        with written_whole(path) as temporary:
            np.save(temporary, rows.numpy())
        return rows

    with progress("encode", total=inputs.count, quiet=args.quiet) as bar:
        found = inputs.encoded("image", encode, args.batch_size, bar.update)
    if not found:
        raise InputError(f"none of the {inputs.count} pictures can be read: {inputs.skipped[0]['reason']}")
    rows = torch.stack(list(found.values()))
    return rows[:, : -target.width], rows[:, -target.width :]
