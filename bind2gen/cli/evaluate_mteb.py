"""``bind2gen eval mteb``: an encoder on tasks of the field's harness."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import DependencyError, InputError
from ..files.atomic import written_together
from .arguments import add_models, add_output, comma_separated
from .files import check_out_folder
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .reporting import aligned, progress

if TYPE_CHECKING:
    from ..evaluate.harness import Score

DEFAULT_OUT, FILES = "eval-mteb", ("scores.json", "scores.png")
MODALITIES = ("text", "image", "video", "audio")


def add_parser(suites: Any) -> None:
    """Add this suite to those of ``bind2gen eval``."""
    parser = suites.add_parser(
        "mteb",
        help="tasks of mteb: benchmarks of sounds, pictures, films and words",
        description="Run tasks of mteb (pip install 'bind2gen[mteb]') and print each score beside the paper's and that "
        "of mteb's own wrapper of the reference, where they are known. Writes scores.json and scores.png.",
    )
    parser.add_argument("--tasks", required=True, metavar="NAME,...", help="mteb's names, such as ESC50_Zeroshot")
    parser.add_argument(
        "--folder", metavar="DIR",
        help="folder of data sets as the hub has them, each in a subfolder of its repository's name (default: the hub)",
    )  # fmt: skip
    parser.add_argument(
        "--reference-clips", action="store_true",
        help="cut sounds as the reference does, faults included: what published numbers were measured with",
    )  # fmt: skip
    parser.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help="folder for results")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to score")
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Check, find the tasks, load the encoder, score task by task, write, print."""
    names = comma_separated(args.tasks)
    if args.folder and not Path(args.folder).is_dir():
        raise InputError(f"--folder {args.folder}: wanted a folder with data sets, there is none")
    out = check_out_folder(args.out, files=FILES, args=args)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device, choice)
    try:
        from ..evaluate import harness
        from ..evaluate.mteb import ImageBindEncoder
    except ImportError as error:
        raise DependencyError(f"eval mteb needs mteb ({error}): pip install 'bind2gen[mteb]'") from error
    from ..files.pictures import MAKER

    tasks = harness.find_tasks(names, args.folder)
    model, processor = load_encoder(choice, modalities=list(MODALITIES), device=device, dtype=dtype, quiet=args.quiet)
    if args.reference_clips:
        processor.audio = replace(processor.audio, policy="reference")
    encoder, scores = ImageBindEncoder(model, processor), []
    with progress("score", total=len(tasks), quiet=args.quiet) as bar, _data_bars(shown=not bar.disable):
        for task in tasks:
            scores += harness.run_task(encoder, task, batch_size=args.batch_size, bar=not bar.disable)
            bar.update()
    told = {
        "bind2gen": __version__,
        "model": choice.label,
        "reference_clips": args.reference_clips,
        "scores": [one.to_dict() for one in scores],
    }
    files = [out / name for name in FILES]
    with written_together(out) as fresh:
        (fresh / FILES[0]).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        harness.draw(scores, choice.label).savefig(fresh / FILES[1], dpi=110, metadata={"Software": MAKER})
    if args.json:
        print(json.dumps(told | {"files": [str(file) for file in files]}))
    elif not args.quiet:
        print("\n".join([_table(scores), *map(str, files)]))


@contextmanager
def _data_bars(*, shown: bool) -> Iterator[None]:
    """Within the block: the bars of datasets, or none."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    before = not are_progress_bars_disabled()
    (enable_progress_bars if shown else disable_progress_bars)()
    try:
        yield
    finally:
        (enable_progress_bars if before else disable_progress_bars)()


def _table(scores: list[Score]) -> str:
    rows = [("task", "metric", "here", "paper", "mteb's wrapper")]
    for one in scores:
        numbers = ("" if value is None else f"{100 * value:.1f} %" for value in (one.score, one.paper, one.wrapper))
        rows.append((one.task, one.metric, *numbers))
    return aligned(rows)
