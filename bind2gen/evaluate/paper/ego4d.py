"""Ego4D (arXiv 2110.07058): what somebody is doing, by the motion of the camera on the head.

As published: ``ego4d.json``, ``imu/UID.csv`` and, where it is there, ``annotations/narration.json``. As the paper says
(appendix A): films of one scenario alone, 5 s around each narrated moment that has motion; all scenarios of the set,
108, are the labels. Its split by chance is not published (ImageBind's issue 86); ours: all films, of which the released
weights have seen most in training. Without narrations windows follow each other.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import Bind2GenWarning, UnreadableError
from ...files.tables import read_csv
from .contract import Item, PublishedSet, Watch, filled, found, missing, unwatched
from .table import SETS

LAYOUT = SETS["ego4d"].layout
RELEASES = ("", "v2/", "v1/")
PASSES = ("narration_pass_1", "narration_pass_2")
TIME = "canonical_timestamp_ms"
SENSORS = {"accelerometer": ("accl_x", "accl_y", "accl_z"), "gyroscope": ("gyro_x", "gyro_y", "gyro_z")}
WINDOW = 5.0  # s
FULL = 0.9  # share of a window's samples that must be there


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """Windows of 5 s.

    Raises:
        UnreadableError: this is not the set.
    """
    films = _json(found(folder, [f"{release}ego4d.json" for release in RELEASES], LAYOUT)).get("videos")
    if not isinstance(films, list) or not all(isinstance(film, dict) and "video_uid" in film for film in films):
        raise UnreadableError(f"{folder}: wanted {LAYOUT}; ego4d.json has no list of videos")
    motion = found(folder, [f"{release}imu" for release in RELEASES], LAYOUT)
    told = [folder / f"{release}annotations/narration.json" for release in RELEASES]
    narrations = next((_json(file) for file in told if file.is_file()), None)
    single = [film for film in films if len(film.get("scenarios") or ()) == 1]
    items, gone = [], []
    for film in watched(single, "look"):
        uid, label = film["video_uid"], film["scenarios"][0]
        if not (file := motion / f"{uid}.csv").is_file():
            gone.append(uid)
            continue
        starts = _starts(narrations, film)
        items += [
            Item(f"{uid} {start:.1f} s", (label,), partial(window, file, start))
            for start in _moved(file, starts)
        ]  # fmt: skip
    notes = missing(gone, len(single), "films' IMU files")
    if narrations is None:
        notes += (f"no annotations/narration.json: windows of {WINDOW:g} s follow each other",)
    labels = sorted({label for film in films for label in film.get("scenarios") or ()})
    return PublishedSet({label: (label,) for label in labels}, filled(items, folder, LAYOUT, notes), notes=notes)


def _starts(narrations: dict[str, Any] | None, film: dict[str, Any]) -> Sequence[float]:
    """Where windows begin, s."""
    if narrations is None:
        return [WINDOW * k for k in range(int((film.get("duration_sec") or 0) // WINDOW))]
    try:
        passes = narrations.get(film["video_uid"]) or {}
        told = [one for name in PASSES for one in (passes.get(name) or {}).get("narrations", ())]
        return sorted({max(0.0, float(one["timestamp_sec"]) - WINDOW / 2) for one in told})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        words = "wanted narration_pass_1 with narrations that have a timestamp_sec"
        raise UnreadableError(f"narration.json, {film['video_uid']}: {words} ({error!r})") from None


def _moved(file: Path, starts: Sequence[float]) -> list[float]:
    """Those of the windows that have motion all through."""
    times = np.sort(read_csv(file, (TIME,), str(file), numbers=True)[TIME].dropna().to_numpy()) / 1000
    steps = np.diff(times)
    usual = np.median(steps[steps > 0]) if (steps > 0).any() else WINDOW
    edges = np.searchsorted(times, [[start, start + WINDOW] for start in starts]).reshape(-1, 2)
    enough = np.diff(edges, axis=1)[:, 0] >= FULL * WINDOW / usual
    return [start for start, kept in zip(starts, enough, strict=True) if kept]


def window(file: Path, start: float) -> Any:
    """Motion of :data:`WINDOW` s from ``start`` s; rows are sorted, for the packets of some cameras came mixed."""
    from ...preprocess import imu

    rows = recording(file)
    first, end = np.searchsorted(rows[TIME], [1000 * start, 1000 * (start + WINDOW)])
    rows = rows.iloc[first:end]
    values = {name: rows[list(columns)].to_numpy().T for name, columns in SENSORS.items()}
    units = {"accelerometer_unit": "m/s^2", "gyroscope_unit": "rad/s", "time_unit": "ms"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # a line for each of thousands of windows would help nobody
        return imu.load(values | {"timestamps": rows[TIME].to_numpy()}, timestamps="sort", **units)


@lru_cache(maxsize=2)  # a film's windows come one after the other
def recording(file: Path) -> Any:
    """A film's rows that have a time of the film, in their order; some have none, for films are trimmed."""
    table = read_csv(file, (TIME, *SENSORS["accelerometer"], *SENSORS["gyroscope"]), str(file), numbers=True)
    return table.dropna(subset=[TIME]).sort_values(TIME)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise UnreadableError(f"{file}: wanted a JSON object, cannot read it ({error})") from None
