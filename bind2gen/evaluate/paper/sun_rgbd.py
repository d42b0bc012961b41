"""SUN RGB-D (Song, Lichtenberg, Xiao, CVPR 2015): scenes by depth, and the photo of the same view by depth.

As published: ``SUNRGBD.zip`` and ``SUNRGBDtoolbox.zip`` unpacked side by side. A frame is a folder
``SUNRGBD/{kv1,kv2,realsense,xtion}/...`` with ``depth_bfx/*.png`` (holes filled, as the paper takes it),
``image/*.jpg``, ``intrinsics.txt`` and ``scene.txt``; the toolbox' ``allsplit.mat`` has the official split. Tested are
the frames of the 19 scenes that the benchmark has; the rest have others or none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UnreadableError
from .contract import Item, PublishedSet, Watch, filled, found, missing, names_of, unwatched
from .table import SETS

LAYOUT = SETS["sun-rgbd"].layout
SCENES = (
    "bathroom", "bedroom", "classroom", "computer_room", "conference_room", "corridor", "dining_area", "dining_room",
    "discussion_area", "furniture_store", "home_office", "kitchen", "lab", "lecture_theatre", "library", "living_room",
    "office", "rest_space", "study_space",
)  # fmt: skip
SENSORS = {"kv1": "kinect_v1", "kv2": "kinect_v2", "realsense": "realsense", "xtion": "xtion"}
SPLITS = ("SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", "SUNRGBDtoolbox/traintestsplit/allsplit.mat",
          "../SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", "allsplit.mat")  # fmt: skip


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """The official test split, and the training split to learn from; groups are sensors.

    Raises:
        UnreadableError: this is not the set.
    """
    from scipy.io import loadmat

    places = found(folder, SPLITS, LAYOUT)
    root = folder if (folder / "kv1").is_dir() else found(folder, ["SUNRGBD"], LAYOUT)
    try:
        split = loadmat(places, squeeze_me=True)
        tested, trained = ([str(path) for path in np.atleast_1d(split[name])] for name in ("alltest", "alltrain"))
    except Exception as error:  # noqa: BLE001  (scipy raises many kinds)
        words = f"wanted the cells alltest and alltrain ({type(error).__name__}: {error})"
        raise UnreadableError(f"{places}: {words}") from None
    items, notes = _frames(root, tested, watched)
    training, _ = _frames(root, trained, watched)
    pairs = [item for item in items if item.photo]
    return PublishedSet(names_of(SCENES), filled(items, folder, LAYOUT, notes), training, pairs, notes=notes)


def _frames(root: Path, listed: list[str], watched: Watch) -> tuple[list[Item], tuple[str, ...]]:
    items, gone, others = [], [], 0
    for path in watched(listed, "look"):
        name = path.split("SUNRGBD/", 1)[-1].strip("/")  # they begin with a folder of the authors' machine
        frame = root / name
        scene, depth = frame / "scene.txt", next(frame.glob("depth_bfx/*.png"), None)
        if depth is None or not scene.is_file():
            gone.append(name)
        elif (label := scene.read_text(encoding="utf-8", errors="replace").strip()) not in SCENES:
            others += 1
        else:
            photo = next(frame.glob("image/*.jpg"), None)
            shown = partial(str, photo) if photo else None
            items.append(Item(name, (label,), partial(load, frame, depth), name.split("/")[0], shown))
    other = (f"{others:,} of {len(listed):,} frames are of other scenes than the 19",) if others else ()
    return items, (*missing(gone, len(listed), "frames"), *other)


def load(frame: Path, depth_file: Path) -> Any:
    """A depth map with the frame's own focal length and the baseline of its sensor.

    Raises:
        UnreadableError: no focal length, or no depth.
    """
    from ...preprocess import depth
    from ...preprocess.depth_sensors import SENSORS as OPTICS

    intrinsics = frame / "intrinsics.txt"
    try:
        fx = float(intrinsics.read_text().split()[0])  # the first of the matrix, in one row or in three
    except (OSError, ValueError, IndexError) as error:
        raise UnreadableError(f"{intrinsics}: wanted a camera matrix, cannot read it ({error})") from None
    sensor = next(SENSORS[part] for part in frame.parts[::-1] if part in SENSORS)
    return depth.load(depth_file, encoding="sun_rgbd", fx=fx, baseline=OPTICS[sensor].baseline)
