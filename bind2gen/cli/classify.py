"""``bind2gen classify``: what inputs are, among labels given as words, as sounds or pictures, or as examples before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .arguments import (
    INPUT_MODALITIES,
    UsageError,
    add_inputs,
    add_models,
    add_output,
    comma_separated,
    given_inputs,
    share,
    whole,
)
from .inputs import Inputs, read_inputs
from .loading import ModelChoice, choose_device, choose_dtype, choose_model, load_encoder, quiet_models
from .names import display_names
from .sensors import add_sensors, sensor_options

if TYPE_CHECKING:
    import torch

    from ..imagebind.model import ImageBindModel
    from ..imagebind.processor import ImageBindProcessor
    from ..space.zero_shot import Answers

TEMPLATE_SETS = ("clip80", "audio", "none")  # of space.zero_shot, which imports torch
SHOWN = 5  # labels of an input that are printed
BY_FILE = tuple(name for name in INPUT_MODALITIES if name != "text")


def add_parser(commands: Any) -> None:
    """Add this command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "classify",
        help="name sounds, pictures and anything else by words, by examples, or by a fitted classifier",
        description="How probable each label is, at the scale that the model was trained with. What is more like one "
        "of some 150 everyday words than like any label is none of these.",
    )
    add_inputs(parser)
    group = parser.add_argument_group("labels")
    group.add_argument("--labels", nargs="+", action="extend", metavar="NAME", help="words: dog,cat or 'a dog' 'a cat'")
    group.add_argument("--labels-file", metavar="FILE", help="words: text with one a line, csv or JSON")
    for name in BY_FILE:
        group.add_argument(f"--label-{name}", nargs="+", action="extend", metavar="NAME=FILE",
                           help="labels by what they sound or look like; several of a name count together"
                           if name == BY_FILE[0] else None)  # fmt: skip
    group.add_argument("--classifier", metavar="DIR", help="what bind2gen fit-classifier wrote, instead of labels")
    group.add_argument(
        "--template-set", choices=TEMPLATE_SETS, metavar="SET",
        help=f"captions that words are put in: {', '.join(TEMPLATE_SETS)} (default: audio for sounds, else clip80)",
    )  # fmt: skip
    group.add_argument(
        "--multi", action="store_true", help="each label by itself, as of sounds that mix; words as labels alone"
    )
    group.add_argument(
        "--threshold", type=share, metavar="P",
        help="probability of being any of the labels under which it is none of them (default: 0.5, or the "
        "classifier's; 0: never)",
    )  # fmt: skip
    parser.add_argument("-k", type=whole(1, 1000), default=SHOWN, dest="shown", metavar="N", help="labels to print")
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to use")
    add_sensors(parser)
    add_output(parser, writes=False)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, load the encoder, embed labels and inputs, tell."""
    named = given_inputs(args)
    sensors = sensor_options(args, named)
    words, files = _labels(args)
    inputs = read_inputs(named, keep_going=args.keep_going)
    examples = {name: read_inputs({name: [file for _, file in pairs]}) for name, pairs in files.items()}
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    if args.classifier and not Path(args.classifier, "config.json").is_file():
        raise InputError(f"--classifier {args.classifier}: wanted a folder that bind2gen fit-classifier wrote, "
                         "found no config.json in it")  # fmt: skip
    device = choose_device(args.device)
    # Two kinds of pictures have no scale of their own, so texts lend theirs.
    towers = {*named, *files, *(["text"] if words or not {"audio", "depth", "thermal", "imu"} & {*files} else [])}
    if args.classifier:
        towers = set(named)
    options = {"device": device, "dtype": choose_dtype(args.dtype, device, choice), "quiet": args.quiet}
    model, processor = load_encoder(choice, modalities=sorted(towers), **options)
    sensors.adapt(processor)
    if args.classifier:
        naming = _fitted(args.classifier, model, named)
    else:
        found = {name: one.embedded(model, processor, sensors, batch_size=args.batch_size, quiet=args.quiet)[name]
                 for name, one in examples.items()}  # fmt: skip
        by_file = {name: [(label, found[name][i]) for i, (label, _) in enumerate(pairs)]
                   for name, pairs in files.items()}  # fmt: skip
        naming = _Labels(words, by_file, model, processor, choice, args)
    embedded = inputs.embedded(model, processor, sensors, batch_size=args.batch_size, quiet=args.quiet)
    items = [item for name, rows in embedded.items() if rows for item in _told(name, rows, naming, inputs, args)]
    if not items:
        raise InputError(f"none of the {inputs.count} inputs can be read: {inputs.skipped[0]['reason']}")
    if args.json:
        print(json.dumps({"items": items, "model": choice.label, "skipped": inputs.skipped}))
    elif not args.quiet:
        print("\n".join(_line(item, args.shown) for item in items))
    return inputs.finished()


def _labels(args: argparse.Namespace) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """Labels as words, and modality -> pairs of a label and a file.

    Raises:
        UsageError: none, or some beside a classifier; what cannot go together.
    """
    words = [name for text in args.labels or () for name in comma_separated(text)]
    if args.labels_file:
        from ..space.vocabulary import read_names

        words += read_names(args.labels_file)
    files = {}
    for name in BY_FILE:
        pairs = [text.partition("=") for text in getattr(args, f"label_{name}") or ()]
        if wrong := [label + file for label, equals, file in pairs if not (label and equals and file)]:
            raise UsageError(f"--label-{name}: wanted NAME=FILE, got {wrong[0]!r}")
        if pairs:
            files[name] = [(label, file) for label, _, file in pairs]
    several = bool(words or files)
    if several == bool(args.classifier):
        what = "--classifier has labels of its own" if several else "give --labels, --label-audio or --classifier"
        raise UsageError(f"wanted labels: {what}")
    if args.multi and (files or args.classifier):
        raise UsageError("--multi: wanted labels as words alone (--labels), against which other words can be weighed")
    if args.template_set and not words:
        raise UsageError("--template-set: only with labels as words (--labels)")
    names = {*words, *(label for pairs in files.values() for label, _ in pairs)}
    if several and len(names) < 2 and not (words and not files):
        raise UsageError("wanted at least two labels; one alone can only be told from others as a word (--labels)")
    return list(dict.fromkeys(words)), files


def _fitted(folder: str, model: ImageBindModel, named: Mapping[str, Any]) -> Any:
    from ..space.classifier import EmbeddingClassifier

    with quiet_models(quiet=True):
        classifier = EmbeddingClassifier.from_pretrained(folder).to(model.device)
    classifier.check(model)
    if wrong := [name for name in named if name != classifier.config.modality]:
        raise InputError(f"--classifier {folder}: was fitted on {classifier.config.modality}, got --{wrong[0]}")
    return lambda _, embeds: classifier(embeds)


class _Labels:
    """Labels as words and files: (modality, embeddings (N, D) of it) -> answers.

    Vectors of several modalities are moved over the gap between them first, where it is known.
    """

    def __init__(
        self,
        words: list[str],
        by_file: dict[str, list[tuple[str, torch.Tensor]]],
        model: ImageBindModel,
        processor: ImageBindProcessor,
        choice: ModelChoice,
        args: argparse.Namespace,
    ) -> None:
        from ..pipelines.parts import saved_adapter
        from ..space.adapter import EmbeddingAdapter

        self.words, self.by_file, self.model, self.processor = words, by_file, model, processor
        self.templates, self.independent = args.template_set, args.multi
        self.adapter = None
        if len(by_file) + bool(words) > 1:
            own = saved_adapter(choice.imagebind or choice.source)
            fits = own is not None and own.fits(model)
            self.adapter = own if fits else EmbeddingAdapter(model.config.embed_dim)  # which warns of what it lacks

    def __call__(self, modality: str, embeds: torch.Tensor) -> Answers:
        import torch

        from ..space.arithmetic import normalize
        from ..space.zero_shot import ZeroShotClassifier, pair_scale

        if not self.by_file:
            options = {"modality": modality, "templates": self.templates}
            made = ZeroShotClassifier.from_model(self.model, self.processor, self.words, **options)
            return made(embeds, independent=self.independent)
        rows: dict[str, list[torch.Tensor]] = {}  # label -> (D,) of each of its examples and of its words
        for name, pairs in self.by_file.items():
            for label, row in pairs:
                rows.setdefault(label, []).append(self._moved(name, row[None])[0])
        if self.words:
            by_words = ZeroShotClassifier.from_model(
                self.model, self.processor, self.words, modality=modality, templates=self.templates, others=()
            )
            for label, row in zip(self.words, self._moved("text", by_words.vectors), strict=True):
                rows.setdefault(label, []).append(row)
        vectors = torch.stack([normalize(torch.stack(parts)).mean(0) for parts in rows.values()])
        scale = pair_scale(self.model, modality, next(iter(self.by_file)))
        return ZeroShotClassifier(list(rows), vectors, scale)(self._moved(modality, embeds))

    def _moved(self, modality: str, embeds: torch.Tensor) -> torch.Tensor:
        return self.adapter.shift(modality, embeds.cpu().float()) if self.adapter is not None else embeds.cpu().float()


def _told(
    modality: str, rows: Mapping[int, torch.Tensor], naming: Any, inputs: Inputs, args: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    import torch

    answers = naming(modality, torch.stack(list(rows.values())))
    names = display_names(inputs.named[modality], modality)
    threshold = answers.threshold if args.threshold is None else args.threshold
    for i, number in enumerate(rows):
        shares = answers.probabilities[i].tolist()
        item: dict[str, Any] = {"input": names[number], "modality": modality}
        item["probabilities"] = {label: round(p, 4) for label, p in zip(answers.labels, shares, strict=True)}
        best = max(item["probabilities"], key=item["probabilities"].__getitem__)
        known = None if answers.known is None else round(float(answers.known[i]), 4)
        none = known is not None and known < threshold
        item |= {"label": None if none else best, "any": known, "threshold": threshold}
        if args.multi:
            item["labels"] = [label for label, p in item["probabilities"].items() if p >= threshold]
        if answers.nearer_to is not None:
            item["nearest_other_word"] = answers.nearer_to[i]
        if answers.agreement is not None:
            item["agreement"] = round(float(answers.agreement[i]), 4)
        yield item


def _line(item: Mapping[str, Any], shown: int) -> str:
    best = sorted(item["probabilities"].items(), key=lambda pair: -pair[1])[:shown]
    words = ", ".join(f"{label} {p:.2f}" for label, p in best)
    if item["label"] is None:
        nearer = f", nearer to {item['nearest_other_word']}" if "nearest_other_word" in item else ""
        words = f"none of these (any {item['any']:.2f}{nearer}): {words}"
    if (agreement := item.get("agreement", 1.0)) < 1:
        words += f"; {agreement:.0%} of wordings agree"
    return f"{item['input']}: {words}"
