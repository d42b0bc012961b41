"""``bind2gen fit-classifier``: a classifier from a folder a label, a few examples each."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, UnreadableError
from ..files.endings import FILMS, PICTURES, SOUNDS
from ..files.tables import read_csv
from .arguments import UsageError, add_keep_going, add_models, add_output, whole
from .files import check_out_folder
from .inputs import IN_FOLDERS, read_inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .sensors import add_sensors, sensor_options

HEADS = ("prototype", "ridge", "logistic")  # of train.few_shot, which imports torch
WRITES = ("metrics.json", "config.json", "diffusion_pytorch_model.safetensors", "README.md")
BY_ENDING = {"audio": SOUNDS, "image": PICTURES, "video": FILMS}
COLUMNS = ("path", "label")  # of a csv, besides "group"


@dataclass(frozen=True)
class Example:
    """A file, what it is, and the source that it is from."""

    path: str
    label: str
    group: str


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "fit-classifier",
        help="learn labels from a few examples each, for classify --classifier",
        description="Fit linear heads on embeddings of examples, judge them on sources that were left out, and write "
        "the best one with its figures. Folders within a label's folder are sources: files of one source are never "
        "on both sides, for pieces of one recording tell each other.",
    )
    parser.add_argument("examples", metavar="DIR_OR_CSV",
                        help="folder with a folder a label, or a csv with the columns path, label and, if known, "
                        "group")  # fmt: skip
    parser.add_argument(
        "--as", dest="kind", choices=(*IN_FOLDERS, "imu"), metavar="KIND",
        help="audio, image, video, depth, thermal or imu (default: by the endings of files)",
    )  # fmt: skip
    parser.add_argument("--group-by", metavar="REGEX",
                        help="source of a file by its name: the pattern's first group, such as '^(.*)-' "
                        "(default: its folder within the label's, else each file is a source)")  # fmt: skip
    parser.add_argument("--head", choices=HEADS, help="default: the simplest of the best on left-out sources")
    parser.add_argument("--folds", type=whole(2, 100), default=5, metavar="N", help="at most so many as a label has "
                        "sources")  # fmt: skip
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    add_keep_going(parser)
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_sensors(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, embed, fit, write."""
    kind, examples = find_examples(Path(args.examples), args.kind, args.group_by)
    sensors = sensor_options(args, {kind: []})
    inputs = read_inputs({kind: [one.path for one in examples]}, keep_going=args.keep_going is not False)
    out = check_out_folder(args.out, files=WRITES, args=args)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    import torch

    from ..space.text_towers import EncoderText
    from ..space.vocabulary import embed_names
    from ..space.zero_shot import pair_scale, template_set
    from ..train.few_shot import fit_classifier, write_classifier

    options = {"device": device, "dtype": choose_dtype(args.dtype, device, choice), "quiet": args.quiet}
    model, processor = load_encoder(choice, modalities=sorted({kind, "text"}), **options)
    sensors.adapt(processor)
    found = inputs.embedded(model, processor, sensors, batch_size=args.batch_size, quiet=args.quiet)[kind]
    kept = [examples[i] for i in found]
    if len({one.label for one in kept}) < 2:
        raise InputError(f"{args.examples}: wanted examples of two labels or more, {len(kept)} files could be read")
    labels = sorted({one.label for one in kept})
    texts = template_set("audio" if kind == "audio" else "clip80")
    words = embed_names([label.replace("_", " ") for label in labels], EncoderText(model, processor), templates=texts)
    made, report = fit_classifier(
        torch.stack(list(found.values())), [one.label for one in kept], modality=kind,
        groups=[one.group for one in kept], head=args.head, folds=args.folds, scale=pair_scale(model, kind, "text"),
        words=dict(zip(labels, words, strict=True)),
    )  # fmt: skip
    made.register_to_config(encoder=model.fingerprint())
    files = [str(path) for path in write_classifier(out, made, report, encoder=choice.label)]
    if args.json:
        told = {"folder": str(out), "files": files, **report.to_dict(), "skipped": inputs.skipped}
        print(json.dumps(told))
    elif not args.quiet:
        print(report.table())
        print(out)
    return inputs.finished()


def find_examples(place: Path, kind: str | None, group_by: str | None) -> tuple[str, list[Example]]:
    """What the files are, and all of them, sorted.

    Raises:
        UnreadableError: there is no such place, or nothing in it.
        InputError: files of several kinds and none was asked for; a file without a source.
        UsageError: a pattern that is none.
    """
    if place.is_file():
        rows = _from_csv(place)
    elif place.is_dir():
        rows = [
            (path, folder.name, path.parent.relative_to(folder).as_posix())
            for folder in sorted(place.iterdir()) if folder.is_dir() and not folder.name.startswith(".")
            for path in sorted(folder.iterdir() if kind == "imu" else folder.rglob("*"))
            if not path.name.startswith(".") and (kind == "imu" or path.is_file())
        ]  # fmt: skip
    else:
        raise UnreadableError(f"{place}: wanted a folder with a folder a label, or a csv; there is none")
    kind = kind or _guessed(place, [path for path, _, _ in rows])
    if place.is_dir() and kind != "imu":
        rows = [row for row in rows if row[0].suffix.lower() in IN_FOLDERS[kind]]
    if not rows:
        endings = " ".join(IN_FOLDERS.get(kind, ()))
        raise UnreadableError(f"{place}: wanted {kind} files ({endings}) in a folder a label, found none")
    examples = []
    for path, label, group in rows:
        source = _source(path, group_by) if group_by else f"{label}/{group}" if group not in ("", ".") else str(path)
        examples.append(Example(str(path), label, source))
    return kind, examples


def _from_csv(file: Path) -> list[tuple[Path, str, str]]:
    table = read_csv(file, COLUMNS, str(file))
    groups = table["group"] if "group" in table else [""] * len(table)
    return [(file.parent / path, label, group) for path, label, group in
            zip(table["path"], table["label"], groups, strict=True)]  # fmt: skip


def _guessed(place: Path, paths: list[Path]) -> str:
    counts = Counter(name for path in paths for name, ends in BY_ENDING.items() if path.suffix.lower() in ends)
    if len(counts) == 1:
        return next(iter(counts))
    found = " and ".join(f"{count} {name}" for name, count in counts.items()) or "no known"
    raise InputError(f"{place}: wanted files of one kind, found {found} files; say which by --as")


def _source(path: Path, pattern: str) -> str:
    try:
        found = re.search(pattern, path.name)
    except re.error as error:
        raise UsageError(f"--group-by: wanted a regular expression, got {pattern!r} ({error})") from None
    if found is None:
        raise InputError(f"{path}: --group-by {pattern!r} is not in its name")
    return found.group(1) if found.groups() else found.group(0)
