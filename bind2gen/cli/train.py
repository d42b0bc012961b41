"""``bind2gen train``: one tower on pairs of one's own. Launchers start the same as ``python -m bind2gen.train``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import Bind2GenError, InputError
from ..files.bundled import bundled_names
from ..files.hub import is_hub_id
from ..train.recipe_files import bundled_recipes, recipe_path
from .arguments import above_zero, add_output, whole
from .files import check_out_folder
from .reporting import quiet_models, say

SCHEDULE = {"batch_size": "batch_size", "lr": "learning_rate", "epochs": "epochs"}  # options -> keys of the recipe
MAX_STEPS = 10**9


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    recipes = ", ".join(name for name in bundled_recipes() if name != "mini")
    parser = commands.add_parser(
        "train",
        help="train a tower on your own pairs, from the start or further",
        description="Train one tower against frozen images or captions. The same command takes up a stopped run; "
        "Ctrl-C saves the step that it falls in. Where memory is short, set schedule.micro_batch in the recipe.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help=f"TOML file, or one of {recipes}")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with pairs.csv or *.tar shards")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the model and its training files")
    parser.add_argument(
        "--init", metavar="WEIGHTS",
        help="weights to start from: a bundled model's name, a folder, a hub id or a file; a tower that they hold is "
        "trained further (default: the recipe's)",
    )  # fmt: skip
    group = parser.add_argument_group("instead of the recipe's values")
    group.add_argument("--batch-size", type=whole(2, 1 << 20), metavar="N", help="pairs a step, of all GPUs together")
    group.add_argument("--lr", type=above_zero, metavar="X", help="peak of the learning rate")
    length = group.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=above_zero, metavar="X", help="passes over the data")
    length.add_argument("--steps", type=whole(1, MAX_STEPS), metavar="N", help="steps of the optimiser")
    add_output(parser, writes=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check, train, say how to draw with the result."""
    recipe_path(args.recipe)
    if not Path(args.data).exists():
        raise InputError(f"--data {args.data}: wanted a folder with pairs.csv or *.tar shards, there is none")
    if args.init and not (args.init in bundled_names() or Path(args.init).exists() or is_hub_id(args.init)):
        raise InputError(f"--init {args.init}: no such file or folder, no bundled model, no hub id like owner/name")
    out = check_out_folder(args.out)
    from ..train.recipe import load_recipe
    from ..train.run import train_recipe

    changes = {key: value for option, key in SCHEDULE.items() if (value := getattr(args, option)) is not None}
    recipe = load_recipe(args.recipe, **changes)
    try:
        with quiet_models(quiet=args.quiet):
            train_recipe(recipe, args.data, out, init=args.init, steps=args.steps)
    except KeyboardInterrupt as stop:
        raise type(stop)("the same command goes on from the last checkpoint") from None
    except Exception as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        raise Bind2GenError("the device is out of memory; set schedule.micro_batch lower in the recipe") from error
    line = f"bind2gen generate --imagebind {out} --{recipe.modality} FILE --out picture.png"
    if args.json:
        print(json.dumps({"folder": str(out), "modality": recipe.modality, "draw": line}))
    elif not args.quiet:
        print(out)
        say(f"draw with it: {line}")
