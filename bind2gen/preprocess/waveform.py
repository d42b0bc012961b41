"""Waveforms, and how arrays become them, before any processing; :mod:`.sound_files` reads files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import EmptyInputError, InputError, NonFiniteError, ShapeError
from .sources import is_file_source, source_name

MAX_CHANNELS = 64  # an array with more is most likely the wrong way round, or no sound at all
LOUD = 32.0  # float sound in -1..1 may overshoot a little; beyond this it is unscaled integers
# Full scale and zero of integer samples.
INTEGER_SCALES = {torch.uint8: (128.0, 128.0), torch.int16: (32_768.0, 0.0), torch.int32: (2_147_483_648.0, 0.0)}


@dataclass(frozen=True)
class Waveform:
    """A sound.

    Attributes:
        samples: (channels, n) float32, about -1..1, finite, n > 0. Never written to.
        sample_rate: Hz.
        name: of the file, or ``array``; for messages.
    """

    samples: torch.Tensor
    sample_rate: float
    name: str = "array"

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.sample_rate


def waveform_from_array(source: Any, sampling_rate: float | None) -> Waveform | None:
    """From an array, tensor, ``(array, rate)``, ``(rate, array)`` or the dict of datasets; None for files.

    Raises:
        ShapeError, EmptyInputError, NonFiniteError: the samples cannot be sound.
        InputError: the sampling rate is missing or not above zero.
    """
    if is_file_source(source):
        return None
    array, rate = source, sampling_rate
    if isinstance(source, Mapping):
        if source.get("array") is None:
            keys = ", ".join(map(str, source)) or "none"
            raise InputError(f"dict: wanted the keys array and sampling_rate, or bytes or path, got {keys}")
        array, rate = source["array"], source.get("sampling_rate", sampling_rate)
        array = np.asarray(array, np.float32) if isinstance(array, list) else array  # a table's row holds lists
    elif isinstance(source, tuple) and len(source) == 2:
        array, rate = source if _is_array(source[0]) else source[::-1]
    if not _is_array(array):
        raise ShapeError(
            f"{source_name(source)}: wanted a sound as a path, bytes, file object, array or (array, rate), "
            f"got {type(source).__name__}"
        )
    return Waveform(_samples(array), _checked_rate(rate))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | torch.Tensor)


def _checked_rate(rate: Any) -> float:
    if rate is None:
        raise InputError("array: its sampling rate is missing; pass (array, rate in Hz) or sampling_rate=")
    try:
        value = float(rate)
    except (TypeError, ValueError):
        value = math.nan
    if not (0 < value < math.inf) or isinstance(rate, bool):
        raise InputError(f"array: wanted a sampling rate above 0 Hz, got {rate!r}")
    return value


def _samples(array: np.ndarray | torch.Tensor) -> torch.Tensor:
    """(channels, n) float32 copy or view of a caller's array, checked."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise ShapeError(f"array: wanted float or integer samples, got dtype {array.dtype}")
        if array.dtype.kind in "iu" and array.dtype.name not in ("uint8", "int16", "int32"):
            raise ShapeError(f"array: wanted float, uint8, int16 or int32 samples, got dtype {array.dtype}")
        native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
        array = torch.from_numpy(native if native.flags.writeable else native.copy())
    tensor = array.detach()
    if tensor.ndim not in (1, 2):
        raise ShapeError(
            f"array: wanted (samples,), (channels, samples) or (samples, channels), got shape {tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        raise EmptyInputError(f"array: the sound has no samples (shape {tuple(tensor.shape)})")
    if tensor.ndim == 1:
        tensor = tensor[None]
    elif tensor.shape[0] > tensor.shape[1]:  # time is the longer axis
        tensor = tensor.T
    if len(tensor) > MAX_CHANNELS:
        raise ShapeError(f"array: wanted at most {MAX_CHANNELS} channels, got shape {tuple(array.shape)}")
    return checked_samples(_as_float(tensor), "array")


def _as_float(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point():
        return tensor.float()
    if tensor.dtype not in INTEGER_SCALES:
        raise ShapeError(f"array: wanted float, uint8, int16 or int32 samples, got dtype {tensor.dtype}")
    scale, zero = INTEGER_SCALES[tensor.dtype]
    return (tensor.float() - zero) / scale


def checked_samples(samples: torch.Tensor, name: str) -> torch.Tensor:
    """Refuse NaN, infinity and sound that is plainly not scaled to -1..1."""
    if samples.device.type == "cpu":
        values = samples.numpy()  # without torch's threads, which every thread that reads files would start anew
        low, high = float(values.min()), float(values.max())  # NaN comes through
    else:
        low, high = (float(value) for value in samples.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise NonFiniteError(f"{name}: the sound holds NaN or infinite samples; clean it, e.g. with numpy.nan_to_num")
    if (peak := max(-low, high)) > LOUD:
        raise InputError(
            f"{name}: wanted float samples in -1..1, got a peak of {peak:.6g}; divide by the full scale (32768)"
        )
    return samples
