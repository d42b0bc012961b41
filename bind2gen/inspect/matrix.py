"""A matrix of likeness between inputs, drawn: a square a pair, pictures beside their names."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import PurePath

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from ..preprocess.image import upright
from .pictures import DPI, finished, readable

CELL, LEAST, MARGIN = 0.55, 4.0, 2.6  # inches: of a square, of all squares, and for the names
WRITTEN = 24  # inputs up to which values are written into the squares
LETTERS, LINES = 24, 2  # of a name
THUMBNAIL = 36  # pixels, the longer side


def draw_matrix(
    values: np.ndarray, names: Sequence[str], kinds: Sequence[str], files: Sequence[str], title: str
) -> Image.Image:
    """Picture of an (N, N) matrix.

    Args:
        values: of row i with column k, up to 1; NaN is none.
        names, kinds: N of the inputs, and their modalities; those of one kind follow each other.
        files: N paths; of images they are drawn beside their names.
    """
    count = len(names)
    side = max(LEAST, CELL * count)
    figure = Figure(figsize=(side + MARGIN + 0.8, side + MARGIN + 0.4), dpi=DPI, layout="constrained")
    plot = figure.subplots()
    colours = colormaps["viridis"].with_extremes(bad="#dddddd")
    drawn = plot.imshow(values, cmap=colours, vmin=min(0.0, float(np.nanmin(values))), vmax=1.0)
    figure.colorbar(drawn, ax=plot, shrink=0.6)
    labels = [_label(name, kind) for name, kind in zip(names, kinds, strict=True)]
    small = {"fontsize": "small", "parse_math": False}
    plot.set_xticks(range(count), labels, rotation=90, **small)
    plot.set_yticks(range(count), labels, **small)
    for k in range(1, count):
        if kinds[k] != kinds[k - 1]:
            plot.axhline(k - 0.5, color="white", linewidth=2)
            plot.axvline(k - 0.5, color="white", linewidth=2)
    if count <= WRITTEN:
        middle = (drawn.norm.vmin + 1) / 2
        for i, k in np.argwhere(np.isfinite(values)):
            value = values[i, k]
            colour = "black" if value > middle else "white"
            plot.text(k, i, f"{value:.2f}", ha="center", va="center", fontsize="x-small", color=colour)
    shown = [i for i, kind in enumerate(kinds) if kind == "image"]
    for i in shown:
        _beside(plot, i, files[i])
    if shown:  # room for the pictures between the names and the squares
        plot.tick_params(pad=THUMBNAIL / DPI * 72 + 8)
    return finished(figure, title)


def _label(name: str, kind: str) -> str:
    """Of texts up to two lines, of files the end of the path."""
    if kind == "text":
        return "\n".join(textwrap.wrap(name, LETTERS, max_lines=LINES, placeholder="…")) or name
    name = readable(PurePath(name).name)
    return name if len(name) <= LETTERS else f"…{name[1 - LETTERS :]}"


def _beside(plot: Axes, number: int, file: str) -> None:
    picture = upright(file)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    away = THUMBNAIL / DPI * 72 / 2 + 4  # points
    for place, coordinates, offset in (((0, number), ("axes fraction", "data"), (-away, 0)),
                                       ((number, 0), ("data", "axes fraction"), (0, -away))):  # fmt: skip
        plot.add_artist(AnnotationBbox(
            OffsetImage(np.asarray(picture), zoom=72 / DPI), place, xycoords=coordinates, xybox=offset,
            boxcoords="offset points", frameon=False, pad=0,
        ))  # fmt: skip
