"""How sound becomes model input. Constants: facebookresearch/ImageBind, imagebind/data.py."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .settings import Settings

FRAME_LENGTH = 0.025  # s
FRAME_SHIFT = 0.010  # s
SAMPLE_RATE = 16_000  # Hz
NUM_MEL_BINS = 128
TARGET_LENGTH = 204  # frames of 10 ms
CLIP_DURATION = 2.0  # s
LOW_FREQ, HIGH_FREQ = 20.0, 0.0  # Hz; Kaldi's 0 is the Nyquist frequency
PREEMPHASIS = 0.97
MEL_MEAN, MEL_STD = -4.268, 9.138  # of log-mel values; the reference's, from AudioSet
NUM_CLIPS = 3
MAX_SECONDS = 3600.0  # s; an hour of 48 kHz stereo is 1.4 GB as float32
POLICIES = ("even", "reference", "cover", "sliding")
PADDINGS = ("pad", "repeat")


@dataclass(frozen=True)
class AudioSettings(Settings):
    """How sound becomes model input. Defaults are imagebind_huge's.

    Attributes:
        sample_rate: Hz, that sounds are brought to.
        num_mel_bins, target_length: height and width (in 10 ms frames) of the log-mel picture.
        clip_duration: s, length of one clip.
        low_freq, high_freq: Hz, ends of the mel banks; 0 is the Nyquist frequency, less is so much below it.
        preemphasis_coefficient: 0..1, how much of each sample is taken off the next one.
        use_power: mel banks sum power; False: magnitudes.
        padding: what fills the frames that a sound is too short for. ``"pad"``: 0 before normalisation, a rather loud
            value, as the reference does. ``"repeat"``: the sound again and again.
        mean, std: normalisation of log-mel values.
        policy: which clips are cut from a sound of T seconds.
            ``"even"``: ``num_clips`` at evenly spaced starts 0 .. T - clip_duration.
            ``"reference"``: the same starts with the reference's faults, for exact comparison: the first channel
            only, less the mean of all channels, taken off in place, so that overlapping clips (T under
            ``num_clips * clip_duration``) change each other.
            ``"cover"``: ceil(T / clip_duration) clips, evenly spaced, so that every moment is heard (the paper's text).
            ``"sliding"``: a window every ``hop`` seconds, for one embedding a window (``encode(..., pool=False)``).
        sounding: of ``"even"`` and ``"cover"``: where some of these clips hold next to nothing (30 dB softer than the
            loudest), clips are cut from where something sounds instead, so that one bark in a minute of silence is
            heard. Short and steady sounds stay as they are.
        num_clips: for ``"even"`` and ``"reference"``.
        window, hop: s, for ``"sliding"``; None means ``clip_duration`` and half of the window.
        max_seconds: longer sounds are refused, to protect memory.
    """

    sample_rate: int = SAMPLE_RATE
    num_mel_bins: int = NUM_MEL_BINS
    target_length: int = TARGET_LENGTH
    clip_duration: float = CLIP_DURATION
    low_freq: float = LOW_FREQ
    high_freq: float = HIGH_FREQ
    preemphasis_coefficient: float = PREEMPHASIS
    use_power: bool = True
    padding: str = "pad"
    mean: float = MEL_MEAN
    std: float = MEL_STD
    policy: str = "even"
    sounding: bool = True
    num_clips: int = NUM_CLIPS
    window: float | None = None
    hop: float | None = None
    max_seconds: float = MAX_SECONDS

    def __post_init__(self) -> None:
        self.require_choice("policy", POLICIES)
        self.require_choice("padding", PADDINGS)
        self.require_choice("sounding", (True, False))
        self.require_choice("use_power", (True, False))
        self.require_positive("sample_rate", "num_mel_bins", "target_length", "clip_duration", "std", "num_clips")
        self.require_positive("max_seconds", *(name for name in ("window", "hop") if getattr(self, name) is not None))
        if not 0 <= self.low_freq < self.highest_freq <= self.sample_rate / 2:
            raise InputError(
                f"AudioSettings: wanted 0 <= low_freq < high_freq <= {self.sample_rate / 2:g} Hz, half of sample_rate, "
                f"got {self.low_freq!r} and {self.high_freq!r}"
            )
        if not 0 <= self.preemphasis_coefficient <= 1:
            came = self.preemphasis_coefficient
            raise InputError(f"AudioSettings: wanted preemphasis_coefficient in 0..1, got {came!r}")
        # One embedding is made of target_length frames: a longer window would silently lose its end.
        longest = (self.target_length - 1) * FRAME_SHIFT + FRAME_LENGTH
        for name in ("clip_duration", "window"):
            value = getattr(self, name)
            if value is not None and not FRAME_LENGTH <= value <= longest + FRAME_SHIFT:
                raise InputError(
                    f"AudioSettings: wanted {name} of {FRAME_LENGTH}..{longest + FRAME_SHIFT:.3f} s, which is what "
                    f"target_length={self.target_length} frames hold, got {value}"
                )

    @property
    def highest_freq(self) -> float:
        """Hz, the upper end of the mel banks."""
        return self.high_freq + (self.sample_rate / 2 if self.high_freq <= 0 else 0)

    @property
    def clip_samples(self) -> int:
        """Samples of one clip, or of one window under the ``"sliding"`` policy."""
        seconds = self.window if self.policy == "sliding" and self.window is not None else self.clip_duration
        return round(seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop * self.sample_rate) if self.hop is not None else self.clip_samples // 2)
