"""Recordings in several files: a pair of sensors, a phone's export folder, and the UCI HAR data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError, UnreadableError
from .imu_recording import STANDARD_GRAVITY, ImuDescription, ImuRecording
from .sources import one_line, source_name

UCI_HAR_RATE = 50.0  # Hz; windows of 128 samples; total acceleration in g, gyroscope in rad/s (the set's README)
# Files of Sensor Logger and Phyphox folders, best first; TotalAcceleration has gravity in it, as the model wants.
ACCELEROMETERS = ("totalacceleration", "accelerometer", "acceleration", "accelerometeruncalibrated")
GRAVITY = "gravity"  # Sensor Logger's, where its accelerometer has gravity taken off
GYROSCOPES = ("gyroscope", "gyroscopeuncalibrated", "rotation rate", "rotationrate")
TABLES = (".csv", ".csv.gz", ".txt", ".tsv", ".parquet")


def uci_har_files(folder: Path) -> dict[str, Path]:
    """Files ``total_acc_x_*.txt`` ... ``body_gyro_z_*.txt`` in a folder or its ``Inertial Signals``; empty if none."""
    inner = folder / "Inertial Signals"
    folder = inner if inner.is_dir() else folder
    names = [f"{sensor}_{axis}" for sensor in ("total_acc", "body_gyro") for axis in "xyz"]
    found = {name: sorted(folder.glob(f"{name}_*.txt*")) for name in names}
    return {name: paths[0] for name, paths in found.items()} if all(found.values()) else {}


def load_uci_har(folder: str | os.PathLike[str], row: int | None = None) -> list[ImuRecording]:
    """Windows of the UCI HAR data set (2.56 s each, half overlapping, of changing people: they are not joined).

    Args:
        folder: ``train`` or ``test``, or ``Inertial Signals`` in it.
        row: only this window, from 0; default is all.

    Raises:
        UnreadableError: the six files are not there or damaged; InputError: there is no such row.
    """
    name = source_name(folder)
    files = uci_har_files(Path(folder))
    if not files:
        raise UnreadableError(f"{name}: wanted UCI HAR's six files total_acc_x_*.txt ... body_gyro_z_*.txt")
    try:
        signals = [np.loadtxt(path, dtype=np.float32, ndmin=2) for path in files.values()]
        windows = torch.from_numpy(np.stack(signals, axis=1))  # (rows, 6, 128)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{name}: wanted UCI HAR's text files, cannot read them ({one_line(error)})") from None
    if row is not None and not 0 <= row < len(windows):
        raise InputError(f"{name}: wanted a row of 0..{len(windows) - 1}, got {row}")
    if not bool(windows.isfinite().all()):
        raise UnreadableError(f"{name}: UCI HAR's text files hold NaN or infinite values")
    windows[:, :3] *= STANDARD_GRAVITY
    columns = {"accelerometer": tuple(files)[:3], "gyroscope": tuple(files)[3:]}
    description = ImuDescription(
        "g", "rad/s", None, columns, notes=("UCI HAR: 50 Hz, g and rad/s, as its README says",)
    )
    rows = range(len(windows)) if row is None else [row]
    return [ImuRecording(windows[i], UCI_HAR_RATE, None, f"{name}, row {i}", description) for i in rows]


def gravity_beside(accelerometer: object) -> Path | None:
    """The gravity sensor's table in the folder of an accelerometer's, unless that is one of total acceleration."""
    if not isinstance(accelerometer, str | os.PathLike) or _stem(Path(accelerometer)) == ACCELEROMETERS[0]:
        return None
    return _tables(Path(accelerometer).parent).get(GRAVITY)


def _tables(folder: Path) -> dict[str, Path]:
    return {_stem(path): path for path in folder.iterdir() if path.name.lower().endswith(TABLES)}


def _stem(path: Path) -> str:
    return path.name.lower().partition(".")[0]


def load_folder(folder: Path, row: int | None, load_files: Callable[[Path, Path], ImuRecording]) -> ImuRecording:
    """One recording from a folder: a UCI HAR window, or a phone's ``Accelerometer.csv`` and ``Gyroscope.csv``.

    Raises:
        UnreadableError: the folder holds neither; InputError: a UCI HAR folder needs ``row``.
    """
    name = source_name(folder)
    if uci_har_files(folder):
        found = load_uci_har(folder, row)
        if len(found) > 1:
            raise InputError(f"{name}: UCI HAR holds {len(found)} windows; give row=0..{len(found) - 1}")
        return found[0]
    by_stem = _tables(folder)
    pair = [next((by_stem[stem] for stem in stems if stem in by_stem), None) for stems in (ACCELEROMETERS, GYROSCOPES)]
    if None in pair:
        raise UnreadableError(
            f"{name}: wanted motion data, this folder holds neither Accelerometer and Gyroscope tables nor UCI HAR's "
            "Inertial Signals; pass the file in it, or (accelerometer file, gyroscope file)"
        )
    return load_files(*pair)
