"""Motion in arrays: tensors, numpy, dicts of them, NPY and NPZ."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..errors import Bind2GenError, EmptyInputError, InputError, ShapeError, UnreadableError
from .imu_columns import Columns
from .imu_files import Block
from .imu_reading import Stated, Understanding, understand
from .sources import one_line, opened, source_name

WANTED = "motion data (NPY or NPZ)"
BOTH = ("samples", "array", "imu", "data")  # keys of (6, N) arrays
TIMES = ("timestamps", "timestamp", "times", "time")
RATES = ("sampling_rate", "sample_rate", "rate", "fs")
ARRAY_COLUMNS = Columns((0, 1, 2), (3, 4, 5), 6)


@dataclass(frozen=True)
class Arrays:
    """One recording: values (6, N) float64 with NaN rows for a missing gyroscope, times (N,) or None, rate or None."""

    values: np.ndarray
    times: np.ndarray | None = None
    rate: Any = None

    def understood(self, stated: Stated, name: str, columns: Columns = ARRAY_COLUMNS) -> Understanding:
        """Judge the arrays as a table is judged; a rate of their own counts where the caller states none.

        Raises:
            InputError and its subclasses: see :func:`~bind2gen.preprocess.imu_reading.understand`.
        """
        if stated.sampling_rate is None and self.rate is not None:
            stated = replace(stated, sampling_rate=self.rate)
        if self.times is not None and len(self.times) != self.values.shape[1]:
            raise ShapeError(f"{name}: {self.values.shape[1]} samples but {len(self.times)} timestamps")
        block: Block = (self.values, self.times)
        return understand([block], columns, stated, name, ())


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | torch.Tensor)


def is_array_source(source: Any) -> bool:
    """Whether it is an array, a dict of arrays, ``(array, rate)`` or ``(rate, array)``."""
    if isinstance(source, tuple) and len(source) == 2:
        return sum(map(is_array, source)) == 1 and any(isinstance(part, int | float | np.number) for part in source)
    return is_array(source) or isinstance(source, Mapping)


def is_numpy_file(source: Any) -> bool:
    """Whether a file is NPY or NPZ, by its first bytes and, of zip archives, by what is in it."""
    with opened(source, WANTED) as file:
        start = file.read(6)
        if start.startswith(b"PK"):
            with suppress(Exception), zipfile.ZipFile(file) as archive:  # zipfile raises many things on broken files
                return any(name.endswith(".npy") for name in archive.namelist())
    return start == b"\x93NUMPY" or (start.startswith(b"PK") and source_name(source).endswith(".npz"))


def from_arrays(source: Any) -> Arrays:
    """Bring any form of arrays in order; see :func:`is_array_source`.

    Raises:
        ShapeError, EmptyInputError, InputError: there is no accelerometer in it, or shapes or dtypes do not fit.
    """
    name = source_name(source)
    if isinstance(source, Mapping):
        return _from_mapping(source, name)
    if isinstance(source, tuple):
        array, rate = source if is_array(source[0]) else source[::-1]
        return Arrays(_channels(array, "array", (3, 6)), rate=rate)
    return Arrays(_channels(source, "array", (3, 6)))


def read_numpy(source: Any) -> Arrays:
    """An NPY file of one array, or an NPZ file with the keys of a dict.

    Raises:
        UnreadableError: it is damaged, or holds pickled objects.
    """
    name = source_name(source)
    with opened(source, WANTED) as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            content = loaded if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
        except Exception as error:  # numpy and zipfile raise many things on broken files
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({one_line(error)})") from None
    try:
        return from_arrays(content)
    except Bind2GenError as error:
        raise type(error)(f"{name}: {error}") from None


def _from_mapping(source: Mapping[str, Any], name: str) -> Arrays:
    found = {str(key).lower(): value for key, value in source.items()}
    both = next((found[key] for key in BOTH if found.get(key) is not None), None)
    times = next((found[key] for key in TIMES if found.get(key) is not None), None)
    rate = next((found[key] for key in RATES if found.get(key) is not None), None)
    if both is not None:
        values = _channels(both, "samples", (3, 6))
    elif found.get("accelerometer") is not None:
        values = _channels(found["accelerometer"], "accelerometer", (3,))
        if found.get("gyroscope") is not None:
            gyroscope = _channels(found["gyroscope"], "gyroscope", (3,))[:3]
            if gyroscope.shape != (3, values.shape[1]):
                raise ShapeError(f"accelerometer has {values.shape[1]} samples, gyroscope {gyroscope.shape[1]}")
            values = np.concatenate([values[:3], gyroscope])
    else:
        keys = one_line(", ".join(map(str, source)), 120) or "none"
        raise InputError(f"{name}: wanted the keys accelerometer (and gyroscope) or samples, got {keys}")
    rate = np.asarray(rate).item() if rate is not None and np.size(rate) == 1 else rate
    return Arrays(values, None if times is None else np.atleast_1d(_numpy(times)).reshape(-1), rate)


def _numpy(array: Any) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.float() if array.dtype in (torch.bfloat16, torch.float16) else array
        return array.resolve_conj().resolve_neg().numpy()
    return np.asarray(array)


def _channels(array: Any, what: str, channels: tuple[int, ...]) -> np.ndarray:
    """(6, N) float64 copy of (C, N) or (N, C); with three channels the others are NaN."""
    array = _numpy(array)
    wanted = " or ".join(f"({c}, N), (N, {c})" for c in channels)
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{what}: wanted {wanted} numbers, got dtype {array.dtype}")
    if array.ndim != 2 or not set(array.shape) & set(channels):
        raise ShapeError(f"{what}: wanted {wanted}, got shape {array.shape}")
    if array.size == 0:
        raise EmptyInputError(f"{what}: the recording has no samples (shape {array.shape})")
    if array.shape[0] not in channels:
        array = array.T
    values = np.full((6, array.shape[1]), np.nan)
    values[: len(array)] = array
    return values
