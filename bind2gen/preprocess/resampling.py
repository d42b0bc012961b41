"""Band-limited resampling with torchaudio's filters, of whole signals and block by block with the same numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F

from .mel import torchaudio

MAX_KERNEL = 1 << 20  # values; rates that share no factor would need gigabytes for an exact resampler
LARGEST_KERNEL = 1 << 24  # values, of the nearest ratio that is taken instead
ROLLOFF = 0.99  # of the lower Nyquist frequency; torchaudio's default
AUDIO_WIDTH = 6  # zero crossings of the sinc on each side; torchaudio's default
TOGETHER = 16  # new samples that are made by one matrix product: fewer call too often, more multiply by zeros
NEGLIGIBLE = 1e-9  # of a filter's largest weight; beyond the window weights are about 1e-15, not quite 0

Filters = list[tuple[int, torch.Tensor]]  # first old sample that counts, and weights (old samples, new samples)


def resample_ratio(rate: float, new_rate: float) -> Fraction:
    """Old samples per new one: exact where the rates share a factor, else the nearest small ratio (1e-6 off)."""
    ratio = Fraction(rate).limit_denominator(1000) / Fraction(new_rate).limit_denominator(1000)
    if ratio.numerator * ratio.denominator <= MAX_KERNEL:
        return ratio
    limit = max(1, min(1000, math.isqrt(int(LARGEST_KERNEL / max(ratio, 1 / ratio)))))
    return ratio.limit_denominator(limit) if ratio > 1 else 1 / (1 / ratio).limit_denominator(limit)


def resample(samples: torch.Tensor, rate: float, new_rate: float) -> torch.Tensor:
    """(..., n) at ``rate`` Hz brought to ``new_rate`` Hz: what ``torchaudio.functional.resample`` makes of it.

    Rates without a common factor (44,101 Hz) are brought to the nearest small ratio, less than a millionth off.

    Raises:
        DependencyError: torchaudio is missing or broken.
    """
    ratio = resample_ratio(rate, new_rate)
    return samples if ratio == 1 else _resampled(samples, ratio, AUDIO_WIDTH)


def _resampled(samples: torch.Tensor, ratio: Fraction, width: int) -> torch.Tensor:
    old, new, reach, filters = _filters(ratio, width, samples.dtype, samples.device)
    count = samples.shape[-1]
    rows = count // old + 1  # of ``old`` samples that become ``new``
    # Not by F.pad, which keeps strides: those of interleaved channels make the products several times as slow.
    padded = samples.new_zeros(*samples.shape[:-1], rows * old + 2 * reach)
    padded[..., reach : reach + count] = samples
    made = [
        padded[..., first : first + len(weights) + (rows - 1) * old].unfold(-1, len(weights), old) @ weights
        for first, weights in filters
    ]
    return torch.cat(made, dim=-1).flatten(-2)[..., : math.ceil(count / ratio)]


@lru_cache(maxsize=32)
def _filters(ratio: Fraction, width: int, dtype: torch.dtype, device: torch.device) -> tuple[int, int, int, Filters]:
    """Old samples a row, new samples a row, reach to both sides, and the filters of a row's new samples.

    torchaudio computes its kernel anew at each call, and as one of ``old + 2 * reach`` weights for each new sample of a
    row, nearly all of them zero: a few neighbouring new samples at a time need a tenth of the work.
    """
    old, new = ratio.as_integer_ratio()
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        kind = torchaudio().transforms.Resample(old, new, lowpass_filter_width=width, rolloff=ROLLOFF, dtype=dtype)
        kernel, reach = kind.kernel[:, 0], kind.width  # (new, old + 2 * reach)
        rows = max(1, TOGETHER // new)  # of 3 to 1 and the like, so that there is a matrix to multiply with
        weights = kernel.new_zeros(rows * new, rows * old + 2 * reach)
        for row in range(rows):
            weights[row * new : (row + 1) * new, row * old : (row + 1) * old + 2 * reach] = kernel
        filters, least = [], NEGLIGIBLE * kernel.abs().max()
        for part in weights.split(TOGETHER):
            used = (part.abs() > least).any(dim=0).nonzero()[:, 0]
            first, last = int(used[0]), int(used[-1])
            filters.append((first, part[:, first : last + 1].T.contiguous().to(device)))
    return rows * old, rows * new, reach, filters


class StreamResampler:
    """Takes (C, n) blocks of one signal in turn and gives what :func:`resample` makes of it whole.

    torchaudio turns every ``ratio.numerator`` samples into ``ratio.denominator`` new ones and looks a fixed number of
    samples to both sides; so a block is held back until its right-hand neighbours have come.

    Args:
        rate, new_rate: Hz.
        hold_edges: continue the signal beyond its ends with its first and last value; False is silence, as torchaudio
            does it, which pulls a signal with an offset (gravity) towards zero at both ends.
        width: zero crossings of the low-pass on each side; more is a steeper cut at the Nyquist frequency.
    """

    def __init__(self, rate: float, new_rate: float, *, hold_edges: bool = False, width: int = AUDIO_WIDTH) -> None:
        self.ratio = resample_ratio(rate, new_rate)
        self.hold_edges, self.width = hold_edges, width
        reach = math.ceil(width * self.ratio.numerator / (min(self.ratio.as_integer_ratio()) * ROLLOFF))
        self._context = (math.ceil(reach / self.ratio.numerator) + 1) * self.ratio.numerator  # old samples a side
        self._buffer: torch.Tensor | None = None  # (C, context and what has come since)
        self._nothing = torch.empty(0, 0)
        self._taken = self._given = 0  # old samples in, new samples out

    def push(self, block: torch.Tensor) -> torch.Tensor:
        """The new samples (C, m) that can be made with this block; m may be 0."""
        self._nothing = block[:, :0]
        if self.ratio == 1 or block.shape[1] == 0:
            return block
        self._taken += block.shape[1]
        if self._buffer is None:
            self._buffer = self._edge(block[:, :1])
        self._buffer = torch.cat([self._buffer, block], dim=1)
        step = self.ratio.numerator
        ready = (self._buffer.shape[1] - 2 * self._context) // step * step
        if ready <= 0:
            return block[:, :0]
        made = self._made(self._buffer[:, : ready + 2 * self._context], ready // step * self.ratio.denominator)
        self._buffer = self._buffer[:, ready:].clone()  # a view would keep the whole block in memory
        return made

    def flush(self) -> torch.Tensor:
        """The end of the signal; afterwards the resampler is used up. Needs at least one block before it."""
        if self._buffer is None:
            return self._nothing
        count = math.ceil(self._taken / self.ratio) - self._given
        end = self._edge(self._buffer[:, -1:])
        return self._made(torch.cat([self._buffer, end, end[:, : self.ratio.numerator]], dim=1), count)

    def _edge(self, value: torch.Tensor) -> torch.Tensor:
        return (value if self.hold_edges else torch.zeros_like(value)).expand(-1, self._context)

    def _made(self, samples: torch.Tensor, count: int) -> torch.Tensor:
        made = _resampled(samples, self.ratio, self.width)
        first = self._context // self.ratio.numerator * self.ratio.denominator
        self._given += count
        return made[:, first : first + count]


def hermite(times: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Cubic interpolation of unevenly timed samples; slopes are those of the parabola through three neighbours.

    Args:
        times: (n,) float64 s, strictly rising, n >= 2.
        values: (C, n).
        at: (m,) float64 s, within ``times``.

    Returns:
        (C, m) of the values' dtype.
    """
    steps = times.diff()
    rises = values.diff(dim=1) / steps.to(values.dtype)  # (C, n - 1)
    weight = (steps[1:] / (steps[1:] + steps[:-1])).to(values.dtype)  # the nearer neighbour counts more
    inner = rises[:, :-1] * weight + rises[:, 1:] * (1 - weight)
    slopes = torch.cat([rises[:, :1], inner, rises[:, -1:]], dim=1)
    left = (torch.searchsorted(times, at, right=True) - 1).clamp(0, len(times) - 2)
    step = steps[left].to(values.dtype)
    u = ((at - times[left]) / steps[left]).to(values.dtype)
    low, high = values[:, left], values[:, left + 1]
    blend = u * u * (3 - 2 * u)
    bends = u * (1 - u) * ((1 - u) * slopes[:, left] - u * slopes[:, left + 1])
    return low + (high - low) * blend + step * bends


def padded_end(samples: torch.Tensor, length: int) -> torch.Tensor:
    """(C, n) with zeros behind it up to ``length``."""
    return F.pad(samples, (0, max(length - samples.shape[1], 0)))
