"""Looking at synthetic shapes: metric depth maps and shaded pictures, by casting rays at ellipsoids and boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import ImageSet, Sample
from .shapes import SHAPES, Part, Random, person

FLYING = frozenset({"airplane", "helicopter", "drone", "bird"})  # often seen without a ground beneath
FROM_ABOVE = frozenset({"keyboard", "sea", "insect"})
FACING = frozenset({"clock"})
FIELD_OF_VIEW = 0.95  # radians across the picture, about a depth camera's
GROUND_REACH = 60.0  # metres; no ground is drawn beyond


@dataclass(frozen=True)
class View:
    """What a camera sees.

    Attributes:
        depth: (H, W) distance along the optical axis in metres; NaN where there is nothing.
        normals: (H, W, 3) unit normals.
        floor: (H, W) bool, where the floor is seen.
        focal: focal length in pixels.
    """

    depth: np.ndarray
    normals: np.ndarray
    floor: np.ndarray
    focal: float


def hits(parts: list[Part], origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First hit of each ray (N, 3): distance in ray lengths (N,), infinite where none, and the normal (N, 3)."""
    nearest = np.full(len(rays), np.inf)
    normals = np.zeros((len(rays), 3))
    for part in parts:
        start = part.axes @ (origin - part.centre) / part.half  # in the part's frame it is a unit ball or cube
        toward = rays @ part.axes.T / part.half
        if part.box:
            with np.errstate(divide="ignore", invalid="ignore"):
                faces = np.stack([(-1 - start) / toward, (1 - start) / toward])  # parallel rays: -inf and inf inside
            near, far = faces.min(0), faces.max(0)
            enter, leave = near.max(1), far.min(1)
            t = np.where((enter <= leave) & (enter > 0), enter, np.inf)
            local = np.where(near == enter[:, None], -np.sign(toward), 0.0)
        else:
            a, b, c = (toward**2).sum(1), toward @ start, start @ start - 1
            root = b * b - a * c
            t = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
            t = np.where(t > 0, t, np.inf)
            local = start + np.where(np.isfinite(t), t, 0)[:, None] * toward
        closer = t < nearest
        nearest[closer] = t[closer]
        outward = (local[closer] / part.half) @ part.axes
        normals[closer] = outward / (np.linalg.norm(outward, axis=1, keepdims=True) + 1e-12)
    return nearest, normals


def look(
    parts: list[Part], rng: Random, size: int, *, elevation: tuple[float, float], ground: bool, facing: bool
) -> View:
    """A random view of a shape that roughly fills the picture.

    Args:
        parts: the shape.
        size: picture side in pixels.
        elevation: range of the camera's height angle in radians.
        ground: a floor at z = 0.
        facing: the camera stays in front of the shape.
    """
    low = np.min([p.centre - np.abs(p.axes.T) @ p.half for p in parts], axis=0)
    high = np.max([p.centre + np.abs(p.axes.T) @ p.half for p in parts], axis=0)
    centre, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
    turn = rng.uniform(-0.6, 0.6) if facing else rng.uniform(0, 2 * np.pi)
    lift = rng.uniform(*elevation)
    away = np.array([np.cos(lift) * np.cos(turn), np.cos(lift) * np.sin(turn), np.sin(lift)])
    distance = radius / np.tan(FIELD_OF_VIEW / 2) * rng.uniform(0.7, 1.3)
    target = centre + rng.uniform(-0.2, 0.2, 3) * radius
    origin = target + distance * away
    right = np.cross(-away, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    down = np.cross(-away, right)
    pixels = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(pixels, pixels)
    spread = np.tan(FIELD_OF_VIEW / 2)
    rays = -away + spread * (x.reshape(-1, 1) * right + y.reshape(-1, 1) * down)  # one unit along the optical axis
    depth, normals = hits(parts, origin, rays)
    below = np.zeros(len(rays), bool)
    if ground:
        with np.errstate(divide="ignore"):
            floor = -origin[2] / rays[:, 2]
        below = (floor > 0) & (floor < depth) & (floor < GROUND_REACH)
        depth = np.where(below, floor, depth)
        normals[below] = (0.0, 0.0, 1.0)
    depth[~np.isfinite(depth)] = np.nan
    square = (size, size)
    normals, below = normals.reshape(*square, 3), below.reshape(square)
    return View(depth.reshape(square).astype(np.float32), normals, below, size / (2 * spread))


def view_of(concept: str, rng: Random, size: int = 64, *, posture: str | None = None) -> View:
    """A random view of a random specimen of ``concept`` (a key of :data:`SHAPES`)."""
    parts = person(rng, posture) if posture else SHAPES[concept](rng)
    elevation = (0.3, 1.2) if concept in FROM_ABOVE else (0.02, 0.6)
    if concept in FLYING and rng.random() < 0.7:
        return look(parts, rng, size, elevation=(-0.7, 0.5), ground=False, facing=False)
    return look(parts, rng, size, elevation=elevation, ground=concept != "sea", facing=concept in FACING)


POSTURES: dict[str, tuple[str, ...]] = {
    "walking": ("person walking", "man walking", "woman walking", "walk"),
    "sitting": ("person sitting", "man sitting on a chair", "woman sitting down", "seated person"),
    "standing": ("person standing", "man standing up", "woman standing", "standing up person"),
}
"""What the IMU recordings are of, and finer names; no photos of these are among the training data."""


def figures(count: int, rng: Random, size: int = 64) -> ImageSet:
    """``count`` synthetic pictures of each posture, named like photos: (N, size, size, 3) uint8 and their rows."""
    pixels, samples = [], []
    for posture, names in POSTURES.items():
        for i in range(count):
            pixels.append(shaded(view_of("person", rng, size, posture=posture), rng))
            label = names[rng.integers(len(names))]
            samples.append(Sample(f"synthetic/{posture}/{i}", posture, {"label": label}))
    return ImageSet(np.stack(pixels), samples)


def shaded(view: View, rng: Random) -> np.ndarray:
    """A plain picture of a view, (H, W, 3) uint8: lit from a random side, random colours, a graded background."""
    light = rng.normal(size=3) + (0, 0, 1.5)
    light /= np.linalg.norm(light)
    diffuse = 0.35 + 0.65 * np.maximum(0, view.normals @ light)[..., None]
    subject, floor, back = rng.uniform(0.05, 1, (3, 3))
    colour = np.where(view.floor[..., None], floor, subject) * diffuse
    fade = np.linspace(0.8, 1.2, len(view.depth))[:, None, None]
    picture = np.where(np.isnan(view.depth)[..., None], back * fade, colour)
    noise = rng.normal(scale=rng.uniform(0, 0.06), size=picture.shape)
    return (255 * (picture + noise).clip(0, 1)).astype(np.uint8)
