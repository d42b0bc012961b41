"""The bundled model's training, from public teachers. Seeded and resumable; figures before and after in JSON.

    python -m bind2gen.mini STAGE --data DIR --teachers DIR --out DIR

README.md beside this file says what the stages make, in which order, and what the folders hold.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import torch

from ..errors import Bind2GenError
from ..files.stopping import ended, told_by_signals
from ..train.recipe import load_stages
from .texts import Texts

STAGES = {  # in order: module and function, and the options that are its own
    "read": ("read", "run_read", ()),
    "see": ("see", "run_see", ("copies",)),
    "hear-pack": ("hear", "run_pack", ()),
    "hear": ("hear", "run_hear", ("pack",)),
    "thermal": ("senses", "run_thermal", ()),
    "depth": ("senses", "run_depth", ()),
    "imu": ("senses", "run_imu", ()),
    "draw-pack": ("draw_pack", "run_pack", ()),
    "draw": ("draw", "run_draw", ("pack", "minutes", "batch", "columns")),
    "package": ("package", "run_package", ("host", "to")),
    "detector": ("detect", "run_detector", ("host",)),
    "draw-judge": ("draw_judge", "run_judge", ("pack", "steps", "columns")),
}
NEEDED = {
    "package": ("data", "teachers", "host", "to"),
    "detector": ("data", "teachers", "host"),
    "draw": ("pack",),
    "draw-judge": ("pack",),
}
FIRST = "_first"  # stage of the recipe, by which another one begins


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bind2gen.mini", description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--data", type=Path, help="folder with photos, sounds, mini, detic-vocabulary")
    parser.add_argument("--teachers", type=Path, help="folder with the public networks")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and figures")
    parser.add_argument("--words", type=int, default=20_000, help="read: rows of the table of words")
    parser.add_argument("--phrases", type=int, default=5000, help="read: phrases to compose, and definitions to take")
    parser.add_argument("--copies", type=int, help="see: of each photo, as it is and altered")
    parser.add_argument("--to", type=Path, help="package: folder for the finished pipeline")
    parser.add_argument(
        "--host", type=Path,
        help="package: pipeline whose detector is taken; detector: pipeline with the encoder and its adapter",
    )  # fmt: skip
    parser.add_argument("--pack", type=Path, help="draw, draw-judge, hear: the file of their pack stage, all they need")
    parser.add_argument("--minutes", type=float, help="draw: train for so long, not for a number of steps")
    parser.add_argument("--batch", type=int, help="draw: another number of photos a step; 512 want a GPU")
    parser.add_argument("--columns", type=int, help="draw, draw-judge: pictures of each kind")
    parser.add_argument("--steps", type=int, help="train for another number of steps than the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; leave one core free where others work")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("bind2gen").setLevel(logging.INFO)
    if options.threads:
        torch.set_num_threads(options.threads)
    needed = () if options.pack else NEEDED.get(options.stage, ("data", "teachers"))
    if missing := [f"--{name}" for name in needed if getattr(options, name) is None]:
        parser.error(f"{options.stage}: {', '.join(missing)} missing")
    module, name, own = STAGES[options.stage]
    given = {option: getattr(options, option) for option in own if getattr(options, option) is not None}
    stages = load_stages(files(__package__).joinpath("recipe.toml"))
    if config := stages.get(options.stage):
        given["config"] = replace(config, steps=options.steps or config.steps)
    if first := stages.get(options.stage + FIRST):
        given["first"] = first
    try:
        texts = Texts(options.data, options.teachers, options.words, options.phrases)
        run = getattr(import_module(f".{module}", __package__), name)
        with told_by_signals():
            run(texts, options.out / options.stage, **given)
    except KeyboardInterrupt as stop:
        words, code = ended(stop)
        print(f"bind2gen.mini: {words}", file=sys.stderr)
        return code
    except Bind2GenError as error:
        print(f"bind2gen.mini: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
