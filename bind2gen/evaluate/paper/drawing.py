"""The few-shot curve as a picture, as the paper's figure 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure  # without pyplot: no display, no global state

BESIDE = 0.08  # of the step between two numbers of examples; heads differ so little that they would hide each other


def curve(told: Mapping[str, Any], title: str) -> Figure:
    """Heads over the number of examples, with the deviation over draws; zero-shot as a star at none."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    shots = [int(k) for k in next(iter(told["few-shot"].values()))]
    places = range(1, len(shots) + 1)
    for number, (head, rows) in enumerate(told["few-shot"].items()):
        score, spread = ([100 * row[key] for row in rows.values()] for key in ("score", "deviation"))
        beside = [place + BESIDE * (number - 1) for place in places]
        axes.errorbar(beside, score, spread, marker="o", markersize=4, linewidth=1, capsize=2, label=head)
    words = told["zero-shot"]
    axes.plot([0], [100 * words["score"]], "*", color="black", markersize=13, label="words alone, zero-shot")
    axes.axhline(100 * told["paper"], color="grey", linestyle="--", linewidth=1, label="paper, zero-shot, whole set")
    axes.axhline(100 * words["chance"], color="grey", linestyle=":", linewidth=1, label="chance")
    axes.set_xticks([0, *places], ["0", *map(str, shots)])
    axes.set(xlabel="examples of each class", ylabel="right, %", ylim=(0, 100), title=title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
