"""The bundled model's new training, from public teachers. Seeded and resumable; figures before and after in JSON.

    python -m bind2gen.mini STAGE --data DIR --teachers DIR --out DIR

Stages, in order: ``read`` (the text tower), ``see`` (the image tower, on its words). README.md beside this file says
what the folders hold.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import torch

from ..errors import Bind2GenError
from ..train.recipe import load_stages
from .texts import Texts


def _read() -> Callable[..., None]:
    from .read import run_read

    return run_read


def _see() -> Callable[..., None]:
    from .see import run_see

    return run_see


STAGES = {"read": _read, "see": _see}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bind2gen.mini", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos, sounds, mini, detic-vocabulary")
    parser.add_argument("--teachers", type=Path, required=True, help="folder with the public networks")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and figures")
    parser.add_argument("--words", type=int, default=30_000, help="read: rows of the table of words")
    parser.add_argument("--phrases", type=int, default=20_000, help="read: phrases to compose, and definitions to take")
    parser.add_argument("--copies", type=int, default=3, help="see: of each photo, as it is and altered")
    parser.add_argument("--steps", type=int, help="train for another number of steps than the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; leave one core free where others work")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bind2gen").setLevel(logging.INFO)
    if options.threads:
        torch.set_num_threads(options.threads)
    stages = load_stages(files(__package__).joinpath("recipe.toml"))
    config = stages[options.stage]
    config = replace(config, steps=options.steps) if options.steps else config
    try:
        texts = Texts(options.data, options.teachers, options.words, options.phrases)
        more = {"first": stages["see_first"], "copies": options.copies} if options.stage == "see" else {}
        STAGES[options.stage]()(texts, options.out / options.stage, config, **more)
    except Bind2GenError as error:
        print(f"bind2gen.mini: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
