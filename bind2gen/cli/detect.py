"""``bind2gen detect``: boxes around what is heard, said or shown."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic import written_whole
from ..errors import InputError
from .arguments import DEFAULT_MODEL, UsageError, above_zero, add_output, finite, whole
from .files import PICTURE_SUFFIXES, check_file, check_out_file, check_out_folder, resolve_inputs
from .loading import choose_device
from .reporting import progress, quiet_models

if TYPE_CHECKING:
    from PIL import Image

    from ..class_prompts import ClassPrompts
    from ..detection import ImageBindDetectionPipeline
    from ..hosts.detections import Detections
    from ..prompt_inputs import MixedPrompt

PROMPTS = ("audio", "text", "like")  # options that name prompts
MODALITY = {"like": "image"}  # what an option is called elsewhere
MAX_DETECTIONS = 1000
JPEG_QUALITY = 95  # of 100


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "detect",
        help="boxes around what is heard, said or shown",
        description="Find in a picture (or a video) what makes a sound, what a text names, or what another picture "
        "shows. Every prompt is a class of its own; nothing is drawn where nothing of it is seen.",
    )
    places = parser.add_argument_group("where to look")
    places.add_argument("--image", nargs="+", metavar="FILE", help="pictures to search")
    places.add_argument("--video", metavar="FILE", help="video to search, frame by frame, boxes tracked")
    prompts = parser.add_argument_group("what to look for")
    prompts.add_argument("--audio", nargs="+", metavar="FILE", help="sound files, or example:NAME; each is a prompt")
    prompts.add_argument("--text", nargs="+", metavar="TEXT", help="words or sentences; each is a prompt")
    prompts.add_argument("--like", nargs="+", metavar="FILE", help="pictures of the thing; each is a prompt")
    prompts.add_argument("--together", action="store_true", help="all of these are one prompt, not one each")
    prompts.add_argument("--not-audio", nargs="+", metavar="FILE", default=[], help="but not what makes this sound")
    prompts.add_argument("--not-text", nargs="+", metavar="TEXT", default=[], help="but not this")
    prompts.add_argument("--labels", nargs="+", metavar="NAME", help="what boxes of each prompt are called")
    _add_detector(parser)
    parser.add_argument("--threshold", type=finite, metavar="S", help="score that a box must exceed, 0..1 "
                        "(default: what the detector was calibrated to)")  # fmt: skip
    parser.add_argument("--max-detections", type=whole(1, MAX_DETECTIONS), default=100, metavar="N")
    parser.add_argument("--timeline", action="store_true",
                        help="one picture, one long sound: when is which box heard")  # fmt: skip
    parser.add_argument("--every", type=above_zero, default=0.5, metavar="S",
                        help="seconds between the frames of a video (default: 0.5)")  # fmt: skip
    parser.add_argument("--out", metavar="FILE_OR_DIR", help="pictures with the boxes drawn in")
    add_output(parser)
    parser.set_defaults(run=run)


def _add_detector(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("detector")
    group.add_argument(
        "--model", metavar="DIR", default=DEFAULT_MODEL,
        help="bundled name or pipeline folder with a detector of its own (default: mini)",
    )  # fmt: skip
    add_detector_choice(group)
    group.add_argument("--imagebind", metavar="PATH_OR_ID", help="encoder of the prompts (default: the model's own)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")


def add_detector_choice(group: Any) -> None:
    """``--detector`` and the ways to it: ``--route``, ``--vocabulary``, ``--class-map``."""
    group.add_argument(
        "--detector", metavar="PATH_OR_ID",
        help="a released Detic .pth, a folder or hub id of a Detic or OWL detector (default: the model's own)",
    )  # fmt: skip
    group.add_argument("--route", choices=("words", "map", "rescoring"),
                       help="from prompt to detector: nearest words, a learned map, or pieces of the picture "
                       "compared with the prompt (default: words; the model's own detector needs none)")  # fmt: skip
    group.add_argument("--vocabulary", metavar="FILE", help="the detector's class vectors of many words, for words")
    group.add_argument("--class-map", metavar="DIR", help="what bind2gen fit-adapter wrote, for map")


def run(args: argparse.Namespace) -> None:
    """Check what can be checked cheaply, load, find, draw."""
    from .detectors import load_detection

    given = _checked(args)
    device = choose_device(args.device)
    with quiet_models(quiet=args.quiet):
        pipe = load_detection(args, modalities=sorted(given["towers"]), device=device)
    if args.timeline:
        rows = _timeline(pipe, args, given["audio"][0])
    else:
        prompts = _prompts(pipe, args, given)
        rows = _video(pipe, args, prompts) if args.video else _pictures(pipe, args, prompts)
    if args.json:
        print(json.dumps(rows))
    elif not args.quiet:
        for line in _lines(rows):
            print(line)


def _checked(args: argparse.Namespace) -> dict[str, Any]:
    """Inputs by option, all there and readable, and the towers that they need."""
    if bool(args.image) == bool(args.video):
        raise UsageError("give --image or --video, one of the two")
    for value in [*(args.image or []), *([args.video] if args.video else [])]:
        check_file(value, "video" if args.video else "image")
    given = {name: getattr(args, name) for name in PROMPTS if getattr(args, name)}
    if not given:
        raise UsageError("nothing to look for: give " + ", ".join(f"--{name}" for name in PROMPTS))
    if args.timeline and (set(given) != {"audio"} or len(given["audio"]) > 1 or not args.image or len(args.image) > 1):
        raise UsageError("--timeline: wanted one --image and one --audio, and no other prompt")
    named = {MODALITY.get(name, name): values for name, values in given.items()}
    against = {name: values for name, values in (("audio", args.not_audio), ("text", args.not_text)) if values}
    towers = set(named) | set(against) | ({"image"} if args.route == "rescoring" else set())
    if args.route or args.detector:
        towers.add("text")
    if args.out:
        _plan(args)
    return {**resolve_inputs(named), "against": resolve_inputs(against), "towers": towers}


def _prompts(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, given: dict[str, Any]) -> ClassPrompts:
    wanted = {name: given[name] for name in ("audio", "text", "image") if name in given}
    if not args.together and not given["against"]:
        return pipe.prompts(**wanted, labels=args.labels)
    return pipe.prompts(mixed=_mixtures(wanted, given["against"], args), labels=args.labels)


def _mixtures(wanted: dict[str, list], against: dict[str, list], args: argparse.Namespace) -> list[MixedPrompt]:
    from ..prompt_inputs import MixedPrompt

    if args.together:
        return [MixedPrompt(wanted, against)]
    return [MixedPrompt({name: value}, against) for name, values in wanted.items() for value in values]


def _pictures(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, prompts: ClassPrompts) -> list[dict]:
    from ..preprocess.image import upright

    rows, targets = [], _plan(args)
    with progress("detect", total=len(args.image), quiet=args.quiet) as bar:
        for image, target in zip(args.image, targets, strict=True):
            picture = upright(image)
            encoded = pipe.encode_image(picture)
            found = pipe.find(encoded, prompts, threshold=args.threshold, max_detections=args.max_detections)
            if target is not None:
                _draw(picture, found, target)
            rows.append({"image": image, **_told(found), "out": None if target is None else str(target)})
            bar.update()
    return rows


def _told(found: Detections) -> dict[str, Any]:
    """Boxes as plain values, and what the prompts were taken for where the route says so."""
    told = {"boxes": [
        {"label": name, "score": round(float(score), 4), "xyxy": [round(float(v), 1) for v in box]}
        for name, score, box in zip(found.names, found.scores, found.xyxy, strict=True)
    ]}  # fmt: skip
    if found.understood is not None:
        told["understood"] = {
            label: {word: round(share, 3) for word, share in words.items()}
            for label, words in zip(found.labels, found.understood, strict=True)
        }
    return told


def _timeline(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, audio: str) -> list[dict]:
    """One row a window."""
    rows = []
    label = args.labels[0] if args.labels else Path(audio).stem
    options = {"threshold": args.threshold, "max_detections": args.max_detections, "masks": False}
    with progress("listen", total=None, quiet=args.quiet) as bar:
        for heard in pipe.listen(args.image[0], audio, label=label, **options):
            boxes = [
                {"label": label, "score": round(float(s), 4), "xyxy": [round(float(v), 1) for v in box]}
                for s, box in zip(heard.detections.scores, heard.detections.xyxy, strict=True)
            ]
            rows.append({"start": round(heard.start, 3), "end": round(heard.end, 3), "boxes": boxes})
            bar.update()
    return rows


def _video(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, prompts: ClassPrompts) -> list[dict]:
    """One row a frame; boxes carry the number of their track."""
    from ..hosts.tracking import track

    options = {"threshold": args.threshold, "max_detections": args.max_detections, "masks": False}
    with progress("watch", total=None, quiet=args.quiet) as bar:
        frames = []
        for frame in pipe.watch(args.video, prompts, every=args.every, **options):
            frames.append(frame)
            bar.update()
    tracked = track([frame.detections for frame in frames])
    rows = []
    for frame, (found, ids) in zip(frames, tracked, strict=True):
        told = _told(found)
        for box, number in zip(told["boxes"], ids, strict=True):
            box["track"] = int(number)
        rows.append({"time": round(frame.time, 3), **told})
    return rows


def _plan(args: argparse.Namespace) -> list[Path | None]:
    """Where each annotated picture goes."""
    count = len(args.image or [])
    if not args.out:
        return [None] * count
    if args.video or args.timeline:
        raise UsageError("--out: boxes are drawn into pictures; a video or a timeline is told as text or --json")
    path = Path(args.out)
    if path.suffix and not path.is_dir():
        if count > 1:
            raise UsageError(f"--out {args.out}: {count} pictures; name a folder")
        targets = [check_out_file(args.out, PICTURE_SUFFIXES)]
    else:
        folder = check_out_folder(args.out)
        targets = [folder / f"{Path(image).stem}.png" for image in args.image]
        if len(set(targets)) < count:
            raise UsageError("--out: two pictures of one name; search them one by one")
    if same := [t for t, image in zip(targets, args.image, strict=True) if t.resolve() == Path(image).resolve()]:
        raise InputError(f"--out {same[0]}: is the picture to be searched and would be overwritten")
    return targets


def _draw(picture: Image.Image, found: Detections, target: Path) -> None:
    from ..hosts.detection_drawing import draw_detections

    target.parent.mkdir(parents=True, exist_ok=True)
    options = {} if target.suffix.lower() == ".png" else {"quality": JPEG_QUALITY}
    with written_whole(target) as temporary:
        draw_detections(picture, found).save(temporary, **options)


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
