"""``python -m bind2gen.train RECIPE --data DIR --out DIR``; the same under ``accelerate launch -m bind2gen.train``."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path

from ..cli import DEBUG_VARIABLE, FAILED, INTERRUPTED
from ..cli.reporting import one_line, quiet_libraries
from ..errors import Bind2GenError
from .recipe import bundled_recipes, load_recipe
from .run import train_recipe


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"wanted a whole number above zero, got {text!r}")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    recipes = ", ".join(name for name in bundled_recipes() if name != "mini")
    parser = argparse.ArgumentParser(
        prog="python -m bind2gen.train",
        description="Train one tower against frozen images or captions. The same command takes up a stopped run.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help=f"TOML file, or one of {recipes}")
    parser.add_argument("--data", required=True, type=Path, help="folder with pairs.csv or *.tar shards")
    parser.add_argument("--out", required=True, type=Path, help="folder for the model and its training files")
    parser.add_argument("--init", help="weights of the frozen towers: a folder, a hub id or a file")
    parser.add_argument("--steps", type=_steps, help="steps instead of the recipe's epochs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0; or 1 with one line on stderr, 130 when interrupted."""
    options = build_parser().parse_args(arguments)
    try:
        with quiet_libraries():
            train_recipe(load_recipe(options.recipe), options.data, options.out, init=options.init, steps=options.steps)
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", INTERRUPTED)
    except Bind2GenError as error:
        return _fail(error, FAILED)
    except Exception as error:  # noqa: BLE001  (users get one line, never a traceback)
        kind = type(error).__name__
        if kind == "OutOfMemoryError":
            return _fail("the device is out of memory; set schedule.micro_batch lower in the recipe", FAILED)
        return _fail(f"unexpected {kind}: {one_line(error)}; set {DEBUG_VARIABLE}=1 for the traceback", FAILED)


def _fail(message: object, code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exc()
    print(f"bind2gen.train: error: {one_line(message)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
