"""A picture of how a training run went, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from ..errors import InputError
from ..files.atomic import written_whole

LOG = "metrics.jsonl"
WINDOW = 1 / 12  # of a curve's points, over which the drawn mean is taken; raw values stay visible behind it


def read_metrics(run: str | Path) -> pd.DataFrame:
    """Every logged quantity of a run, a column each, by step; evaluations are named ``eval/...``, NaN is no value.

    A run that was killed and resumed has some steps twice; the later value counts.

    Raises:
        InputError: no ``metrics.jsonl`` there, or a line in it is not JSON.
    """
    path = Path(run) / LOG
    if not path.is_file():
        raise InputError(f"{run}: wanted the folder of a training run, found no {LOG} in it")
    rows, lines = [], path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):  # a killed run may end in half a line
                raise InputError(f"{path}, line {number}: wanted JSON, got {line[:40]!r}") from error
    metrics = pd.json_normalize(rows, sep="/").groupby("step").last().astype(float) if rows else pd.DataFrame()
    metrics = metrics.dropna(axis=1, how="all")  # null: a score that could never be told
    if not metrics.shape[1]:
        raise InputError(f"{run}: nothing was logged yet")
    return metrics


def forget(log: Path, first: int) -> None:
    """Take out of a killed run's log what it told of steps from ``first`` on, which are taken again, and half lines."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    kept = [line for line in lines if line.endswith("\n") and _step_in(line) < first]
    if len(kept) < len(lines):
        with written_whole(log) as temporary:
            temporary.write_text("".join(kept))


def _step_in(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # half a line, and what older versions wrote behind it
        return math.inf


def plot_curves(run: str | Path) -> Path:
    """Draw one small diagram a quantity into the run's folder; returns the picture's path.

    Raises:
        InputError: nothing was logged.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    metrics = read_metrics(run)
    columns = min(3, metrics.shape[1])
    rows = -(-metrics.shape[1] // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, name in zip(axes, sorted(metrics), strict=False):
        values, judged = metrics[name].dropna(), name.startswith("eval/")
        axis.plot(values, "o-" if judged else "-", color="#4477aa", alpha=1.0 if judged else 0.35, markersize=3)
        if not judged and len(values) > 10:
            window = 2 * max(1, int(len(values) * WINDOW / 2)) + 1
            axis.plot(values.rolling(window, center=True, min_periods=1).mean(), color="#4477aa")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(axes):
        axis.set_visible(False)
    path = Path(run) / "curves.png"
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path
