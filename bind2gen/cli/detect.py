"""``bind2gen detect``: boxes around what is heard, said or shown."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

from ..errors import Bind2GenError, DependencyError, InputError
from ..files.endings import FILMS
from .arguments import (
    DEFAULT_MODEL,
    DTYPES,
    UsageError,
    above_zero,
    add_adapter,
    add_keep_going,
    add_output,
    add_unwanted,
    given_unwanted,
    share,
    whole,
)
from .detectors import check_choice
from .files import PICTURE_SUFFIXES, check_out_file, check_out_folder, check_own
from .inputs import STDIN, Inputs, Search, read_inputs
from .loading import choose_device
from .reporting import quiet_models

PROMPTS = ("audio", "text", "like")  # options that name prompts
MODALITY = {"like": "image"}  # what an option is called elsewhere
MAX_DETECTIONS = 1000
DATASETS = ("coco", "yolo", "voc")


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "detect",
        help="boxes around what is heard, said or shown",
        description="Find in pictures (or a film) what makes a sound, what a text names, or what another picture "
        "shows. Every prompt is a class of its own; nothing is drawn where nothing of it is seen.",
    )
    places = parser.add_argument_group("where to look", "files, folders of them, or - for standard input")
    places.add_argument("places", nargs="*", metavar="PLACE", help="pictures, folders of pictures, or one film")
    places.add_argument("--image", nargs="+", action="extend", default=[], metavar="FILE", help="pictures to search")
    places.add_argument("--video", metavar="FILE", help="film to search, frame by frame, boxes tracked")
    add_keep_going(places)
    prompts = parser.add_argument_group("what to look for")
    prompts.add_argument("--audio", nargs="+", metavar="FILE", help="sound files, or example:NAME; each is a prompt")
    prompts.add_argument("--text", nargs="+", metavar="TEXT", help="words or sentences; each is a prompt")
    prompts.add_argument("--like", nargs="+", metavar="FILE", help="pictures of the thing; each is a prompt")
    prompts.add_argument("--together", action="store_true", help="all of these are one prompt, not one each")
    add_unwanted(prompts)
    prompts.add_argument("--labels", nargs="+", metavar="NAME", help="what boxes of each prompt are called (default: "
                         "the text, or the file's name)")  # fmt: skip
    _add_detector(parser)
    parser.add_argument("--threshold", type=share, metavar="S", help="score that a box must exceed, 0..1 "
                        "(default: what the detector was calibrated to)")  # fmt: skip
    parser.add_argument("--max-detections", type=whole(1, MAX_DETECTIONS), default=100, metavar="N",
                        help="boxes of a picture, those with the highest scores")  # fmt: skip
    parser.add_argument("--batch-size", type=whole(1, 1024), default=1, metavar="N",
                        help="pictures at a time, where the detector can; more changes scores a little")  # fmt: skip
    parser.add_argument("--timeline", action="store_true",
                        help="one picture, one long sound: when is which box heard")  # fmt: skip
    parser.add_argument("--every", type=above_zero, default=0.5, metavar="S",
                        help="seconds between the frames of a film")  # fmt: skip
    parser.add_argument("--out", metavar="FILE_OR_DIR", help="pictures with the boxes drawn in; - for standard output")
    parser.add_argument("--dataset", choices=DATASETS, help="write a labelled data set to the folder --out instead")
    add_output(parser)
    parser.set_defaults(run=run)


def _add_detector(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("detector")
    group.add_argument(
        "--model", metavar="DIR", default=DEFAULT_MODEL,
        help="bundled name or pipeline folder with a detector of its own",
    )  # fmt: skip
    add_detector_choice(group)
    group.add_argument("--imagebind", metavar="PATH_OR_ID", help="encoder of the prompts (default: the model's own)")
    add_adapter(group)
    group.add_argument(
        "--device", default="auto", help="auto (cuda, mps or cpu, the first there is), cpu, cuda, cuda:1, mps"
    )
    group.add_argument("--dtype", choices=DTYPES[1:], default="float32", help="of the detector (default: float32)")


def add_detector_choice(group: Any) -> None:
    """``--detector`` and the ways to it: ``--route``, ``--vocabulary``, ``--class-map``."""
    group.add_argument(
        "--detector", metavar="PATH_OR_ID",
        help="a released Detic .pth, a folder or hub id of a Detic, OWL or YOLO detector (default: the model's own)",
    )  # fmt: skip
    group.add_argument("--route", choices=("words", "map", "rescoring"),
                       help="from prompt to detector: nearest words, a learned map, or pieces of the picture "
                       "compared with the prompt (default: words; the model's own detector needs none)")  # fmt: skip
    group.add_argument("--vocabulary", metavar="FILE", help="the detector's class vectors of many words, for words")
    group.add_argument("--class-map", metavar="DIR", help="what bind2gen fit-class-map wrote, for map")


def run(args: argparse.Namespace) -> int:
    """Check what can be checked cheaply, load, find, draw."""
    search = _checked(args)
    device = choose_device(args.device)
    with quiet_models(quiet=args.quiet):
        from .detectors import load_detection
        from .finding import ROWS, found_rows

        pipe = load_detection(args, modalities=sorted(search.towers), device=device, dtype=args.dtype)
        kind, rows = found_rows(pipe, args, search)
    skipped = search.pictures.skipped if search.pictures else []
    if args.json:
        written = {"dataset": args.out} if args.dataset else {}
        print(json.dumps({ROWS[kind]: rows, "skipped": skipped, **written}))
    elif not args.quiet:
        for line in [*_lines(rows), *([args.out] if args.dataset else [])]:
            print(line)
    return search.pictures.finished() if search.pictures else 0


def _checked(args: argparse.Namespace) -> Search:
    films = [place for place in args.places if place.lower().endswith(FILMS)]
    images = [*args.image, *(place for place in args.places if place not in films)]
    films += [args.video] if args.video else []
    if len(films) + bool(images) != 1:
        raise UsageError("give what to search: --image or --video, pictures or one film")
    given = {name: getattr(args, name) for name in PROMPTS if getattr(args, name)}
    if not given:
        raise UsageError("nothing to look for: give " + ", ".join(f"--{name}" for name in PROMPTS))
    if args.timeline and (set(given) != {"audio"} or len(given["audio"]) > 1 or len(images) != 1):
        raise UsageError("--timeline: wanted one --image and one --audio, and no other prompt")
    if [*images, *films, *sum(given.values(), [])].count(STDIN) > 1:
        raise UsageError(f"{STDIN}: standard input can be read only once")
    if args.adapter and not args.detector and not args.route:
        raise UsageError("--adapter: the model's own detector brings its own; add --detector")
    check_choice(args)
    args.video = read_inputs({"video": films}).files["video"][0] if films else None
    pictures = read_inputs({"image": images}, keep_going=args.keep_going) if images else None
    prompts = read_inputs({MODALITY.get(name, name): values for name, values in given.items()}).files
    against = given_unwanted(args)
    count = 1 if args.together or args.timeline else sum(map(len, prompts.values()))
    if args.labels and len(args.labels) != count:
        raise UsageError(f"--labels: wanted {count} names, one a prompt, got {len(args.labels)}")
    towers = set(prompts) | set(against) | ({"image"} if args.route == "rescoring" else set())
    towers |= {"text"} if args.route or args.detector else set()
    return Search(pictures, _plan(args, pictures), prompts, read_inputs(against).files if against else {}, towers)


def _plan(args: argparse.Namespace, pictures: Inputs | None) -> list[Path | None]:
    """Where each annotated picture goes."""
    images = pictures.files["image"] if pictures else []
    if args.dataset:
        _check_dataset(args, images)
    if not args.out or args.dataset:
        return [None] * len(images)
    if args.video or args.timeline:
        raise UsageError("--out: boxes are drawn into pictures; a film or a timeline is told as text or --json")
    path = Path(args.out)
    if path.suffix and not path.is_dir() or args.out == "-":
        if len(images) > 1:
            raise UsageError(f"--out {args.out}: {len(images)} pictures; name a folder")
        targets = [check_out_file(args.out, PICTURE_SUFFIXES, args)] if args.out == "-" else [path]
    else:
        folder = check_out_folder(args.out)
        targets = [folder / f"{Path(image).stem}.png" for image in images]
        if len(set(targets)) < len(images):
            raise UsageError("--out: two pictures of one name; search them one by one")
    if same := [t for t, image in zip(targets, images, strict=True) if t.resolve() == Path(image).resolve()]:
        raise InputError(f"--out {same[0]}: is the picture to be searched and would be overwritten")
    if targets == [path]:
        check_out_file(args.out, PICTURE_SUFFIXES, args)
    check_own(targets, args)
    return targets


def _check_dataset(args: argparse.Namespace, images: list[str]) -> None:
    if not args.out or args.video or args.timeline:
        raise UsageError("--dataset: wanted pictures to search, and --out DIR to write them and their boxes to")
    names = [Path(image).stem for image in images]
    if len(set(names)) < len(names):
        raise UsageError("--dataset: two pictures of one name, endings apart; give each a name of its own")
    out = check_out_folder(args.out)
    if out.is_dir() and any(out.iterdir()) and not args.overwrite:
        raise Bind2GenError(f"--out {args.out}: wanted a new or an empty folder; --overwrite adds to what is in it")
    if importlib.util.find_spec("supervision") is None:
        raise DependencyError('--dataset needs supervision: pip install "bind2gen[detection]"')


def _lines(rows: list[dict]) -> list[str]:
    lines = []
    for row in rows:
        where = row.get("image") or (
            f"{row['time']:.2f} s" if "time" in row else f"{row['start']:.1f}-{row['end']:.1f} s"
        )
        for label, words in row.get("understood", {}).items():
            lines.append(f"{label}: taken for " + ", ".join(f"{w} {share:.0%}" for w, share in words.items()))
        if not row["boxes"]:
            lines.append(f"{where}: nothing found")
        for box in row["boxes"]:
            track = f" #{box['track']}" if "track" in box else ""
            corners = " ".join(f"{v:.0f}" for v in box["xyxy"])
            lines.append(f"{where}: {box['label']}{track} {box['score']:.2f} at {corners}")
        if row.get("out"):
            lines.append(row["out"])
    return lines
