"""``bind2gen fit-class-map``: a closed-form map from an encoder's space to a detector's class vectors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.bundled import bundled_names
from ..files.hub import INDEX, is_hub_id
from ..train.recipe_files import recipe_path
from .arguments import DEFAULT_MODEL, DTYPE_HELP, DTYPES, add_output, option_of
from .files import check_out_folder
from .loading import ModelChoice, choose_device, choose_dtype, choose_model, load_encoder
from .reporting import progress, quiet_models

if TYPE_CHECKING:
    import torch

    from ..space.vocabulary import Vocabulary
    from ..train.maps.recipe import MapRecipe

WRITES = ("metrics.json", "config.json", "model.safetensors", "README.md")
CHANGES = {
    "encoder": ("DIR_OR_ID", "ImageBind encoder: folder, hub id, imagebind_huge.pth or a bundled model's name"),
    "names": ("FILE", "names to fit on: text with one a line, csv or JSON such as LVIS's categories"),
    "means": ("PATH", "mean embeddings of the modalities: an adapter's folder, or a file of bind2gen embed"),
    "method": ("NAME", "ridge or procrustes"),
    "vectors": ("FILE", "class vectors, .npy or .npz, instead of a text tower"),
    "open_clip": ("NAME_OR_DIR", "OpenCLIP text tower that makes the class vectors"),
    "weights": ("FILE_OR_TAG", "its weights"),
    "owl": ("DIR_OR_ID", "OWL detector whose text tower makes the class vectors"),
}


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "fit-class-map",
        help="fit a map from an encoder's space to a detector's class vectors",
        description="Fit a map in closed form on the names of things, judge it on names that were left out, and write "
        "it with its figures and a card. The recipe is a TOML file or a bundled one's name (map_detic, "
        "map_detic_bundled, map_owlv2); the options replace values of it.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="TOML file, or a bundled recipe's name")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: the recipe's name)")
    group = parser.add_argument_group("instead of the recipe's values")
    for key, (metavar, help_) in CHANGES.items():
        group.add_argument(option_of(key), metavar=metavar, help=help_)
    parser.add_argument("--device", default="auto", help="of the encoder: auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help=DTYPE_HELP)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check, embed the names on both sides, fit, judge, write."""
    out = check_out_folder(args.out or Path(args.recipe).stem, files=WRITES, args=args)
    recipe_path(args.recipe, maps=True)
    device = choose_device(args.device)
    from ..train.maps.recipe import load_map_recipe, read_means, recipe_names, write_map

    recipe = load_map_recipe(args.recipe, **{key: value for key in CHANGES if (value := getattr(args, key))})
    choice = _choose_encoder(recipe.encoder)
    names = recipe_names(recipe)
    means = read_means(recipe.means) if recipe.means else {}
    with quiet_models(quiet=args.quiet):
        target, source = _embedded(recipe, names, choice, device, args)
    from ..space.class_map import gaps_of
    from ..train.maps.class_map import FOLDS, fit_class_map
    from ..train.maps.recipe import groups_of

    with progress("fit", total=FOLDS + 1, quiet=args.quiet) as bar:
        made, report = fit_class_map(
            source, target.vectors, groups_of(names), method=recipe.method,
            gaps=gaps_of(means) if means else None, progress=bar.update,
        )  # fmt: skip
    files = write_map(out, made, report, recipe)
    if args.json:
        print(json.dumps({"folder": str(out), "files": [str(path) for path in files], "left_out": report.to_dict()}))
    elif not args.quiet:
        print(report.table())
        print(out)


def _choose_encoder(encoder: str) -> ModelChoice:
    """A bundled model or a pipeline's folder has its encoder within; anything else is an encoder."""
    if encoder in bundled_names() or (Path(encoder) / INDEX).is_file():
        return choose_model(encoder, None, needs_pipeline=False)
    if not Path(encoder).exists() and not is_hub_id(encoder):
        raise InputError(f"encoder {encoder}: no such file or folder, no hub id like owner/name, no bundled model")
    return choose_model(DEFAULT_MODEL, encoder, needs_pipeline=False)


def _embedded(
    recipe: MapRecipe, names: list[str], choice: ModelChoice, device: torch.device, args: argparse.Namespace
) -> tuple[Vocabulary, torch.Tensor]:
    """Class vectors of the names, and the encoder's embeddings of them (N, D1)."""
    from ..space.text_towers import EncoderText
    from ..space.vocabulary import embed_names
    from ..train.maps.recipe import target_vocabulary

    texts = len(names) * len(recipe.templates)
    # The target first: what is wrong with it should show before the encoder's gigabytes are read.
    with progress("target", total=texts, quiet=args.quiet or bool(recipe.target.vectors)) as bar:
        target = target_vocabulary(recipe, names, progress=bar.update)
    model, processor = load_encoder(
        choice, modalities=["text"], device=device, dtype=choose_dtype(args.dtype, device, choice), quiet=args.quiet
    )
    with progress("encode", total=texts, quiet=args.quiet) as bar:
        source = embed_names(names, EncoderText(model, processor), templates=recipe.templates, progress=bar.update)
    return target, source
