"""Settings of motion windows.

Constants: facebookresearch/imu2clip, which resamples Ego4D to 200 Hz and takes 5 s to both sides of a moment, and
ImageBind (arXiv 2305.05665, section 4), whose model takes 2000 samples of six channels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import InputError
from ..settings import Settings

SAMPLING_RATE = 200.0  # Hz
SAMPLES = 2000
NUM_CLIPS = 3
MAX_GAP = 0.25  # s; a stretch without samples up to this long is bridged, a longer one becomes zeros
MAX_SECONDS = 86_400.0  # s; a day at 200 Hz is 415 MB as float32
POLICIES = ("even", "cover", "sliding")


@dataclass(frozen=True)
class ImuSettings(Settings):
    """How motion becomes model input. Defaults are imagebind_huge's, read as 10 s at 200 Hz (see :data:`READINGS`).

    Attributes:
        sampling_rate: Hz, that recordings are resampled to; never stretched.
        samples: of one window. What a recording or a window lacks is zeros at the end.
        policy: which windows are cut from a recording of T seconds.
            ``"even"``: ``num_clips`` at evenly spaced starts 0 .. T - length.
            ``"cover"``: ceil(T / length), evenly spaced, so that every moment is in one.
            ``"sliding"``: one every ``hop`` seconds, for one embedding a window (``encode(..., pool=False)``).
        num_clips: for ``"even"``.
        window, hop: s, for ``"sliding"``; None means all ``samples``, and half of the window.
        axes: which axis of the source stands at x, y and z, of both sensors, a minus before those that are turned
            round: ``"xyz"`` leaves all as it is, ``"y-xz"`` turns a phone held sideways upright.
        flip_accelerometer: turn the accelerometer round: Apple's Core Motion gives gravity the sign that Android and
            the training data do not.
        missing_gyroscope: ``"zeros"`` (with a warning) or ``"refuse"``.
        max_gap: s; shorter holes in a recording are bridged, longer ones become zeros, with a warning.
        max_seconds: longer recordings are refused, to protect memory.
    """

    sampling_rate: float = SAMPLING_RATE
    samples: int = SAMPLES
    policy: str = "cover"
    num_clips: int = NUM_CLIPS
    window: float | None = None
    hop: float | None = None
    axes: str = "xyz"
    flip_accelerometer: bool = False
    missing_gyroscope: str = "zeros"
    max_gap: float = MAX_GAP
    max_seconds: float = MAX_SECONDS

    def __post_init__(self) -> None:
        self.require_choice("policy", POLICIES)
        self.require_choice("missing_gyroscope", ("zeros", "refuse"))
        self.require_positive("sampling_rate", "samples", "num_clips", "max_gap", "max_seconds")
        self.require_positive(*(name for name in ("window", "hop") if getattr(self, name) is not None))
        if self.window is not None and not 1 <= round(self.window * self.sampling_rate) <= self.samples:
            longest = self.samples / self.sampling_rate
            raise InputError(f"ImuSettings: wanted window of at most {longest:g} s (samples), got {self.window}")
        if not re.fullmatch("(-?[xyz]){3}", str(self.axes)) or len(set(self.axes) - {"-"}) != 3:
            raise InputError(f"ImuSettings: wanted axes as x, y, z in some order, e.g. 'y-xz', got {self.axes!r}")

    @property
    def clip_duration(self) -> float:
        """Seconds of ``samples``."""
        return self.samples / self.sampling_rate

    @property
    def clip_samples(self) -> int:
        """Samples of one window that hold motion; fewer than ``samples`` for ``"sliding"`` with a shorter window."""
        if self.policy == "sliding" and self.window is not None:
            return round(self.window * self.sampling_rate)
        return self.samples

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop * self.sampling_rate) if self.hop is not None else self.clip_samples // 2)

    @property
    def axis_order(self) -> tuple[list[int], list[float]]:
        """For each of x, y, z: the source's axis number, and its sign."""
        marks = re.findall("-?[xyz]", self.axes)
        return ["xyz".index(mark[-1]) for mark in marks], [-1.0 if mark[0] == "-" else 1.0 for mark in marks]


# What "2000 samples" of the released model may mean. imu2clip, from the same group, cuts 10 s at 200 Hz, which the
# model is believed to have been trained with; the paper's text speaks of 5 s.
DEFAULTS = ImuSettings()
READINGS = {"ten_seconds": DEFAULTS, "five_seconds": ImuSettings(sampling_rate=400.0)}
