"""``bind2gen eval paper``: the sets of ImageBind's paper that mteb lacks, as they are published."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError, UnreadableError
from ..evaluate.paper.table import FEW_SHOT, RETRIEVAL, SETS, TASKS, Line, lines
from .arguments import UsageError, add_models, add_output, comma_separated, option_of, whole
from .classify import TEMPLATE_SETS
from .files import STDOUT, check_out_file, check_own, save_figures, written
from .inputs import Inputs
from .loading import choose_device, choose_dtype, choose_model, load_encoder
from .reporting import FAILED, aligned, progress, say
from .sensors import DEPTH_CONVENTIONS, DEPTH_HOLES, THERMAL_NORMALIZATIONS

if TYPE_CHECKING:
    import torch

    from ..evaluate.paper.contract import Item, PublishedSet
    from ..imagebind.model import ImageBindModel
    from ..imagebind.processor import ImageBindProcessor

IMU_READINGS = ("ten_seconds", "five_seconds")  # of preprocess.imu, likewise
SETTINGS = {"depth_convention": DEPTH_CONVENTIONS, "depth_holes": DEPTH_HOLES,
            "thermal_normalization": THERMAL_NORMALIZATIONS}  # fmt: skip
OF_ONE = {**{name: name.split("_")[0] for name in SETTINGS}, "imu_reading": "imu", "reference_clips": "audio"}
UNREADABLE, DRAWS, MOST = 20, 5, 10_000_000


def add_parser(suites: Any) -> None:
    """Add this suite to those of ``bind2gen eval``."""
    parser = suites.add_parser(
        "paper",
        help="the paper's sets that mteb lacks: SUN RGB-D, NYU-v2, LLVIP, Ego4D, Places365 ...; few-shot curves",
        description="Read a set as it is published, name its things by words in CLIP's captions, find their photos or "
        "learn from a few examples, and tell the paper's number beside. --list shows what gives which line of its "
        "table. Needs pip install 'bind2gen[eval]'.",
    )
    parser.add_argument("--list", action="store_true", help="print the paper's table and the command for each line")
    parser.add_argument("--set", choices=SETS, metavar="NAME", help=", ".join(SETS))
    parser.add_argument("--task", choices=TASKS, metavar="TASK", help=f"{', '.join(TASKS)} (default: the first that "
                        "the set has)")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="folder of the set, laid out as it is published")
    parser.add_argument("--out", metavar="JSON", help="file for the figures; of a few-shot curve a picture beside it")
    group = parser.add_argument_group("what is scored")
    group.add_argument("--only", metavar="GROUP,...", help="these folds (ESC-50) or sensors (SUN RGB-D) alone")
    group.add_argument("--limit", type=whole(1, MOST), metavar="N", help="N things by chance, a quick look")
    group.add_argument("--unreadable", type=whole(0, MOST), default=UNREADABLE, metavar="N",
                       help="give up when more files than this cannot be read")  # fmt: skip
    group.add_argument("--shots", default="1,2,4,8", metavar="K,...", help="examples of a class, for few-shot")
    group.add_argument("--draws", type=whole(1, 1000), default=DRAWS, metavar="N", help="of examples, of each fold")
    group = parser.add_argument_group("how the model is asked (default: as its processor says)")
    group.add_argument("--template-set", choices=TEMPLATE_SETS, default="clip80", metavar="SET",
                       help=f"captions of words: {', '.join(TEMPLATE_SETS)}; the paper has clip80")  # fmt: skip
    group.add_argument("--reference-clips", action="store_true", help="cut sounds as the reference does, faults "
                       "included: what published numbers were measured with")  # fmt: skip
    for name, choices in SETTINGS.items():
        group.add_argument(option_of(name), choices=choices, metavar="NAME", help=", ".join(choices))
    group.add_argument("--imu-reading", choices=IMU_READINGS, metavar="NAME", help="what the tower's samples last: "
                       "ten_seconds (imu2clip) or five_seconds (the paper's text)")  # fmt: skip
    add_models(parser, model_help="bundled name, pipeline folder or hub id whose encoder to score")
    add_output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, read the set, embed, score, tell."""
    if args.list:
        print(json.dumps([dict(zip(("set", "task", "paper", "command"), row, strict=True)) for row in lines()])
              if args.json else aligned([("set", "task", "paper", "command"), *lines()]))  # fmt: skip
        return 0
    line, task, shots, out = _checked(args)
    choice = choose_model(args.model, args.imagebind, needs_pipeline=False)
    device = choose_device(args.device)
    importlib.import_module("..evaluate.paper.scoring", __package__)  # what is missing is told before the long work
    reader = importlib.import_module(f"..evaluate.paper.{line.reader}", __package__)
    only = comma_separated(args.only or "")
    data = reader.read(Path(args.data), _watcher(args)).narrowed(only, args.limit)
    for note in data.notes:
        say(f"bind2gen: note: {args.set}: {note}")
    towers = sorted({line.modality, "image" if task == RETRIEVAL else "text"})
    options = {"device": device, "dtype": choose_dtype(args.dtype, device, choice), "quiet": args.quiet}
    model, processor = load_encoder(choice, modalities=towers, **options)
    _ask(processor, args)
    scorer = _Scorer(args, line, data, model, processor)
    told = {
        "bind2gen": __version__, "model": choice.label, "set": args.set, "task": task, "paper": line.paper,
        "metric": line.metric, "templates": args.template_set, "reference_clips": args.reference_clips,
        "settings": getattr(processor, line.modality).to_dict(), "only": only, "limit": args.limit,
        **(scorer.retrieved() if task == RETRIEVAL else scorer.learnt(shots) if task == FEW_SHOT else scorer.named()),
        "expected": line.expected, "notes": list(data.notes), "skipped": scorer.skipped,
    }  # fmt: skip
    if out:
        _write(out, told, line)
    if args.json:
        print(json.dumps(told))
    elif not args.quiet:
        print(_table(told, line))
    return FAILED if scorer.skipped else 0


def _checked(args: argparse.Namespace) -> tuple[Line, str, list[int], Path | None]:
    """What can be known to be wrong before anything is loaded."""
    if not args.set or not args.data:
        raise UsageError(f"wanted --set NAME ({', '.join(SETS)}) and --data DIR; --list shows the paper's table")
    line = SETS[args.set]
    task = args.task or line.tasks[0]
    if task not in line.tasks:
        raise UsageError(f"--task {task}: {args.set} has {', '.join(line.tasks)}")
    if not Path(args.data).is_dir():
        raise UnreadableError(f"--data {args.data}: wanted a folder with {line.layout}, there is none")
    shots = comma_separated(args.shots)
    if not shots or not all(word.isdecimal() and 0 < int(word) <= MOST for word in shots):
        raise UsageError(f"--shots: wanted whole numbers above zero, such as 1,2,4,8, got {args.shots!r}")
    for name, kind in OF_ONE.items():
        if getattr(args, name) and kind != line.modality:
            raise UsageError(f"{option_of(name)}: {args.set} has no {kind}, it is of {line.modality}")
    out = check_out_file(args.out, (".json",), args) if args.out else None
    if out and task == FEW_SHOT:
        check_own([out.with_suffix(".png")], args)
    return line, task, sorted(set(map(int, shots))), out


def _ask(processor: ImageBindProcessor, args: argparse.Namespace) -> None:
    """Give the processor the settings that the command line has, for this run."""
    for name in SETTINGS:
        if (value := getattr(args, name)) is not None:
            kind, field = name.split("_", 1)
            setattr(processor, kind, replace(getattr(processor, kind), **{field: value}))
    if args.reference_clips:
        processor.audio = replace(processor.audio, policy="reference")
    if args.imu_reading:
        from ..preprocess.imu import READINGS

        processor.imu = replace(processor.imu, sampling_rate=READINGS[args.imu_reading].sampling_rate)


class _Scorer:
    """A set and a model: embeds what a task needs, leaves out what cannot be read, scores the rest."""

    def __init__(
        self, args: argparse.Namespace, line: Line, data: PublishedSet, model: ImageBindModel,
        processor: ImageBindProcessor,
    ) -> None:  # fmt: skip
        self.args, self.line, self.data, self.model, self.processor = args, line, data, model, processor
        self.skipped: list[dict[str, str]] = []

    def named(self) -> dict[str, Any]:
        """By words."""
        kept, rows = self._embedded(self.data.items)
        return {"items": len(kept), "zero-shot": self._zero_shot(kept, rows)}

    def retrieved(self) -> dict[str, Any]:
        """Photos by what was sensed, and back."""
        from ..evaluate.paper.scoring import retrieval

        if len(self.data.pairs) < 2:
            raise InputError(f"--task {RETRIEVAL}: wanted two things with photos or more, {self.args.data} has "
                             f"{len(self.data.pairs)}")  # fmt: skip
        kept, rows = self._embedded(self.data.pairs)
        seen, photos = self._embedded(kept, "image", lambda item: item.photo())
        places = {id(item): i for i, item in enumerate(kept)}
        rows = rows[[places[id(item)] for item in seen]]
        return {"items": len(seen), RETRIEVAL: retrieval(rows, photos, [item.name for item in seen])}

    def learnt(self, shots: Sequence[int]) -> dict[str, Any]:
        """From a few examples, with zero-shot beside them."""
        from ..evaluate.paper.scoring import few_shot

        every = list({id(item): item for item in (*self.data.items, *self.data.training)}.values())
        kept, rows = self._embedded(every)
        places = {id(item): i for i, item in enumerate(kept)}
        items, training = ([item for item in part if id(item) in places] for part in
                           (self.data.items, self.data.training))  # fmt: skip
        tested, known = (rows[[places[id(item)] for item in part]] for part in (items, training))
        data = replace(self.data, items=items, training=training)
        folds = len({item.group for item in items}) if data.folds else 1
        with progress("learn", total=folds * len(shots) * self.args.draws, quiet=self.args.quiet) as bar:
            found = few_shot(data, tested.numpy(), known.numpy(), shots=shots, draws=self.args.draws, step=bar.update)
        told = {"items": len(items), "examples": len(training), "draws": self.args.draws}
        return told | {"zero-shot": self._zero_shot(items, tested), FEW_SHOT: found}

    def _zero_shot(self, items: Sequence[Item], rows: torch.Tensor) -> dict[str, Any]:
        from ..evaluate.paper.scoring import class_scores, zero_shot
        from ..space.text_towers import EncoderText
        from ..space.vocabulary import embed_names
        from ..space.zero_shot import template_set

        names = sorted({name for one in self.data.classes.values() for name in one})
        templates = template_set(self.args.template_set)
        with progress("words", total=len(names) * len(templates), quiet=self.args.quiet) as bar:
            text = EncoderText(self.model, self.processor)
            words = dict(zip(names, embed_names(names, text, templates=templates, progress=bar.update), strict=True))
        scores = class_scores(rows, list(self.data.classes.values()), words)
        return zero_shot(scores, list(self.data.classes), items, self.line.metric)

    def _embedded(
        self, items: Sequence[Item], kind: str | None = None, load: Callable[[Item], Any] = lambda item: item.load()
    ) -> tuple[list[Item], torch.Tensor]:
        """The items that can be read, and their embeddings (N, D) unit norm."""
        import torch

        from ..imagebind.embedding import embed_inputs

        kind, most = kind or self.line.modality, self.args.unreadable
        inputs = Inputs({kind: [item.name for item in items]}, {kind: list(items)}, keep_going=True)

        def encode(batch: list[Item]) -> torch.Tensor:
            return embed_inputs(self.model, self.processor, {kind: [load(item) for item in batch]})[kind]

        with progress(f"encode {kind}", total=len(items), quiet=self.args.quiet) as bar:

            def done(count: int) -> None:
                bar.update(count)
                if len(inputs.skipped) > most:
                    raise InputError(f"more than {most} files of {self.args.data} cannot be read (--unreadable), the "
                                     f"first: {inputs.skipped[0]['reason']}")  # fmt: skip

            found = inputs.encoded(kind, encode, self.args.batch_size, done)
        if not found:
            raise InputError(f"{self.args.data}: none of {len(items)} files can be read, the first: "
                             f"{inputs.skipped[0]['reason']}")  # fmt: skip
        self.skipped += inputs.skipped
        return [items[i] for i in found], torch.stack([row.float().cpu() for row in found.values()])


# ---- telling ----


def _watcher(args: argparse.Namespace) -> Callable[[Sequence[Any], str], Iterable[Any]]:
    def watched(things: Sequence[Any], what: str) -> Iterable[Any]:
        with progress(what, total=len(things), quiet=args.quiet) as bar:
            for thing in things:
                yield thing
                bar.update()

    return watched


def _write(out: Path, told: dict[str, Any], line: Line) -> None:
    save_figures(told, out)
    if FEW_SHOT in told and str(out) != STDOUT:
        from ..evaluate.paper.drawing import curve
        from ..files.pictures import MAKER

        with written(out.with_suffix(".png")) as temporary:
            title = f"{line.title}: {told['model']}, {told['items']:,} items"
            curve(told, title).savefig(temporary, dpi=110, metadata={"Software": MAKER})


def _table(told: dict[str, Any], line: Line) -> str:
    """For people: what was measured, the paper's number and chance beside it."""
    rows: list[tuple[str, ...]] = [(f"{line.title}, {told['task']}", told["model"], "paper", "chance")]
    if named := told.get("zero-shot"):
        error = f" ± {_percent(named['error'])}" if "error" in named else ""
        rows.append((line.metric, _percent(named["score"]) + error, _percent(told["paper"]), _percent(named["chance"])))
        rows += [(name, _percent(named[name]), "", "") for name in ("balanced", "first five", "largest class")
                 if name in named]  # fmt: skip
        rows += [(f"  {group}", _percent(share), "", "") for group, share in named.get("groups", {}).items()]
    for way, found in told.get(RETRIEVAL, {}).items():
        rows += [(f"{way}, {name}", f"{_percent(one['score'])} ± {_percent(one['error'])}", "",
                  _percent(one["chance"])) for name, one in found.items()]  # fmt: skip
    tables = [rows]
    if learnt := told.get(FEW_SHOT):
        tables.append([("examples of each class", *next(iter(learnt.values())))])
        tables[1] += [(head, *(f"{_percent(one['score'])} ± {_percent(one['deviation'])}" for one in found.values()))
                      for head, found in learnt.items()]  # fmt: skip
    return "\n".join([*map(aligned, tables), f"{told['items']:,} items; the paper's {line.expected:,}"])


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
