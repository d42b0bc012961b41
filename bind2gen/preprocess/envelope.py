"""How loud a sound is, frame by frame of a film, and where it starts anew."""

from __future__ import annotations

import torch

from .waveform import Waveform

RANGE = 40.0  # dB under the loudest that count for nothing
LOUDEST = 0.95  # share of the frames that are less loud than what counts as the loudest: a click is not it
HALF_LIFE = 0.25  # s after an onset


def loudness(sound: Waveform, count: int, fps: float) -> torch.Tensor:
    """(count,) float32 of 0..1: the level of each frame, RANGE under the loudest to the loudest.

    Args:
        count: frames from the sound's start on; those after its end are silent.
        fps: frames a second.
    """
    power = sound.samples.float().square().mean(0).double()
    edges = (torch.arange(count + 1) * (sound.sample_rate / fps)).round().long().clamp(max=len(power))
    sums = torch.cat([power.new_zeros(1), power.cumsum(0)])
    means = (sums[edges[1:]] - sums[edges[:-1]]) / edges.diff().clamp(min=1)
    level = 10 * means.clamp(min=1e-12).log10()
    return (1 + (level - level.quantile(LOUDEST)) / RANGE).clamp(0, 1).float()


def onsets(sound: Waveform, count: int, fps: float) -> torch.Tensor:
    """(count,) float32 of 0..1: 1 where the level rises most, and half after each :data:`HALF_LIFE`."""
    rise = loudness(sound, count, fps).diff(prepend=torch.zeros(1)).clamp(min=0)
    kept, now, found = 0.5 ** (1 / (fps * HALF_LIFE)), 0.0, []
    for value in (rise / rise.max().clamp(min=1e-6)).tolist():
        now = max(value, now * kept)
        found.append(now)
    return torch.tensor(found)
