"""Charts for people, by Pillow alone: values as colours, curves over time, pictures, with axes and titles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..preprocess.palettes import PALETTES

INK, FAINT, PAPER = (32, 32, 36), (205, 205, 210), (255, 255, 255)
HOLE = (150, 150, 150)  # where there is no value
SHADE = (236, 236, 240)
# Okabe and Ito's colours, which colour-blind people tell apart too.
CURVES = ((0, 114, 178), (213, 94, 0), (0, 158, 115))
TEXT, TITLE = 12, 13  # pixels
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 24, 38  # pixels around a plot, for its axes
BAR = 62  # pixels for a bar of colours and its numbers
FINER = 3  # curves are drawn so many times as large and shrunk, which smooths them
GAP = 10  # pixels between panels


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        label: what it shows, with its unit.
        ticks: place (0..1 from the left or the bottom) and text of each mark.
    """

    label: str
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def linear(cls, label: str, low: float, high: float, count: int = 6) -> Axis:
        """Round numbers from ``low`` to ``high``, about ``count`` of them; downwards where ``high`` is less."""
        if high < low:
            mirrored = cls.linear(label, high, low, count)
            return cls(label, tuple((1 - place, text) for place, text in mirrored.ticks))
        if not high > low:
            return cls(label, ())
        rough = (high - low) / count
        size = 10.0 ** math.floor(math.log10(rough))
        step = size * min((1, 2, 5, 10), key=lambda factor: abs(math.log(factor * size / rough)))
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        marks = [round(i * step, 10) for i in range(first, last + 1)]
        return cls(label, tuple(((mark - low) / (high - low), f"{mark:g}") for mark in marks))


@lru_cache(maxsize=8)
def font(size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size=size)


def coloured(values: np.ndarray, low: float, high: float, palette: str = "magma") -> Image.Image:
    """(H, W) values in the colours of a palette, from ``low`` to ``high``, which may be the smaller; NaN is grey."""
    spread = high - low or 1.0
    place = (np.nan_to_num((values - low) / spread).clip(0, 1) * 255).round().astype(int)
    pixels = (PALETTES[palette].colours()[place] * 255).round().astype(np.uint8)
    pixels[np.isnan(values)] = HOLE
    return Image.fromarray(pixels)


def framed(
    content: Image.Image,
    title: str,
    *,
    x_axis: Axis | None = None,
    y_axis: Axis | None = None,
    bar: tuple[float, float, str] | None = None,
    palette: str = "magma",
) -> Image.Image:
    """A picture with a title above, axes to the left and below, and a bar of colours to the right.

    Args:
        content: the plot itself, at its final size.
        bar: values at the bottom and the top of the bar, and its label.
        palette: of the bar.
    """
    left, bottom = LEFT if y_axis else GAP, BOTTOM if x_axis else GAP
    words = font(TITLE).getlength(title) + (GAP + font().getlength(bar[2]) if bar else 0)
    width = max(left + content.width + (BAR if bar else RIGHT), left + GAP + round(words))
    sheet = Image.new("RGB", (width, TOP + content.height + bottom), PAPER)
    sheet.paste(content, (left, TOP))
    draw = ImageDraw.Draw(sheet)
    right, floor = left + content.width, TOP + content.height
    draw.rectangle((left - 1, TOP - 1, right, floor), outline=INK)
    draw.text((left, TOP - 6), title, INK, font(TITLE), anchor="ls")
    for place, text in x_axis.ticks if x_axis else ():
        x = left + place * (content.width - 1)
        draw.line((x, floor, x, floor + 4), INK)
        draw.text((x, floor + 6), text, INK, font(), anchor="mt")
    for place, text in y_axis.ticks if y_axis else ():
        y = floor - 1 - place * (content.height - 1)
        draw.line((left - 5, y, left - 1, y), INK)
        draw.text((left - 7, y), text, INK, font(), anchor="rm")
    if x_axis:
        draw.text(((left + right) / 2, floor + 34), x_axis.label, INK, font(), anchor="ms")
    if y_axis:
        _upright(sheet, y_axis.label, (TOP + floor) // 2)
    if bar:
        _bar(sheet, bar, palette, (right + 10, TOP, floor))
    return sheet


def _upright(sheet: Image.Image, text: str, middle: int) -> None:
    """Text that runs upwards along the left edge."""
    length = round(font().getlength(text)) + 2
    strip = Image.new("RGB", (length, 16), PAPER)
    ImageDraw.Draw(strip).text((length / 2, 8), text, INK, font(), anchor="mm")
    sheet.paste(strip.rotate(90, expand=True), (0, max(middle - length // 2, 0)))


def _bar(sheet: Image.Image, bar: tuple[float, float, str], palette: str, place: tuple[int, int, int]) -> None:
    low, high, label = bar
    left, top, floor = place
    ramp = np.linspace(high, low, floor - top)[:, None].repeat(12, axis=1)
    sheet.paste(coloured(ramp, low, high, palette), (left, top))
    draw = ImageDraw.Draw(sheet)
    for at, text in Axis.linear("", low, high, 5).ticks:
        draw.text((left + 16, floor - 1 - at * (floor - top - 1)), text, INK, font(), anchor="lm")
    draw.text((sheet.width - 4, top - 9), label, INK, font(), anchor="rs")


def curves(
    series: np.ndarray,
    *,
    size: tuple[int, int],
    span: tuple[float, float],
    y_axis: Axis,
    x_axis: Axis,
    filled: float = 1.0,
) -> Image.Image:
    """Curves over an even grid.

    Args:
        series: (n curves, samples), at most three curves.
        size: width and height in pixels.
        span: values at the bottom and the top.
        y_axis, x_axis: for the lines of the grid.
        filled: share of the width that holds data; the rest is shaded.
    """
    width, height = size[0] * FINER, size[1] * FINER
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if filled < 1:
        draw.rectangle((filled * width, 0, width, height), fill=SHADE)
    for place, _ in x_axis.ticks:
        draw.line((place * width, 0, place * width, height), FAINT, FINER)
    for place, _ in y_axis.ticks:
        draw.line((0, (1 - place) * height, width, (1 - place) * height), FAINT, FINER)
    low, high = span
    for number, curve in enumerate(series):
        x = (np.arange(len(curve)) + 0.5) / len(curve) * width
        y = (1 - (curve - low) / (high - low)) * height
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), CURVES[number], round(1.4 * FINER), joint="curve")
    return sheet.resize(size, Image.Resampling.BOX)


def legend(names: Sequence[str]) -> Image.Image:
    """Names of curves in their colours, in one line."""
    widths = [30 + round(font().getlength(name)) for name in names]
    sheet = Image.new("RGB", (sum(widths) + 12, 18), PAPER)
    draw, x = ImageDraw.Draw(sheet), 0
    for name, width, colour in zip(names, widths, CURVES, strict=False):
        draw.line((x, 9, x + 14, 9), colour, 3)
        draw.text((x + 18, 9), name, INK, font(), anchor="lm")
        x += width
    return sheet


def arranged(title: str, rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Panels in rows under a title."""
    widths = [sum(panel.width for panel in row) + GAP * (len(row) - 1) for row in rows]
    heights = [max(panel.height for panel in row) for row in rows]
    head = 34
    width = max(*widths, round(font(15).getlength(title))) + 2 * GAP
    sheet = Image.new("RGB", (width, head + sum(heights) + GAP * len(rows)), PAPER)
    ImageDraw.Draw(sheet).text((GAP + 4, 22), title, INK, font(15), anchor="ls")
    y = head
    for row, height in zip(rows, heights, strict=True):
        x = GAP
        for panel in row:
            sheet.paste(panel, (x, y))
            x += panel.width + GAP
        y += height + GAP
    return sheet
