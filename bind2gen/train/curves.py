"""A picture of how a training run went, from its ``metrics.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import DependencyError, InputError

NOT_CURVES = frozenset({"step"})
WINDOW = 1 / 12  # of a curve's points, over which the drawn mean is taken; raw values stay visible behind it


def read_metrics(run: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Every logged quantity of a run: name to (step, value) in order; evaluations are named ``eval/...``.

    A run that was killed and resumed has some steps twice; the later value counts.

    Raises:
        InputError: no ``metrics.jsonl`` there, or a line in it is not JSON.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        raise InputError(f"{run}: wanted the folder of a training run, found no metrics.jsonl in it")
    series: dict[str, dict[int, float]] = {}
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):  # a killed run may end in half a line
                break
            raise InputError(f"{path}, line {number}: wanted JSON, got {line[:40]!r}") from error
        values = row | {f"eval/{name}": value for name, value in row.get("eval", {}).items()}
        for name, value in values.items():
            if name not in NOT_CURVES and isinstance(value, int | float):  # null: a score that could not be told
                series.setdefault(name, {})[row["step"]] = float(value)
    return {name: sorted(points.items()) for name, points in series.items()}


def plot_curves(run: str | Path, out: str | Path | None = None) -> Path:
    """Draw one small diagram a quantity; returns the picture's path (``curves.png`` in the run's folder by default).

    Args:
        run: folder of a training run.
        out: file to write; its suffix says the format (png, svg, pdf).

    Raises:
        InputError: nothing was logged.
        DependencyError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # without pyplot: no display, no global state
    except ImportError as error:
        raise DependencyError('drawing curves needs matplotlib: pip install "bind2gen[train]"') from error
    series = read_metrics(run)
    if not series:
        raise InputError(f"{run}: nothing was logged yet")
    columns = min(3, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (name, points) in zip(axes, sorted(series.items()), strict=False):
        steps, values = zip(*points, strict=True)
        judged = name.startswith("eval/")
        axis.plot(steps, values, "o-" if judged else "-", color="#4477aa", alpha=1.0 if judged else 0.35, markersize=3)
        if not judged and len(values) > 10:
            axis.plot(steps, _running_mean(values), color="#4477aa")
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(axes):
        axis.set_visible(False)
    path = Path(out) if out is not None else Path(run) / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def _running_mean(values: tuple[float, ...]) -> list[float]:
    """Centred, so that it does not lag; the window shrinks at both ends."""
    reach = max(1, int(len(values) * WINDOW / 2))
    smooth = []
    for i in range(len(values)):
        side = min(reach, i, len(values) - 1 - i)
        smooth.append(sum(values[i - side : i + side + 1]) / (2 * side + 1))
    return smooth
