"""Motion in arrays: tensors, numpy, dicts of them, NPY and NPZ."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...errors import Bind2GenError, EmptyInputError, InputError, ShapeError, UnreadableError
from ...files.arrays import read_arrays
from ..sources import one_line, opened, source_name
from .layouts import Columns
from .tables import ArrayTable

WANTED = "motion data (NPY or NPZ)"
ARRAY = np.ndarray | torch.Tensor
BOTH = ("samples", "array", "imu", "data")  # keys of (6, N) arrays
TIMES = ("timestamps", "timestamp", "times", "time")
RATES = ("sampling_rate", "sample_rate", "rate", "fs")


def is_array_source(source: Any) -> bool:
    """Whether it is an array, a dict of arrays, ``(array, rate)`` or ``(rate, array)``."""
    if isinstance(source, tuple) and len(source) == 2:
        arrays = [part for part in source if isinstance(part, ARRAY)]
        return len(arrays) == 1 and any(isinstance(part, int | float | np.number) for part in source)
    return isinstance(source, ARRAY | Mapping)


def array_table(
    values: np.ndarray, times: Any = None, rate: Any = None, name: str = "array", columns: Columns | None = None
) -> ArrayTable:
    """Values (6, N) float64 with NaN rows for a missing gyroscope, and times (N,) or a rate in Hz."""
    times = None if times is None else np.atleast_1d(_numpy(times)).reshape(-1)
    if times is not None and len(times) != values.shape[1]:
        raise ShapeError(f"{name}: {values.shape[1]} samples but {len(times)} timestamps")
    rate = np.asarray(rate).item() if rate is not None and np.size(rate) == 1 else rate
    return ArrayTable((values, times), name, columns=columns or Columns((0, 1, 2), (3, 4, 5), 6), rate=rate)


def from_arrays(source: Any) -> ArrayTable:
    """Bring any form of arrays in order; see :func:`is_array_source`."""
    if not isinstance(source, Mapping):
        pair = source if isinstance(source, tuple) else (source, None)
        array, rate = pair if isinstance(pair[0], ARRAY) else pair[::-1]
        return array_table(_channels(array, "array", (3, 6)), rate=rate)
    found = {str(key).lower(): value for key, value in source.items() if value is not None}
    both, times, rate = (next((found[key] for key in keys if key in found), None) for keys in (BOTH, TIMES, RATES))
    if both is None and "accelerometer" not in found:
        keys = one_line(", ".join(map(str, source)), 120) or "none"
        raise InputError(f"dict: wanted the keys accelerometer (and gyroscope) or samples, got {keys}")
    if both is not None:
        return array_table(_channels(both, "samples", (3, 6)), times, rate)
    values = _channels(found["accelerometer"], "accelerometer", (3,))
    if "gyroscope" in found:
        gyroscope = _channels(found["gyroscope"], "gyroscope", (3,))[:3]
        if gyroscope.shape != (3, values.shape[1]):
            raise ShapeError(f"accelerometer has {values.shape[1]} samples, gyroscope {gyroscope.shape[1]}")
        values[3:] = gyroscope
    return array_table(values, times, rate)


def is_numpy_file(source: Any) -> bool:
    """Whether a file is NPY or NPZ, by its first bytes and, of zip archives, by what is in it."""
    with opened(source, WANTED) as file:
        start = file.read(6)
        if start.startswith(b"PK"):
            with suppress(Exception), zipfile.ZipFile(file) as archive:  # zipfile raises many things on broken files
                return any(name.endswith(".npy") for name in archive.namelist())
    return start == b"\x93NUMPY" or (start.startswith(b"PK") and source_name(source).endswith(".npz"))


def read_numpy(source: Any) -> ArrayTable:
    """An NPY file of one array, or an NPZ file with the keys of a dict; objects are refused."""
    name = source_name(source)
    with opened(source, WANTED) as file:
        try:
            content = read_arrays(file, name)
        except Bind2GenError:
            raise
        except Exception as error:  # numpy and zipfile raise many things on broken files
            raise UnreadableError(f"{name}: wanted {WANTED}, cannot read it ({one_line(error)})") from None
    try:
        return replace(from_arrays(content), name=name)
    except Bind2GenError as error:
        raise type(error)(f"{name}: {error}") from None


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
    array = array if array.shape[0] in channels else array.T
    values = np.full((6, array.shape[1]), np.nan)
    with np.errstate(invalid="ignore"):  # NaN of the kind that signals
        values[: len(array)] = array
    return values
