"""Tasks of mteb, run on an encoder, beside the numbers that were published for ImageBind."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mteb
from matplotlib.figure import Figure  # without pyplot: no display, no global state
from mteb.abstasks import AbsTask

from ..errors import InputError, ModalityError, did_you_mean
from ..preprocess.sources import one_line
from .mteb import ImageBindEncoder

PAPER, WRAPPER = "paper", "mteb's wrapper of the reference"


@dataclass(frozen=True)
class Published:
    """What ImageBind reached on a task, 0..1.

    Attributes:
        metric: mteb's name of the paper's measure.
        paper: arXiv 2305.05665, tables 2 to 4 and 7.
        wrapper: measured with mteb's own wrapper of the reference (mteb's pull request 5015), where it was.
    """

    metric: str
    paper: float
    wrapper: float | None = None


CLOTHO = (Published("hit_rate_at_1", 0.060), Published("hit_rate_at_10", 0.284))
# Where mteb asks what the paper asked. Words and prompts are mteb's: the paper averages CLIP's templates.
PUBLISHED = {
    "ESC50_Zeroshot": (Published("accuracy", 0.669, 0.664),),
    "AudioCapsT2ARetrieval": (Published("hit_rate_at_1", 0.093), Published("hit_rate_at_10", 0.423, 0.416)),
    "ClothoT2ARetrieval": CLOTHO,
    "ClothoT2ARetrieval.v2": CLOTHO,
    "Imagenet1kZeroShot": (Published("accuracy", 0.777),),
    "Kinetics400ZeroShot": (Published("accuracy", 0.500),),
    "MSRVTTT2V": (Published("hit_rate_at_1", 0.361),),
    "MSRVTTT2VA": (Published("hit_rate_at_1", 0.368), Published("hit_rate_at_10", 0.700)),
}


@dataclass(frozen=True)
class Score:
    """One number of one task, 0..1; the published ones where there are any."""

    task: str
    metric: str
    score: float
    paper: float | None = None
    wrapper: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_tasks(names: Iterable[str], folder: str | os.PathLike[str] | None = None) -> list[AbsTask]:
    """mteb's tasks by name.

    Args:
        folder: that holds their data as the hub has it, each repository in a subfolder of its name (``mteb/esc50`` or
            ``esc50``); what it lacks comes from the hub.

    Raises:
        InputError: no such task.
    """
    found = []
    for name in names:
        try:
            task = mteb.get_task(name)
        except KeyError as error:
            known = [one.metadata.name for one in mteb.get_tasks()]
            raise InputError(f"{name}: mteb has no such task{did_you_mean(name, known)}") from error
        found.append(task)
        path = task.metadata.dataset["path"]
        places = [Path(folder, part) for part in (path, path.split("/")[-1])] if folder is not None else []
        if local := next((place for place in places if place.is_dir()), None):
            wanted = task.metadata.dataset | {"path": str(local)}
            task.metadata = task.metadata.model_copy(update={"dataset": wanted})
    return found


def run_task(encoder: ImageBindEncoder, task: AbsTask, *, batch_size: int = 16, bar: bool = False) -> list[Score]:
    """A task's main number, or those that the paper has.

    Args:
        batch_size: items at a time.
        bar: show progress on stderr.

    Raises:
        InputError: the task's data cannot be had or read.
        ModalityError: the encoder has no tower for them.
    """
    name = task.metadata.name
    if missing := set(task.metadata.modalities) - set(encoder.mteb_model_meta.modalities):
        raise ModalityError(f"{name}: wanted an encoder of {', '.join(task.metadata.modalities)}; this one has no "
                            f"{' or '.join(sorted(missing))} tower")  # fmt: skip
    try:
        task.load_data()
    except Exception as error:  # noqa: BLE001  (datasets' and the hub's client's, which are many)
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{name}: its data cannot be loaded ({reason}); get them and give their folder") from error
    options = {"batch_size": batch_size, "show_progress_bar": bar}
    result = mteb.evaluate(encoder, task, cache=None, encode_kwargs=options, co2_tracker=False, show_progress_bar=False)
    (found,) = result.task_results
    rows = PUBLISHED.get(name) or (Published(task.metadata.main_score, None),)
    return [
        Score(name, row.metric, float(found.get_score(getter=lambda scores, key=row.metric: scores[key])),
              row.paper, row.wrapper)
        for row in rows
    ]  # fmt: skip


def draw(scores: list[Score], model: str) -> Figure:
    """Bars of every score, the published ones beside them."""
    series = {
        model: [one.score for one in scores], PAPER: [one.paper for one in scores],
        WRAPPER: [one.wrapper for one in scores],
    }  # fmt: skip
    series = {label: values for label, values in series.items() if any(value is not None for value in values)}
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(scores) * (len(series) + 0.6)), layout="constrained")
    axes, thick = figure.subplots(), 0.8 / len(series)
    for place, (label, values) in enumerate(series.items()):
        there = [(i + (place - (len(series) - 1) / 2) * thick, v) for i, v in enumerate(values) if v is not None]
        bars = axes.barh([y for y, _ in there], [100 * v for _, v in there], height=thick, label=label)
        axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    axes.set_yticks(range(len(scores)), [f"{one.task}\n{one.metric}" for one in scores], fontsize=8)
    axes.set(xlim=(0, 105), ylim=(len(scores) - 0.5, -0.5), xlabel="%")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure
