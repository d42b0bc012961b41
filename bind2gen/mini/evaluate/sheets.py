"""What an evaluation shows: sheets of pictures with text, and a page with them, the table and confusion matrices."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ...files.atomic import written_whole
from .scores import Scores
from .verdicts import Verdicts

TEXT, LINE, MARGIN = 12, 15, 4  # pixels: of letters, of lines and around a group
HEARD = ("its source calls it", "nearest words")

Picture = Image.Image | np.ndarray  # an array (H, W, 3) uint8
Group = tuple[Sequence[Picture], Sequence[str]]  # pictures side by side, and lines of text under them


def sheet(groups: Sequence[Group], a_row: int = 1, *, side: int = 0) -> Image.Image:
    """Groups in rows of ``a_row``, all with as many pictures and lines as the largest.

    Args:
        side: longer side in pixels that pictures are brought to; 0 leaves those of one size as they are.
    """
    shown = [[Image.fromarray(p) if isinstance(p, np.ndarray) else p for p in pictures] for pictures, _ in groups]
    side = side or shown[0][0].width
    width = max(map(len, shown)) * side + 2 * MARGIN
    height = side + max(len(lines) for _, lines in groups) * LINE + 2 * MARGIN
    made = Image.new("RGB", (min(a_row, len(groups)) * width, -(-len(groups) // a_row) * height), "white")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(TEXT)
    for i, (pictures, (_, lines)) in enumerate(zip(shown, groups, strict=True)):
        left, top = i % a_row * width + MARGIN, i // a_row * height + MARGIN
        for k, picture in enumerate(pictures):
            fitted = picture if picture.width == picture.height == side else ImageOps.contain(picture, (side, side))
            made.paste(fitted, (left + k * side, top + side - fitted.height))
        for k, line in enumerate(lines):
            pen.text((left, top + side + 1 + k * LINE), line, fill="black", font=font)
    return made


def _table(lines: Sequence[Sequence[str]]) -> str:
    rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in cells) for cells in lines)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"


def _confusion(found: Verdicts) -> str:
    """A table of percents, the darker the more: a row for each name that was wanted, a column for each found."""
    head = "".join(f'<td style="writing-mode:vertical-rl">{html.escape(name)}</td>' for name in found.classes)
    rows = [f"<tr><td></td>{head}</tr>"]
    for name, shares in zip(found.classes, found.confusion(), strict=True):
        cells = (
            f'<td style="background:rgba(90,160,255,{share:.2f})">{f"{100 * share:.0f}" if share >= 0.005 else ""}</td>'
            for share in shares
        )
        rows.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"


def index_page(
    scores: Scores,
    pictures: Sequence[tuple[str, str]],
    confusions: Mapping[str, Verdicts] | None = None,
    sounds: Sequence[Sequence[str]] = (),
) -> str:
    """An HTML page with the table, the pictures and the confusion matrices.

    Args:
        pictures: (file name, caption).
        confusions: by caption.
        sounds: of each its label, and the words that the model finds nearest.
    """
    parts = {caption: f'<img src="{html.escape(n)}" alt="{html.escape(caption)}">' for n, caption in pictures}
    parts |= {caption: _confusion(found) for caption, found in (confusions or {}).items()}
    parts |= {f"{len(sounds)} sounds that no one chose": _table([HEARD, *sounds])} if sounds else {}
    title = html.escape(f"Scores of {scores.model}")
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<body><h1>{title}</h1>{_table(scores.cells())}"
        + "".join(f"<p>{html.escape(note)}</p>" for note in scores.notes())
        + "".join(f"<h2>{html.escape(caption)}</h2>{part}" for caption, part in parts.items())
        + "</body></html>\n"
    )


@dataclass(frozen=True)
class Evaluation:
    """Scores, pictures by file name with their captions, answers by caption, and sounds: label and nearest words."""

    scores: Scores
    pictures: dict[str, tuple[Image.Image, str]]
    confusions: dict[str, Verdicts] = field(default_factory=dict)
    sounds: Sequence[Sequence[str]] = ()

    def write(self, folder: Path) -> list[Path]:
        """Write scores.json, the pictures and index.html; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        shown = [(name, caption) for name, (_, caption) in self.pictures.items()]
        texts = {
            "scores.json": json.dumps(self.scores.to_dict(), indent=1) + "\n",
            "index.html": index_page(self.scores, shown, self.confusions, self.sounds),
        }
        for name, text in texts.items():
            with written_whole(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        for name, (picture, _) in self.pictures.items():
            with written_whole(folder / name) as temporary:
                picture.save(temporary, quality=90)  # of 100
        return [folder / name for name in (*texts, *self.pictures)]
