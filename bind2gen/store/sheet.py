"""What a search found as one picture: thumbnails in rows, best first."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .store import Hit

SIDE = 192  # pixels of a cell's picture
CAPTION = 34  # pixels below it, two lines
GAP = 8  # pixels
COLUMNS = 5
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


def contact_sheet(hits: Sequence[Hit], title: str) -> Image.Image:
    """Thumbnails of hits, RGB; below each its file's name and score. One without a thumbnail shows its modality."""
    columns = min(COLUMNS, max(len(hits), 1))
    rows = math.ceil(max(len(hits), 1) / columns)
    width, height = SIDE + GAP, SIDE + CAPTION + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP + CAPTION), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    draw.text((GAP, GAP), _cut(title, font, sheet.width - 2 * GAP), INK, font)
    for number, hit in enumerate(hits):
        left, top = GAP + number % columns * width, CAPTION + GAP + number // columns * height
        _cell(sheet, draw, hit, left, top)
    return sheet


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, hit: Hit, left: int, top: int) -> None:
    font, item = ImageFont.load_default(12), hit.item
    if item.thumbnail:
        picture = Image.open(io.BytesIO(item.thumbnail)).convert("RGB")
        scale = SIDE / max(picture.size)
        picture = picture.resize([max(1, round(scale * side)) for side in picture.size], Image.Resampling.BICUBIC)
        sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
    else:
        draw.rectangle((left, top, left + SIDE, top + SIDE), outline=FAINT)
        draw.text((left + GAP, top + SIDE // 2), item.modality, FAINT, font)
    score = f"{hit.score:.2f}" if hit.probability is None else f"{hit.score:.2f}, {100 * hit.probability:.0f} %"
    when = "" if item.start is None else f", {item.start:.1f} to {item.end:.1f} s"
    draw.text((left, top + SIDE + 2), _cut(Path(item.path).name, font, SIDE), INK, font)
    draw.text((left, top + SIDE + 17), _cut(f"{item.modality} {score}{when}", font, SIDE), FAINT, font)


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Text that is no wider than ``width`` pixels, its middle left out."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    while font.getlength(text) > width and len(text) > 3:
        middle = len(text) // 2
        text = text[: middle - 1].rstrip("…") + "…" + text[middle + 1 :].lstrip("…")
    return text
