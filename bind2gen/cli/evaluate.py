"""``bind2gen eval``: scores of the bundled model on held-out data, of any encoder on benchmarks, of made pictures."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import evaluate_generate, evaluate_mteb, evaluate_paper
from .arguments import DEFAULT_MODEL, MAX_STEPS, add_output, finite, whole
from .files import check_out_folder
from .loading import choose_device, choose_dtype, choose_model, load_pipeline
from .reporting import progress, quiet_models

DEFAULT_OUT = "eval-mini"
MAX_COUNT = 1_000_000
DEFAULT_STEPS = 20


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "eval",
        help="score a model on held-out data",
        description="Score a model on data that it was not trained on.",
    )
    suites = parser.add_subparsers(title="suites", metavar="SUITE", required=True)
    mini = suites.add_parser(
        "mini",
        help="the bundled model's table: sounds, photos, infrared, IMU, generated pictures",
        description="Compute every figure of the bundled model's card: train a judge on real photos (or resume or "
        "reuse the one in --out), embed and draw all held-out data, print a table, and write scores.json, contact "
        "sheets and confusion matrices. Judged is what is held out of --data: ESC's fold 4, four people's movements, a "
        "tenth of all photos and videos, and of sounds the fifth of their sources that a checksum of the name picks. "
        "The same data, model and options give the same scores.",
    )
    mini.add_argument(
        "--data", required=True, metavar="DIR",
        help="folder that holds the data, itself or in subfolders. Needed: images, crops and audio in one folder, each "
        "as csv beside tar. Used where found: imu/*.csv.gz beside these; photos and sounds (csv beside tar), other "
        "people's, for rows of their own and, photos, for the detector",
    )  # fmt: skip
    mini.add_argument(
        "--held-out", metavar="DIR", help="judge on all of this folder (same form) instead of --data's held-out part"
    )
    mini.add_argument("--out", default=DEFAULT_OUT, metavar="DIR", help=f"folder for results (default: {DEFAULT_OUT})")
    mini.add_argument("--judge", metavar="DIR", help="folder of the judge (default: judge in --out)")
    mini.add_argument(
        "--judge-steps",
        type=whole(1, MAX_COUNT),
        metavar="N",
        help="train the judge for N steps only; marks the scores",
    )
    mini.add_argument(
        "--limit", type=whole(1, MAX_COUNT), metavar="N", help="N items of each concept, a quick look; marks the scores"
    )
    mini.add_argument(
        "--steps", type=whole(1, MAX_STEPS), default=DEFAULT_STEPS, metavar="N",
        help=f"denoising steps (default: {DEFAULT_STEPS})",
    )  # fmt: skip
    mini.add_argument("--guidance", type=finite, metavar="G", help="guidance scale (default: the model's)")
    mini.add_argument(
        "--model", metavar="DIR_OR_ID", default=DEFAULT_MODEL, help="pipeline folder or hub id (default: mini)"
    )
    mini.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    mini.add_argument("--threads", type=whole(1, 1024), metavar="N", help="CPU threads (default: torch's choice)")
    add_output(mini)
    mini.set_defaults(run=run)
    evaluate_generate.add_parser(suites)
    evaluate_mteb.add_parser(suites)
    evaluate_paper.add_parser(suites)


def run(args: argparse.Namespace) -> None:
    """Check, train or load the judge, load the model, score, write, print."""
    folders = {name: Path(value) for name, value in (("--data", args.data), ("--held-out", args.held_out)) if value}
    for option, folder in folders.items():
        if not folder.is_dir():
            raise InputError(f"{option} {folder}: wanted a folder with images, crops and audio, there is none")
    out = check_out_folder(args.out)
    judge_folder = check_out_folder(args.judge, "--judge") if args.judge else out / _judge_name(args.judge_steps)
    choice = choose_model(args.model, None)
    device = choose_device(args.device)
    import torch

    from ..files.bundled import DETECTOR_PART
    from ..mini.evaluate.held_out import folder_of, load_held_out
    from ..mini.evaluate.judge import JUDGE_LOOP, prepare_judge
    from ..mini.evaluate.mini import Options, evaluate
    from ..mini.evaluate.others import load_others
    from ..mini.evaluate.whole_photos import judge_photos, load_photos
    from ..mini.recipe import JUDGED
    from ..pipelines.detection import ImageBindDetectionPipeline, known_sounds
    from ..space.everyday import words_of

    if args.threads:
        torch.set_num_threads(args.threads)
    with progress("read data", total=1, quiet=args.quiet) as bar:
        data = load_held_out(folders["--data"], folders.get("--held-out"), limit=args.limit)
        others = load_others(folders["--data"], folders.get("--held-out"), limit=args.limit)
        judged = folder_of(folders.get("--held-out", folders["--data"]), "photos")
        photos = load_photos(judged, half=None if args.held_out else 1, limit=args.limit)
        bar.update()
    # The model before the judge: what is wrong with it should show before the long work.
    dtype = choose_dtype("auto", device, choice)
    pipe = load_pipeline(choice, modalities=[], device=device, dtype=dtype, quiet=args.quiet)
    judge = prepare_judge(
        data.training, data.photos, list(JUDGED), judge_folder, steps=args.judge_steps, quiet=args.quiet
    )
    options = Options(
        steps=args.steps, guidance=args.guidance, partial=_partial(args), quiet=args.quiet,
        judge_steps=args.judge_steps or JUDGE_LOOP.steps, words=words_of(choice.encoder),
        sounds=None if choice.imagebind else known_sounds(pipe.imagebind, Path(choice.source) / DETECTOR_PART),
    )  # fmt: skip
    result = evaluate(pipe, judge, data, choice.label, options, others)
    if photos and (Path(choice.source) / DETECTOR_PART).is_dir():
        towers = ["text", "audio"]
        with quiet_models(quiet=args.quiet):
            detection = ImageBindDetectionPipeline.from_pretrained(choice.source, modalities=towers, device=device)
        found = judge_photos(detection, photos, data.sounds)
        result = replace(result, scores=replace(result.scores, detector=found))
    files = result.write(out)
    if args.json:
        print(json.dumps(result.scores.to_dict() | {"files": [str(path) for path in files]}))
    elif not args.quiet:
        print(result.scores.table())
        print("\n".join(str(path) for path in files))


def _judge_name(steps: int | None) -> str:
    """A judge trained for fewer steps lies apart, so that a full run does not go on from it."""
    return "judge" if steps is None else f"judge-{steps}"


def _partial(args: argparse.Namespace) -> tuple[str, ...]:
    """Why these are not the full scores."""
    reasons = []
    if args.limit is not None:
        reasons.append(f"at most {args.limit} items of each concept (--limit)")
    if args.judge_steps is not None:
        reasons.append(f"a judge trained for {args.judge_steps} steps (--judge-steps)")
    return tuple(reasons)
