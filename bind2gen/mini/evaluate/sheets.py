"""Pictures of an evaluation: contact sheet, nearest training photos, confusion matrices, and a page that shows all."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ...files.atomic import written_whole
from .scores import Scores
from .verdicts import Verdicts

MARGIN = 96  # pixels for a concept's name
TEXT = 12  # pixels
CELL = 32  # pixels, of a confusion matrix
TRIPLES_A_ROW = 8
PICTURE = 160  # pixels, the longer side of a picture above its words
WORDS_A_ROW = 5
HEARD = ("its source calls it", "nearest words")


def contact_sheet(names: Sequence[str], pictures: np.ndarray) -> Image.Image:
    """One row a concept: (C, S, H, W, 3) uint8, S pictures of one sound each."""
    rows, columns, side = pictures.shape[:3]
    sheet, pen = _page(MARGIN + columns * side, rows * side)
    for row, name in enumerate(names):
        pen.text((4, row * side + (side - TEXT) // 2), name, fill="black", font=_font())
        for column in range(columns):
            sheet.paste(Image.fromarray(pictures[row, column]), (MARGIN + column * side, row * side))
    return sheet


def nearest_sheet(pictures: np.ndarray, found: Sequence[np.ndarray], captions: Sequence[str]) -> Image.Image:
    """Each generated picture beside training photos that are nearest to it in one sense or another.

    Args:
        pictures: (N, H, W, 3) uint8.
        found: sets of N photos, one for each sense of nearness.
        captions: N lines to stand under each group.
    """
    side, width = pictures.shape[1], (1 + len(found)) * pictures.shape[1] + 8
    rows = -(-len(pictures) // TRIPLES_A_ROW)
    height = side + TEXT + 8
    columns = min(TRIPLES_A_ROW, len(pictures))
    sheet, pen = _page(columns * width, rows * height)
    for i, caption in enumerate(captions):
        left, top = i % TRIPLES_A_ROW * width, i // TRIPLES_A_ROW * height
        for k, pixels in enumerate((pictures, *found)):
            sheet.paste(Image.fromarray(pixels[i]), (left + k * side, top))
        pen.text((left + 2, top + side + 1), caption, fill="black", font=_font())
    return sheet


def word_sheet(pictures: Sequence[Image.Image], words: Sequence[Sequence[str]]) -> Image.Image:
    """Pictures of any size in rows of :data:`WORDS_A_ROW`, under each its words, one a line."""
    lines = max(len(told) for told in words)
    width, height = PICTURE + 8, PICTURE + lines * (TEXT + 3) + 12
    sheet, pen = _page(WORDS_A_ROW * width, -(-len(pictures) // WORDS_A_ROW) * height)
    for i, (picture, told) in enumerate(zip(pictures, words, strict=True)):
        left, top = i % WORDS_A_ROW * width + 4, i // WORDS_A_ROW * height + 4
        small = ImageOps.contain(picture, (PICTURE, PICTURE))
        sheet.paste(small, (left, top + PICTURE - small.height))
        for k, word in enumerate(told):
            pen.text((left, top + PICTURE + 2 + k * (TEXT + 3)), word, fill="black", font=_font())
    return sheet


def confusion_picture(verdicts: Verdicts) -> Image.Image:
    """Rows: what was wanted; columns: what was found; percent of the row in each cell, darker is more."""
    shares, names = verdicts.confusion(), verdicts.classes
    sheet, pen = _page(MARGIN + len(names) * CELL, MARGIN + len(names) * CELL)
    upright, upright_pen = _page(MARGIN, len(names) * CELL)  # drawn lying, then turned
    for k, name in enumerate(names):
        upright_pen.text((4, k * CELL + (CELL - TEXT) // 2), name, fill="black", font=_font())
        pen.text((4, MARGIN + k * CELL + (CELL - TEXT) // 2), name, fill="black", font=_font())
    sheet.paste(upright.transpose(Image.Transpose.ROTATE_90), (MARGIN, 0))
    for row in range(len(names)):
        for column in range(len(names)):
            _cell(pen, MARGIN + column * CELL, MARGIN + row * CELL, shares[row, column])
    return sheet


def _cell(pen: ImageDraw.ImageDraw, left: int, top: int, share: float) -> None:
    light = round(255 * (1 - share))
    pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), fill=(light, light, 255), outline="lightgrey")
    if round(100 * share):
        ink = "white" if share > 0.5 else "black"
        pen.text((left + 7, top + (CELL - TEXT) // 2), f"{100 * share:.0f}", fill=ink, font=_font())


def _page(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    sheet = Image.new("RGB", (width, height), "white")
    return sheet, ImageDraw.Draw(sheet)


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT)


def _table(lines: Sequence[Sequence[str]]) -> str:
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in cells) for cells in lines)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def index_page(scores: Scores, pictures: Sequence[tuple[str, str]], sounds: Sequence[Sequence[str]] = ()) -> str:
    """An HTML page with the table and the pictures.

    Args:
        pictures: (file name, caption).
        sounds: of each its label, and the words that the model finds nearest.
    """
    heard = f"<h2>{len(sounds)} sounds that no one chose</h2>{_table([HEARD, *sounds])}" if sounds else ""
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in scores.notes())
    shown = "".join(
        f'<h2>{html.escape(caption)}</h2><img src="{html.escape(name)}" alt="{html.escape(caption)}">'
        for name, caption in pictures
    )
    title = html.escape(f"Scores of {scores.model}")
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<body><h1>{title}</h1>{_table(scores.cells())}{notes}{shown}{heard}</body></html>\n"
    )


@dataclass(frozen=True)
class Evaluation:
    """Scores, pictures by file name with their captions, and sounds: label and nearest words."""

    scores: Scores
    pictures: dict[str, tuple[Image.Image, str]]
    sounds: Sequence[Sequence[str]] = ()

    def write(self, folder: Path) -> list[Path]:
        """Write scores.json, the pictures and index.html; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        shown = [(name, caption) for name, (_, caption) in self.pictures.items()]
        texts = {
            "scores.json": json.dumps(self.scores.to_dict(), indent=1) + "\n",
            "index.html": index_page(self.scores, shown, self.sounds),
        }
        for name, text in texts.items():
            with written_whole(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for name, (picture, _) in self.pictures.items():
            with written_whole(folder / name) as temporary:
                picture.save(temporary, quality=90)  # of 100; PNG takes no notice
        return [folder / name for name in (*texts, *self.pictures)]
