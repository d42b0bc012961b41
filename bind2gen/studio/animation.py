"""A row of pictures as one that moves."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

FADES = 5  # frames between two pictures
FRAME = 60  # ms
REST = 500  # ms at each picture itself
SMALLEST, LARGEST = 256, 384  # pixels, the longer side; other pictures are enlarged or shrunk


def there_and_back(pictures: Sequence[Image.Image]) -> bytes:
    """An endless animated WebP that fades from each picture to the next and back again.

    Args:
        pictures: two or more of one size.
    """
    size = pictures[0].size
    scale = min(max(1.0, SMALLEST / max(size)), LARGEST / max(size))
    small = [p.convert("RGB").resize((round(size[0] * scale), round(size[1] * scale))) for p in pictures]
    way = [*small, *small[-2::-1]]
    frames, durations = [], []
    for now, after in zip(way, way[1:], strict=False):
        frames += [Image.blend(now, after, k / (FADES + 1)) for k in range(FADES + 1)]
        durations += [REST] + [FRAME] * FADES
    file = io.BytesIO()
    frames[0].save(
        file, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=85, method=2
    )
    return file.getvalue()
