"""What the bundled model is judged on: the held-out part of a data folder, checked before the long work begins."""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from ...errors import Bind2GenError, Bind2GenWarning, InputError, UnreadableError
from ..data import AudioSet, ImageSet, ImuSet, load_audio, load_images, load_imu, read_rows, split
from ..recipe import JUDGED

THERMAL = ("dog", "person", "helicopter", "airplane", "bird", "drone")
MOTIONS = ("walking", "sitting", "standing")
COLUMNS = {"images": (), "crops": ("modality", "video"), "audio": ("fold",)}  # besides path and concept
Judged = TypeVar("Judged", ImageSet, AudioSet, ImuSet)


@dataclass(frozen=True)
class HeldOut:
    """Data to judge on, and the training photos that the judge and the search for copies need.

    Attributes:
        training: every training photo.
        photos, sounds: held-out ones of the judged concepts.
        thermal, imu: held-out ones of :data:`THERMAL` and :data:`MOTIONS`, or None where the folder has none.
    """

    training: ImageSet
    photos: ImageSet
    sounds: AudioSet
    thermal: ImageSet | None
    imu: ImuSet | None


def check_folder(folder: Path) -> None:
    """Raise :class:`InputError` that names every csv, tar and column that ``folder`` lacks."""
    missing = []
    for name, columns in COLUMNS.items():
        if not (folder / f"{name}.tar").is_file():
            missing.append(f"{name}.tar")
        if not (folder / f"{name}.csv").is_file():
            missing.append(f"{name}.csv")
            continue
        with open(folder / f"{name}.csv", encoding="utf-8", errors="replace") as handle:
            found = handle.readline().strip().split(",")
        missing += [f"column {c} of {name}.csv" for c in ("path", "concept", *columns) if c not in found]
    if missing:
        wanted = "images, crops and audio, each as a csv (columns path, concept; crops: modality, video; audio: fold)"
        raise InputError(f"{folder}: wanted {wanted} beside a tar; missing: {', '.join(missing)}")


def folder_of(folder: Path, name: str) -> Path:
    """``folder``, or the subfolder that holds ``name``.csv where it does not itself; ``folder`` where none does.

    Raises:
        InputError: several subfolders do.
    """
    if (folder / f"{name}.csv").is_file():
        return folder
    places = sorted(path.parent for path in folder.glob(f"*/{name}.csv"))
    if len(places) > 1:
        found = ", ".join(place.name for place in places)
        raise InputError(
            f"{folder}: wanted {name}.csv in it or in one subfolder, found it in {found}; give one of them"
        )
    return places[0] if places else folder


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Turns what broken archives and files raise into one line that names the folder."""
    try:
        yield
    except Bind2GenError:
        raise
    except KeyError as error:
        raise UnreadableError(f"{folder}: a csv names {error}, which its tar (or table) does not hold") from error
    except (tarfile.TarError, soundfile.SoundFileError, OSError, ValueError) as error:
        raise UnreadableError(f"{folder}: cannot be read ({type(error).__name__}: {error})") from error


def load_held_out(folder: Path, held_out: Path | None = None, *, limit: int | None = None) -> HeldOut:
    """Read a folder in the training data's form.

    Args:
        folder: its training part makes the judge; its held-out part is judged on. The files lie in it or, all of
            them, in one of its subfolders.
        held_out: another folder, all of which is judged on instead.
        limit: items of each concept, spread evenly over what there is; default is all.

    Raises:
        InputError: files, columns or concepts are missing.
        UnreadableError: an archive is damaged.
    """
    folder, held_out = folder_of(folder, "images"), held_out and folder_of(held_out, "images")
    for place in (folder, held_out):
        if place is not None:
            check_folder(place)
    with named(folder):
        training, photos = split(load_images(folder))
    if held_out is not None:
        with named(held_out):
            photos = load_images(held_out)
    if untaught := [name for name in JUDGED if name not in set(training.concepts())]:
        raise InputError(f"{folder}: wanted training photos of every judged concept, found none of {untaught}")
    where = held_out or folder

    def kept(data: Judged) -> Judged:
        return data if held_out else split(data)[1]

    with named(where):
        sounds = kept(load_audio(where))
        is_there = any(sample.row.get("modality") == "thermal" for sample in read_rows(where / "crops.csv"))
        thermal = kept(load_images(where, ("crops",), "thermal")) if is_there else None
        imu = kept(load_imu(where)) if any((where / "imu").glob("*.csv.gz")) else None
    return HeldOut(
        training=training,
        photos=_judged(photos, JUDGED, limit, f"{where}: photos"),
        sounds=_judged(sounds, JUDGED, limit, f"{where}: sounds"),
        thermal=thermal and _judged(thermal, THERMAL, limit, f"{where}: thermal crops"),
        imu=imu and _judged(imu, MOTIONS, limit, f"{where}: IMU recordings"),
    )


def spread(names: np.ndarray, limit: int | None) -> np.ndarray:
    """(N,) bool: at most ``limit`` of each name, spread evenly over what there is; all for None."""
    mask = np.zeros(len(names), bool)
    for name in np.unique(names):
        there = np.flatnonzero(names == name)
        if limit is not None and len(there) > limit:
            there = there[np.linspace(0, len(there) - 1, limit).astype(int)]
        mask[there] = True
    return mask


def _judged(data: Judged, concepts: tuple[str, ...], limit: int | None, what: str) -> Judged:
    """Items of the concepts, at most ``limit`` of each; warns of concepts without any."""
    found = data.concepts()
    if absent := [name for name in concepts if name not in set(found)]:
        if len(absent) == len(concepts):
            raise InputError(f"{what}: wanted held-out ones of {', '.join(concepts)}; found none")
        warnings.warn(f"{what}: none held out of {', '.join(absent)}", Bind2GenWarning, stacklevel=2)
    return data.take(spread(found, limit) & np.isin(found, concepts))
