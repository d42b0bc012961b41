"""NYU Depth v2 (Silberman et al., ECCV 2012): scenes by depth, and the photo of the same view by depth.

As published: ``nyu_depth_v2_labeled.mat`` (HDF5) and ``splits.mat``. The paper tests 653 of the 654 frames of the
official test split (ImageBind's issue 88); which one it leaves out is not published, ours: none. Of its ten classes
"others" is whichever of 18 scenes is nearest (paper, appendix A; ImageBind's issue 107).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DependencyError, UnreadableError
from .contract import Item, PublishedSet, Watch, filled, found, names_of, unwatched
from .table import SETS

LAYOUT = SETS["nyu-d"].layout
FILE, SPLIT = "nyu_depth_v2_labeled.mat", "splits.mat"
SCENES = (
    "bathroom", "bedroom", "bookstore", "classroom", "dining_room", "home_office", "kitchen", "living_room", "office",
)  # fmt: skip
OTHERS = (
    "basement", "cafe", "computer lab", "conference room", "dinette", "exercise room", "foyer", "furniture store",
    "home storage", "indoor balcony", "laundry room", "office kitchen", "playroom", "printer room", "reception room",
    "student lounge", "study", "study room",
)  # fmt: skip
FX = 518.857901  # pixels, of the colour camera, in whose view the depths are (toolbox, camera_params.m)


def read(folder: Path, watched: Watch = unwatched) -> PublishedSet:
    """The official test split.

    Raises:
        UnreadableError: this is not the set.
        DependencyError: h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise DependencyError("nyu-d needs h5py: pip install 'bind2gen[eval]'") from error
    from scipy.io import loadmat

    data, split = (found(folder, [name], LAYOUT) for name in (FILE, SPLIT))
    try:
        tested = [int(number) - 1 for number in loadmat(split)["testNdxs"].ravel()]  # they count from 1
        file = h5py.File(data)
        scenes = ["".join(map(chr, file[ref][:].ravel())) for ref in file["sceneTypes"][0]]
        depths, photos = file["depths"], file["images"]
        if not len(depths) == len(photos) == len(scenes) > max(tested, default=0):
            raise ValueError(f"{len(depths)} depths, {len(photos)} images and {len(scenes)} scenes")
    except Exception as error:  # noqa: BLE001  (scipy and h5py raise many kinds)
        words = f"wanted depths, images, sceneTypes and testNdxs ({type(error).__name__}: {error})"
        raise UnreadableError(f"{folder}: {words}") from None
    items = [
        Item(
            f"frame {i + 1}", (scenes[i] if scenes[i] in SCENES else "others",), partial(load, depths, i),
            photo=partial(picture, photos, i),
        )
        for i in watched(tested, "look")
    ]  # fmt: skip
    return PublishedSet(names_of(SCENES) | {"others": OTHERS}, filled(items, folder, LAYOUT, ()), pairs=items)


def load(depths: Any, number: int) -> Any:
    """Depth in metres with its holes filled, (480, 640) as people see it: the file has width before height."""
    from ...preprocess import depth
    from ...preprocess.depth_sensors import SENSORS

    return depth.load(_frame(depths, number).T, fx=FX, baseline=SENSORS["kinect_v1"].baseline)


def picture(photos: Any, number: int) -> Any:
    """(H, W, 3) of 0..255."""
    return _frame(photos, number).transpose(2, 1, 0)


def _frame(frames: Any, number: int) -> Any:
    try:
        return frames[number]
    except OSError as error:  # a download that broke off opens well
        raise UnreadableError(f"{FILE}: frame {number + 1} cannot be read ({error})") from None
