"""The raw value of motion sensors, what was understood of its source, and what the caller says of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from ...errors import Bind2GenWarning

STANDARD_GRAVITY = 9.80665  # m/s^2 in one g, by definition


@dataclass(frozen=True)
class Stated:
    """What the caller says of a source; None is to be found out. See :func:`bind2gen.preprocess.imu.load`."""

    accelerometer_unit: str | None = None
    gyroscope_unit: str | None = None
    time_unit: str | None = None
    columns: Any = None
    sampling_rate: float | None = None
    timestamps: str = "auto"


@dataclass(frozen=True)
class ImuDescription:
    """What was understood of a recording, for people: the command line prints it.

    Attributes:
        accelerometer_unit, gyroscope_unit: of the source, e.g. ``"g"``; None for a missing gyroscope.
        time_unit: of the source's time column, e.g. ``"ms"``; None where there is none.
        columns: source columns by role, ``{"accelerometer": (...), "gyroscope": (...), "time": (...)}``.
        gaps: start and end in seconds from the beginning of stretches without samples.
        missing: how many single values were NaN or blank.
        notes: each thing that was assumed or repaired, in words.
    """

    accelerometer_unit: str = "m/s^2"
    gyroscope_unit: str | None = "rad/s"
    time_unit: str | None = None
    columns: dict[str, tuple[str, ...]] = field(default_factory=dict)
    gaps: tuple[tuple[float, float], ...] = ()
    missing: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImuRecording:
    """Accelerometer and gyroscope over time.

    Attributes:
        samples: (6, N) float32: accelerometer xyz in m/s^2, gyroscope xyz in rad/s; NaN where a value is missing;
            zeros for a gyroscope that was not there. Never written to.
        sampling_rate: Hz; of samples with ``timestamps`` the mean rate.
        timestamps: (N,) float64 s, strictly rising from 0; None where samples are evenly spaced.
        name: of the file, or ``array``; for messages.
        description: what was understood of the source.
        start: s; what the clock of the source says at the first sample, 0 where it has none.
    """

    samples: torch.Tensor
    sampling_rate: float
    timestamps: torch.Tensor | None = None
    name: str = "array"
    description: ImuDescription = ImuDescription()
    start: float = 0.0

    @property
    def seconds(self) -> float:
        """Length in seconds; the last sample lasts one period."""
        last = (self.samples.shape[1] - 1) / self.sampling_rate if self.timestamps is None else self.timestamps[-1]
        return float(last) + 1 / self.sampling_rate

    @property
    def has_gyroscope(self) -> bool:
        return self.description.gyroscope_unit is not None


def warn(name: str, *messages: str) -> None:
    """One warning a message, each with the name of the source before it."""
    for message in messages:
        warnings.warn(f"{name}: {message}", Bind2GenWarning, stacklevel=5)
