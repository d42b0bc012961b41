"""Searching pictures, a film, or a picture through a long sound, and what is told of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files.atomic import written_together
from ..pipelines.prompt_inputs import MixedPrompt
from ..preprocess.image import upright
from .files import save_picture
from .reporting import progress

if TYPE_CHECKING:
    from PIL import Image

    from ..hosts.boxes.detections import Detections
    from ..pipelines.class_vectors import ClassPrompts
    from ..pipelines.detection import ImageBindDetectionPipeline
    from .inputs import Search

ROWS = {"picture": "pictures", "frame": "frames", "window": "windows"}  # what the rows are of -> their name in JSON


def found_rows(
    pipe: ImageBindDetectionPipeline, args: argparse.Namespace, search: Search
) -> tuple[str, list[dict[str, Any]]]:
    """What is found, as plain values, and what each row is of."""
    if args.timeline:
        return "window", _timeline(pipe, args, search)
    prompts = _prompts(pipe, args, search)
    return ("frame", _video(pipe, args, prompts)) if args.video else ("picture", _pictures(pipe, args, search, prompts))


def _prompts(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, search: Search) -> ClassPrompts:
    wanted = {name: search.prompts[name] for name in ("audio", "text", "image") if name in search.prompts}
    if not args.together and not search.against:
        return pipe.prompts(**wanted, labels=args.labels)
    singles = [MixedPrompt({name: value}, search.against) for name, values in wanted.items() for value in values]
    return pipe.prompts(mixed=[MixedPrompt(wanted, search.against)] if args.together else singles, labels=args.labels)


def _pictures(
    pipe: ImageBindDetectionPipeline, args: argparse.Namespace, search: Search, prompts: ClassPrompts
) -> list[dict]:
    rows, found_in = [], {}
    images, names = search.pictures.files["image"], search.pictures.named["image"]
    options = {"threshold": args.threshold, "max_detections": args.max_detections, "masks": not args.dataset}
    with progress("detect", total=len(images), quiet=args.quiet) as bar:
        for start in range(0, len(images), args.batch_size):
            opened = dict(_opened(search, range(start, min(start + args.batch_size, len(images)))))
            encoded = pipe.encode_images(list(opened.values()), batch_size=args.batch_size)
            for (number, picture), features in zip(opened.items(), encoded, strict=True):
                found, target = pipe.find(features, prompts, **options), search.targets[number]
                if target is not None:
                    _draw(picture, found, target)
                found_in[images[number]] = found if args.dataset else None
                rows.append({"image": names[number], **_told(found), "out": None if target is None else str(target)})
            bar.update(args.batch_size)
    if not rows:
        raise InputError(f"none of the {len(images)} pictures can be read: {search.pictures.skipped[0]['reason']}")
    if args.dataset:
        _write_dataset(args.dataset, Path(args.out), found_in)
    return rows


def _write_dataset(form: str, folder: Path, found: dict[str, Detections]) -> None:
    """Pictures (file -> what was found) and their boxes in one of :data:`~bind2gen.cli.detect.DATASETS`."""
    from supervision import DetectionDataset

    classes = list(next(iter(found.values())).labels)
    dataset = DetectionDataset(classes, list(found), {file: one.to_supervision() for file, one in found.items()})
    with written_together(folder) as fresh:
        images = str(fresh / "images")
        if form == "coco":
            dataset.as_coco(images, str(fresh / "annotations.json"))
        elif form == "yolo":
            dataset.as_yolo(images, str(fresh / "labels"), str(fresh / "data.yaml"))
        else:
            dataset.as_pascal_voc(images, str(fresh / "annotations"))


def _opened(search: Search, numbers: range) -> Iterator[tuple[int, Image.Image]]:
    for number in numbers:
        try:
            yield number, upright(search.pictures.files["image"][number])
        except InputError as error:
            search.pictures.skip("image", number, error)


def _told(found: Detections) -> dict[str, Any]:
    """Boxes as plain values, and what the prompts were taken for where the route says so."""
    told: dict[str, Any] = {"boxes": _boxes(found)}
    if found.understood is not None:
        told["understood"] = {
            label: {word: round(share, 3) for word, share in words.items()}
            for label, words in zip(found.labels, found.understood, strict=True)
        }
    return told


def _boxes(found: Detections) -> list[dict[str, Any]]:
    return [
        {"label": name, "score": round(float(score), 4), "xyxy": [round(float(v), 1) for v in box]}
        for name, score, box in zip(found.names, found.scores, found.xyxy, strict=True)
    ]


def _timeline(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, search: Search) -> list[dict]:
    """One row a window."""
    [image], [audio] = search.pictures.files["image"], search.prompts["audio"]
    rows = []
    label = args.labels[0] if args.labels else Path(audio).stem
    options = {"threshold": args.threshold, "max_detections": args.max_detections, "masks": False}
    with progress("listen", total=None, quiet=args.quiet) as bar:
        for heard in pipe.listen(image, audio, label=label, **options):
            rows.append({"start": round(heard.start, 3), "end": round(heard.end, 3), "boxes": _boxes(heard.detections)})
            bar.update()
    return rows


def _video(pipe: ImageBindDetectionPipeline, args: argparse.Namespace, prompts: ClassPrompts) -> list[dict]:
    """One row a frame; boxes carry the number of their track."""
    from ..hosts.boxes.tracking import track

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


def _draw(picture: Image.Image, found: Detections, target: Path) -> None:
    from ..hosts.boxes.drawing import draw_detections

    target.parent.mkdir(parents=True, exist_ok=True)
    save_picture(draw_detections(picture, found), target)
