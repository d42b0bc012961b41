"""False colours back to grey: the palettes that infrared cameras and plotting libraries paint with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError

STEPS = 256  # of a palette
# When a picture counts as painted. Measured: photos (500 of Tiny-ImageNet) lie 0.12 or more from the nearest palette
# (99 %) and have 0.62 or less of their pixels on it; painted infrared, 64 pixels small and JPEG-compressed (quality 80,
# halved chroma), lies within 0.06 with 0.82 or more on it (95 %). Of 900 other draws of photos 2 passed.
NEAR = 0.1  # distance in 0..1 RGB within which a colour lies on a palette
MAX_DISTANCE = 0.1  # mean over the picture
MIN_SHARE = 0.7  # of the pixels on the palette; the rest may be captions, scales and crosshairs
SAMPLE = 2048  # pixels that a palette is chosen by
LEVELS = 64  # a channel's levels kept while colours are looked up; pictures have few distinct ones then
CHUNK = 4096  # distinct colours looked up at a time


@dataclass(frozen=True)
class Palette:
    """A curve through RGB from cold to hot.

    Attributes:
        name: for messages.
        points: six hex digits a colour, at evenly spaced values; linear between them.
    """

    name: str
    points: str

    def colours(self) -> np.ndarray:
        """(STEPS, 3) float32 in 0..1."""
        points = np.array([list(bytes.fromhex(p)) for p in self.points.split()]) / 255
        places, at = np.linspace(0, 1, len(points)), np.linspace(0, 1, STEPS)
        return np.stack([np.interp(at, places, points[:, c]) for c in range(3)], axis=1).astype(np.float32)


# Iron is the 120-step "ironbow" of infrared cameras, every seventh step. Inferno, magma and plasma are read off
# matplotlib's tables (CC0), turbo off its authors' (Apache-2.0), at 17 places each: within 7 of 255 of the whole.
# Jet and hot are piecewise linear by definition (MATLAB's); rainbow is the hue circle from violet to red.
PALETTES: dict[str, Palette] = {
    p.name: p
    for p in (
        Palette("iron", "000000 07006a 30008c 5b0099 86009d ab0099 c10890 d21d74 e03836 eb520a f16a02 f78500 fc9f00 "
                        "febb00 fed409 ffe83f fff5a4 fffff9"),
        Palette("inferno", "000004 0b0724 210c4a 3c0965 57106d 70196e 89226a a32b61 bb3755 d14644 e35932 f1711e f98d0a "
                           "fcab0f f9ca32 f2e865 fcffa4"),
        Palette("magma", "000004 0a0822 1d1146 36106a 50127c 691c81 822681 9c2e7f b63779 cf4170 e65163 f5695c fb8761 "
                         "fea571 fec387 fde0a2 fcfdbf"),
        Palette("plasma", "0d0887 310596 4c02a1 6600a7 7e03a8 9511a2 a92396 bb3587 cb4778 d9596a e66c5c f07f4f f89441 "
                          "fdab33 fdc328 f9dd25 f0f921"),
        Palette("turbo", "30123b 4040a1 466be3 4293ff 29bbec 18dcc3 31f299 6bfd64 a3fd3c cced34 edd03a fdae35 fb8022 "
                         "ec520f d23105 ac1701 7a0403"),
        Palette("jet", "000080 0000ff 0080ff 00ffff 80ff80 ffff00 ff8000 ff0000 800000"),
        Palette("hot", "000000 550000 aa0000 ff0000 ff5500 ffaa00 ffff00 ffff80 ffffff"),
        Palette("rainbow", "8000ff 0000ff 00ffff 00ff00 ffff00 ff0000"),
    )
}  # fmt: skip


def best_palette(colours: np.ndarray, palettes: list[Palette], name: str) -> tuple[Palette, np.ndarray]:
    """The palette whose curve lies nearest to a picture's colours, and each pixel's place on it.

    Args:
        colours: (H, W, 3) float32 in 0..1.
        palettes: candidates.
        name: of the picture, for messages.

    Returns:
        The palette, and (H, W) float32 in 0..1.

    Raises:
        InputError: none lies near; it is an ordinary colour picture, or painted with another palette.
    """
    pixels = colours.reshape(-1, 3)
    sample = pixels[np.linspace(0, len(pixels) - 1, min(len(pixels), SAMPLE)).astype(int)]
    tried = [(_nearest(sample, palette.colours())[0], palette) for palette in palettes]
    distance, palette = min(tried, key=lambda found: float(found[0].mean()))
    far, share = float(distance.mean()), float((distance < NEAR).mean())
    if far > MAX_DISTANCE or share < MIN_SHARE:
        known = ", ".join(p.name for p in palettes)
        raise InputError(
            f"{name}: wanted infrared as grey or in false colours of {known}; only {100 * share:.0f} % of its pixels "
            f"lie on the nearest ({palette.name}). Ordinary photos go in as image=; export other palettes as grey"
        )
    levels = (colours * (LEVELS - 1)).round().astype(np.int32)
    code = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    distinct, inverse = np.unique(code, return_inverse=True)
    points = np.stack([distinct // LEVELS**2, distinct // LEVELS % LEVELS, distinct % LEVELS], 1) / (LEVELS - 1)
    place = _nearest(points.astype(np.float32), palette.colours())[1]
    return palette, (place[inverse] / (STEPS - 1)).reshape(colours.shape[:2]).astype(np.float32)


def _nearest(points: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each point (N, 3) from a curve (STEPS, 3), and the index of the nearest step."""
    distances, places = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    for start in range(0, len(points), CHUNK):
        part = slice(start, start + CHUNK)
        squares = (points[part] ** 2).sum(1)[:, None] - 2 * points[part] @ curve.T + (curve**2).sum(1)
        places[part] = squares.argmin(1)
        distances[part] = np.sqrt(squares.min(1).clip(0))
    return distances, places
