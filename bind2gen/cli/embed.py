"""``bind2gen embed``: inputs to embeddings in a file."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from .. import __version__
from .arguments import add_inputs, add_models, add_output, given_inputs
from .files import check_out_file, display_name, resolve_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .reporting import progress

if TYPE_CHECKING:
    import numpy as np

    from ..imagebind.model import ImageBindModel
    from ..imagebind.processor import ImageBindProcessor

SUFFIXES = (".npz", ".safetensors", ".json")  # of embedding_files.FORMATS, which imports numpy


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "embed",
        help="write embeddings of sounds, pictures, texts, videos to a file",
        description="Write unit-norm embeddings, (N, D) float32 for each kind of input, with the names of the inputs.",
    )
    add_inputs(parser)
    parser.add_argument("--out", required=True, metavar="FILE", help=f"file to write: {', '.join(SUFFIXES)}")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use (default: mini)")
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check, load the encoder alone, embed in batches, write."""
    named = given_inputs(args)
    inputs = resolve_inputs(named)
    out = check_out_file(args.out, SUFFIXES)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    from ..embedding_files import EmbeddingSet, save_embeddings

    model, processor = load_encoder(choice, modalities=list(inputs), device=device, dtype=dtype, quiet=args.quiet)
    vectors = _encode(model, processor, inputs, batch_size=args.batch_size, quiet=args.quiet)
    names = {name: [display_name(value, name) for value in values] for name, values in named.items()}
    save_embeddings(out, EmbeddingSet(vectors, names, {"bind2gen": __version__, "model": choice.label}))
    if args.json:
        shapes = {name: {"inputs": names[name], "shape": list(array.shape)} for name, array in vectors.items()}
        print(json.dumps({"file": str(out), "model": choice.label, "bind2gen": __version__, "embeddings": shapes}))
    elif not args.quiet:
        print(out)


def _encode(
    model: ImageBindModel, processor: ImageBindProcessor, inputs: dict[str, list[str]], *, batch_size: int, quiet: bool
) -> dict[str, np.ndarray]:
    import torch

    from ..modality import MODALITIES
    from ..pipeline import PROCESSOR_KEYS

    vectors: dict[str, np.ndarray] = {}
    with torch.inference_mode(), progress("encode", total=sum(map(len, inputs.values())), quiet=quiet) as bar:
        for name, values in inputs.items():
            model.tower(name)  # refuses a modality that the model does not have before reading files
            parts = []
            for start in range(0, len(values), batch_size):
                batch = values[start : start + batch_size]
                features = processor(**{PROCESSOR_KEYS[name]: batch}, device=model.device)
                parts.append(model(**features)[MODALITIES[name].embeds_key].float().cpu())
                bar.update(len(batch))
            vectors[name] = torch.cat(parts).numpy()
    return vectors
