"""Coarse 3-D shapes of the bundled model's concepts: where there are no depth maps to be had, they are made of these.

A shape is a handful of ellipsoids and boxes in metres (x forward, y left, z up, feet or wheels at z = 0), with
proportions drawn at random. :mod:`bind2gen.mini.raycast` looks at it. Everything here is synthetic, and said to be so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
Random = np.random.Generator


@dataclass(frozen=True)
class Part:
    """One ellipsoid or box.

    Attributes:
        centre: metres.
        half: half extents along the part's own axes, metres.
        axes: (3, 3), rows are the part's own axes.
        box: a box; else an ellipsoid.
    """

    centre: np.ndarray
    half: np.ndarray
    axes: np.ndarray
    box: bool = False


def blob(centre: Vector, half: Vector, *, box: bool = False) -> Part:
    """A part along the coordinate axes."""
    return Part(np.array(centre, float), np.array(half, float), np.eye(3), box)


def rod(start: Vector, end: Vector, radius: float, *, box: bool = False) -> Part:
    """A limb, beam or blade from one point to another."""
    a, b = np.array(start, float), np.array(end, float)
    length = float(np.linalg.norm(b - a))
    along = (b - a) / length
    aside = np.cross(along, (0.0, 0.0, 1.0) if abs(along[2]) < 0.9 else (1.0, 0.0, 0.0))
    aside /= np.linalg.norm(aside)
    axes = np.stack([along, aside, np.cross(along, aside)])
    return Part((a + b) / 2, np.array([length / 2 + radius, radius, radius]), axes, box)


def quadruped(
    rng: Random, *, height: float, length: float, body: float, head: float, snout: float, ears: float, tail: float
) -> list[Part]:
    """Four legs, a body, a head: ``height`` at the shoulder; the others are shares of it."""
    height *= rng.uniform(0.8, 1.25)
    length, body, head = (height * share * rng.uniform(0.9, 1.1) for share in (length, body, head))
    belly, step = height - body, rng.uniform(-0.12, 0.12) * height
    front, back, half = length / 2, -length / 2, body * 0.55
    parts = [blob((0, 0, height - body * 0.9), (length * 0.6, body * 0.8, body))]
    for x, sign in ((front, 1), (back, -1)):
        for y, swing in ((half, step), (-half, -step)):
            parts.append(rod((x * 0.85, y, belly), (x * 0.85 + sign * swing, y, 0.03), body * 0.22))
    face = (front + head * rng.uniform(0.4, 0.9), 0.0, height + head * rng.uniform(0.0, 0.8))
    parts += [rod((front * 0.7, 0, height - body * 0.6), face, body * 0.4), blob(face, (head, head * 0.8, head * 0.85))]
    if snout:
        parts.append(rod(face, (face[0] + head * (1 + snout), 0, face[2] - head * 0.25), head * 0.4))
    for y in (1, -1):
        top = (face[0] - head * 0.3, y * head * 0.75, face[2] + head * (0.6 + ears))
        parts.append(rod((face[0] - head * 0.2, y * head * 0.5, face[2] + head * 0.4), top, head * 0.22))
    if tail:
        lift = rng.uniform(-0.3, 0.9) * tail * height
        parts.append(
            rod((back * 1.1, 0, height - body * 0.7), (back * 1.1 - tail * height, 0, height + lift), height / 30)
        )
    return parts


def bird(rng: Random) -> list[Part]:
    size = rng.uniform(0.12, 0.3)
    spread, lift = rng.random() < 0.4, rng.uniform(0, 0.5)
    parts = [
        blob((0, 0, size), (size * 0.7, size * 0.4, size * 0.45)),
        blob((size * 0.65, 0, size * 1.5), (size * 0.28, size * 0.26, size * 0.27)),
        rod((size * 0.85, 0, size * 1.5), (size * 1.2, 0, size * 1.42), size * 0.06),
        rod((-size * 0.5, 0, size * 0.95), (-size * 1.4, 0, size * 0.8), size * 0.12),
    ]
    for y in (1, -1):
        end = (-size * 0.2, y * size * 2, size * (1.2 + lift)) if spread else (-size * 0.9, y * size * 0.4, size * 0.95)
        parts.append(rod((size * 0.2, y * size * 0.35, size * 1.15), end, size * 0.15))
        parts.append(rod((0, y * size * 0.15, size * 0.6), (size * 0.05, y * size * 0.15, 0.01), size * 0.05))
    return parts


def frog(rng: Random) -> list[Part]:
    size = rng.uniform(0.04, 0.09)
    parts = [
        blob((0, 0, size * 0.6), (size, size * 0.75, size * 0.5)),
        blob((size * 0.8, 0, size * 0.75), (size * 0.5, size * 0.6, size * 0.35)),
    ]
    for y in (1, -1):
        parts.append(blob((size * 0.75, y * size * 0.4, size * 1.15), (size * 0.18,) * 3))
        knee = (size * 0.1, y * size * 1.1, size * 0.9)
        parts += [rod((-size * 0.8, y * size * 0.6, size * 0.4), knee, size * 0.22)]
        parts += [rod(knee, (-size * 0.5, y * size * 1.2, size * 0.05), size * 0.15)]
        parts.append(rod((size * 0.6, y * size * 0.6, size * 0.5), (size * 0.9, y * size * 0.95, 0.0), size * 0.13))
    return parts


def insect(rng: Random) -> list[Part]:
    size = rng.uniform(0.01, 0.03)
    centres = ((size, 0.35), (0.2 * size, 0.4), (-1.2 * size, 0.6))
    parts = [blob((x, 0, size * 0.8), (size * r * 1.3, size * r, size * r)) for x, r in centres]
    for y in (1, -1):
        for x in (0.7, 0.2, -0.4):
            knee = (size * x * 1.4, y * size * 1.1, size * 1.1)
            parts.append(rod((size * x, 0, size * 0.8), knee, size * 0.06))
            parts.append(rod(knee, (size * x * 2, y * size * 1.7, 0.0), size * 0.05))
        parts.append(rod((size * 1.3, 0, size), (size * 2.2, y * size * 0.6, size * 1.6), size * 0.04))
        if rng.random() < 0.5:
            parts.append(
                Part(np.array([-size, y * size * 0.9, size * 1.3]), np.array([1.3, 0.7, 0.05]) * size, np.eye(3))
            )
    return parts


def sea(rng: Random) -> list[Part]:
    """Rows of waves."""
    step, tall = rng.uniform(1.0, 2.5), rng.uniform(0.1, 0.5)
    rows = np.arange(-6, 7) * step
    return [
        blob((x + rng.uniform(-0.2, 0.2), rng.uniform(-4, 4), -0.1), (step * 0.6, rng.uniform(6, 20), tall))
        for x in rows
    ]


def train_of_cars(rng: Random) -> list[Part]:
    count, length = int(rng.integers(2, 5)), rng.uniform(8, 16)
    parts = [blob((-i * length * 1.03, 0, 2.3), (length / 2, 1.4, 1.7), box=True) for i in range(count)]
    parts.append(blob((length * 0.5, 0, 1.9), (1.5, 1.35, 1.3)))
    for i in range(count):
        for x in (-0.3, 0.3):
            parts.append(blob(((x - i) * length, 0, 0.45), (1.2, 1.2, 0.45), box=True))
    return parts


def wheels(axle: float, half_width: float, radius: float) -> list[Part]:
    return [
        blob((x, y, radius), (radius, radius * 0.35, radius)) for x in (axle, -axle) for y in (half_width, -half_width)
    ]


def car(rng: Random) -> list[Part]:
    length, width = rng.uniform(3.6, 4.8), rng.uniform(1.6, 1.9)
    cabin = rng.uniform(0.22, 0.32) * length
    return [
        blob((0, 0, 0.65), (length / 2, width / 2, 0.38), box=True),
        blob((-0.1 * length, 0, 1.05), (cabin, width * 0.45, rng.uniform(0.35, 0.6))),
        *wheels(length * 0.3, width / 2, 0.33),
    ]


def police_van(rng: Random) -> list[Part]:
    length, tall = rng.uniform(4.8, 6.0), rng.uniform(2.1, 2.7)
    return [
        blob((-0.1 * length, 0, tall / 2 + 0.2), (length * 0.4, 1.0, tall / 2), box=True),
        blob((length * 0.38, 0, 0.8), (length * 0.13, 0.95, 0.5), box=True),
        blob((length * 0.15, 0, tall + 0.3), (0.2, 0.6, 0.12), box=True),
        *wheels(length * 0.3, 1.0, 0.36),
    ]


def keyboard(rng: Random) -> list[Part]:
    rows, columns, pitch = int(rng.integers(4, 6)), int(rng.integers(8, 11)), 0.035
    parts = [blob((0, 0, 0.01), (rows * pitch * 0.6, columns * pitch * 0.56, 0.01), box=True)]
    for i in range(rows):
        for k in range(columns):
            x, y = (i - (rows - 1) / 2) * pitch, (k - (columns - 1) / 2) * pitch
            parts.append(blob((x, y, 0.026), (pitch * 0.4, pitch * 0.4, 0.008), box=True))
    return parts


def clock(rng: Random) -> list[Part]:
    """A round dial that faces forward, on feet or on a wall."""
    radius = rng.uniform(0.08, 0.2)
    parts = [blob((0, 0, radius * 1.1), (0.15 * radius, radius, radius))]
    for reach in (0.8, 0.5):
        turn = rng.uniform(0, 2 * np.pi)
        end = (0.17 * radius, reach * radius * np.sin(turn), radius * (1.1 + reach * np.cos(turn)))
        parts.append(rod((0.17 * radius, 0, radius * 1.1), end, radius * 0.05))
    for k in range(12):
        turn = k * np.pi / 6
        place = (0.08 * radius, 0.95 * radius * np.sin(turn), radius * (1.1 + 0.95 * np.cos(turn)))
        parts.append(blob(place, (radius * 0.12,) * 3))
    return parts


def helicopter(rng: Random) -> list[Part]:
    size = rng.uniform(2.0, 3.0)
    turn = rng.uniform(0, np.pi)
    blade = np.array([np.cos(turn), np.sin(turn)]) * size * 1.9
    parts = [
        blob((0, 0, size), (size * 1.0, size * 0.5, size * 0.55)),
        rod((-size * 0.6, 0, size * 1.1), (-size * 2.6, 0, size * 1.3), size * 0.12),
        rod((-size * 2.5, 0, size * 1.2), (-size * 2.7, 0, size * 1.9), size * 0.1),
        rod((0, 0, size * 1.5), (0, 0, size * 1.8), size * 0.08),
    ]
    for dx, dy in (blade, (-blade[1], blade[0])):
        parts.append(rod((-dx, -dy, size * 1.8), (dx, dy, size * 1.8), size * 0.05))
    for y in (1, -1):
        parts.append(rod((size * 0.9, y * size * 0.5, 0.1), (-size * 0.8, y * size * 0.5, 0.1), size * 0.05))
    return parts


def airplane(rng: Random) -> list[Part]:
    size = rng.uniform(4, 9)
    sweep = rng.uniform(0.0, 0.5)
    parts = [rod((-size, 0, size * 0.3), (size, 0, size * 0.25), size * 0.11)]
    parts.append(rod((-size * 0.85, 0, size * 0.3), (-size * 1.05, 0, size * 0.7), size * 0.07))
    for y in (1, -1):
        parts.append(rod((size * 0.2, 0, size * 0.22), (size * (0.1 - sweep), y * size, size * 0.3), size * 0.05))
        parts.append(rod((-size * 0.85, 0, size * 0.35), (-size * 1.0, y * size * 0.4, size * 0.38), size * 0.04))
        parts.append(rod((size * 0.2, y * size * 0.35, size * 0.15), (0, y * size * 0.35, size * 0.15), size * 0.06))
    return parts


def drone(rng: Random) -> list[Part]:
    size, turn = rng.uniform(0.15, 0.35), rng.uniform(0, np.pi / 2)
    parts = [blob((0, 0, size * 0.5), (size * 0.35, size * 0.3, size * 0.16))]
    for k in range(4):
        x, y = np.cos(turn + k * np.pi / 2) * size, np.sin(turn + k * np.pi / 2) * size
        parts.append(rod((0, 0, size * 0.5), (x, y, size * 0.55), size * 0.05))
        parts.append(blob((x, y, size * 0.65), (size * 0.45, size * 0.45, size * 0.02)))
    for y in (1, -1):
        parts.append(rod((0, y * size * 0.2, size * 0.4), (0, y * size * 0.45, 0.0), size * 0.04))
    return parts


def person(rng: Random, posture: str | None = None) -> list[Part]:
    """A figure that walks, sits (on a stool) or stands; ``posture`` None draws one."""
    posture = posture or str(rng.choice(("walking", "sitting", "standing")))
    tall = rng.uniform(1.5, 1.9)
    hip, shoulder, leg = tall * 0.52, tall * 0.82, tall * 0.26
    drop = tall * 0.24 if posture == "sitting" else 0.0
    hip, shoulder, head = hip - drop, shoulder - drop, tall * 0.93 - drop
    lean = rng.uniform(0.0, 0.12) * tall if posture != "standing" else 0.0
    parts = [rod((0, 0, hip), (lean, 0, shoulder), tall * 0.09), blob((lean * 1.2, 0, head), (tall * 0.06,) * 3)]
    swing = rng.uniform(0.25, 0.6) if posture == "walking" else rng.uniform(0, 0.05)
    for side in (1, -1):
        y, phase = side * tall * 0.06, side * swing
        if posture == "sitting":
            knee = (leg * rng.uniform(0.9, 1.05), y * 1.5, hip)
            foot = (knee[0] + rng.uniform(-0.1, 0.1) * tall, y * 1.5, 0.03)
        else:
            knee = (leg * np.sin(phase), y, hip - leg * np.cos(phase))
            back = 0.5 * swing if side < 0 else 0.0  # the trailing leg is bent
            foot = (knee[0] + leg * np.sin(phase - back), y, knee[2] - leg * np.cos(phase - back))
        parts += [rod((0, y, hip), knee, tall * 0.045), rod(knee, foot, tall * 0.035)]
        arm = -phase if posture == "walking" else rng.uniform(0.0, 0.9 if posture == "sitting" else 0.12)
        reach = tall * 0.2
        elbow = (lean + reach * np.sin(arm), side * tall * 0.12, shoulder - reach * np.cos(arm))
        bend = arm + rng.uniform(0.1, 0.9 if posture != "standing" else 0.2)
        hand = (elbow[0] + reach * np.sin(bend), elbow[1], elbow[2] - reach * np.cos(bend))
        parts += [rod((lean, side * tall * 0.1, shoulder), elbow, tall * 0.03), rod(elbow, hand, tall * 0.025)]
    if posture == "sitting":
        parts.append(blob((0, 0, hip / 2 - 0.05), (0.2, 0.2, hip / 2 - 0.05), box=True))
    return parts


ANIMALS: dict[str, dict[str, float]] = {
    "dog": dict(height=0.55, length=1.2, body=0.32, head=0.24, snout=0.7, ears=0.3, tail=0.5),
    "cat": dict(height=0.27, length=1.4, body=0.34, head=0.3, snout=0.0, ears=0.8, tail=1.0),
    "cow": dict(height=1.4, length=1.35, body=0.4, head=0.2, snout=0.9, ears=0.1, tail=0.25),
    "sheep": dict(height=0.75, length=1.15, body=0.48, head=0.22, snout=0.5, ears=-0.3, tail=0.1),
    "pig": dict(height=0.6, length=1.5, body=0.5, head=0.32, snout=0.5, ears=0.1, tail=0.1),
}

SHAPES: dict[str, Callable[[Random], list[Part]]] = {
    **{name: lambda rng, sizes=sizes: quadruped(rng, **sizes) for name, sizes in ANIMALS.items()},
    "bird": bird, "frog": frog, "insect": insect, "sea": sea, "train": train_of_cars, "car": car,
    "police van": police_van, "keyboard": keyboard, "clock": clock, "helicopter": helicopter, "airplane": airplane,
    "drone": drone, "person": person,
}  # fmt: skip
