"""The sounds that the audio tower learns from, and those that are kept to judge it."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..preprocess import audio
from .data import Sample, held_out, load_audio
from .evaluate.labels import SOUND_LABELS_FROM, Labelled, of_kept_source

LEFT_OUT = 16  # labels that are never trained


@dataclass(frozen=True)
class Sounds(Labelled):
    """Sounds with their rows.

    Attributes:
        waveforms: (samples,) float32 each, at ``sample_rate`` Hz.
        samples: their rows, in the same order.
        many: (N,) whether it is from ``data/sounds``, of many hands; the others are from ``data/mini``.
        sample_rate: Hz.
    """

    waveforms: list[np.ndarray]
    samples: list[Sample]
    many: np.ndarray
    sample_rate: int

    @cached_property
    def held_out(self) -> np.ndarray:
        """(N,) bool: kept to judge on; by source where there are many, else by recording."""
        kept = held_out(self)
        kept[self.many] = of_kept_source([self.samples[i] for i in np.flatnonzero(self.many)])
        return kept

    @cached_property
    def judged_labels(self) -> list[str]:
        """What the held-out sources name."""
        return sorted(set(self.labels[self.many & self.held_out]))

    @cached_property
    def left_out_labels(self) -> list[str]:
        """Labels that are never trained, to see what emerges; none of them is of a concept."""
        ours, counts = set(self.labels[self.concepts != ""]), Counter(self.labels[self.many].tolist())
        others = [name for name in self.judged_labels if name not in ours and counts[name] >= SOUND_LABELS_FROM]
        return sorted(sorted(others, key=lambda label: zlib.crc32(label.encode()))[:LEFT_OUT])

    @cached_property
    def left_out(self) -> np.ndarray:
        return np.isin(self.labels, self.left_out_labels)

    @cached_property
    def trained(self) -> np.ndarray:
        """(N,) bool: neither held out nor of a label that is left out."""
        return ~self.held_out & ~self.left_out

    def clips(self, row: int, settings: audio.AudioSettings) -> np.ndarray:
        """(S, samples): what the product cuts of a sound; the sound itself where it is shorter than a clip."""
        waveform = audio.Waveform(torch.from_numpy(self.waveforms[row])[None], self.sample_rate)
        return audio.cut(waveform, settings)[0].numpy()


def load_sounds(data: Path) -> Sounds:
    """All of ``data/mini`` and of ``data/sounds``."""
    ours, many = load_audio(data / "mini"), load_audio(data / "sounds", "sounds")
    if ours.sample_rate != many.sample_rate:
        raise InputError(f"{data}: wanted one sampling rate, found {ours.sample_rate} and {many.sample_rate}")
    samples = ours.samples + many.samples
    of_many = np.arange(len(samples)) >= len(ours.samples)
    return Sounds(ours.waveforms + many.waveforms, samples, of_many, ours.sample_rate)
