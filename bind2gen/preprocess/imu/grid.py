"""Motion samples of any timing, with holes, to an even grid: block by block, the same numbers as in one go."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..resampling import StreamResampler, hermite

WIDTH = 16  # zero crossings of the anti-aliasing filter: from 0.8 of the Nyquist frequency on it begins to cut
LEAST_GAP = 2.5  # periods; a shorter step between samples is no gap, however slow the sensor

Run = tuple[int, int]  # of NaN: channel, first row


class HoleFiller:
    """Bridges runs of at most ``limit`` NaN in (C, n) blocks with straight lines; longer ones hold the last value.

    Those are told: ``long_runs`` has one past their last row, infinity while they go on.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.long_runs = limit, dict[Run, float]()
        self._held = np.empty((0, 0))  # the row before, and those whose runs may still turn out short
        self._first = 0  # row number of the first of the latter
        self._open: dict[int, Run] = {}  # by channel

    def push(self, block: np.ndarray, *, end: bool = False) -> np.ndarray:
        """Filled samples; the last ``limit + 1`` rows are held back unless this is the end."""
        if not self._held.size:
            self._held = np.full((len(block), 1), np.nan, block.dtype)
        come = self._held.shape[1]
        samples = np.concatenate([self._held, block], axis=1)
        safe = samples.shape[1] if end else max(samples.shape[1] - self.limit - 1, 1)
        for channel in [c for c in self._open if come < samples.shape[1] and not np.isnan(samples[c, come])]:
            self.long_runs[self._open.pop(channel)] = self._first + come - 1
        for channel in np.flatnonzero(np.isnan(samples[:, 1:]).any(axis=1)).tolist():
            holes = np.isnan(samples[channel, 1:]).astype(np.int8)
            for start, stop in (np.flatnonzero(np.diff(holes, prepend=0, append=0)) + 1).reshape(-1, 2).tolist():
                goes_on = start == come and channel in self._open
                if start < safe or goes_on:
                    self._fill(channel, samples[channel], start, stop, goes_on, end)
        self._held, self._first = samples[:, safe - 1 :], self._first + safe - 1
        return samples[:, 1:safe]

    def _fill(self, channel: int, samples: np.ndarray, start: int, stop: int, goes_on: bool, end: bool) -> None:
        before, after = samples[start - 1], samples[stop] if stop < len(samples) else np.nan
        if stop - start <= self.limit and not goes_on:
            before, after = (after if np.isnan(before) else before), (before if np.isnan(after) else after)
            weights = np.arange(1, stop - start + 1) / (stop - start + 1)
            samples[start:stop] = np.nan_to_num(before + (after - before) * weights)
            return
        samples[start:stop] = np.nan_to_num(before)
        run = self._open.pop(channel) if goes_on else (channel, self._first + start - 1)
        self.long_runs[run] = self._first + stop - 1
        if stop == len(samples) and not end:
            self.long_runs[run], self._open[channel] = math.inf, run


class GridStream:
    """Takes (6, n) blocks of a recording in turn and gives them at the model's rate.

    Evenly spaced samples are resampled with a band-limited filter. Unevenly spaced ones are first brought to an even
    grid at least as fine by cubic interpolation, so that the filter can take away what the new rate cannot hold.
    Holes of up to ``max_gap`` s are bridged; longer ones become zeros, as missing samples do in imu2clip.

    Args:
        rate: Hz, of the samples.
        times: (N,) float64 s of all rows from 0, or None where they are even.
        sampling_rate: Hz, wanted.
        max_gap: s.
    """

    def __init__(self, rate: float, times: np.ndarray | None, sampling_rate: float, max_gap: float) -> None:
        self.rate, self.times, self.sampling_rate = rate, times, sampling_rate
        gap = max(max_gap, LEAST_GAP / rate)
        self._filler = HoleFiller(max(1, math.floor(gap * rate)))
        self._gaps = [] if times is None else long_steps(times, gap)
        # A whole multiple of the wanted rate, at least the sensor's own: nothing folds back before the filter.
        self._base = rate if times is None else sampling_rate * math.ceil(rate / sampling_rate)
        self._resampler = StreamResampler(self._base, sampling_rate, hold_edges=True, width=WIDTH)
        self._rows: torch.Tensor | None = None  # samples that the interpolation still needs
        self._row = self._tick = self._given = 0  # first row held; next point of the even grid; samples given

    def push(self, samples: torch.Tensor, *, end: bool = False) -> torch.Tensor:
        """(6, m) float32 at the wanted rate, m may be 0; with ``end`` everything that is left."""
        filled = self._filler.push(samples.detach().cpu().numpy(), end=end)
        samples = torch.from_numpy(np.ascontiguousarray(filled)).to(samples.device)
        even = samples if self.times is None else self._interpolated(samples, end)
        parts = [self._resampler.push(even)] if even.shape[1] else []
        if end:
            parts.append(self._resampler.flush())
        made = torch.cat([part for part in parts if part.numel()] or [samples[:, :0]], dim=1)
        return self._without_gaps(made)

    def _interpolated(self, samples: torch.Tensor, end: bool) -> torch.Tensor:
        held = samples if self._rows is None else torch.cat([self._rows, samples], dim=1)
        stop = self._row + held.shape[1]
        # Slopes look at both neighbours, so the last two rows wait for those that follow.
        ready = stop - 1 if end else stop - 2
        if ready <= self._row:
            self._rows = held
            return held[:, :0]
        last = self.times[ready] * self._base
        points = np.arange(self._tick, math.floor(last + 1e-6) + 1 if end else math.ceil(last))
        times = torch.from_numpy(self.times[self._row : stop])
        at = torch.from_numpy(np.minimum(points / self._base, self.times[stop - 1]))
        made = hermite(times.to(held.device), held, at.to(held.device))
        self._tick += len(points)
        keep = max(ready - 1 - self._row, 0)
        self._rows, self._row = held[:, keep:].clone(), self._row + keep
        return made

    def _without_gaps(self, made: torch.Tensor) -> torch.Tensor:
        """Zeros where nothing was measured for long, of all channels or of one."""
        first, self._given = self._given, self._given + made.shape[1]
        runs = self._filler.long_runs
        holes = [(slice(None), *gap) for gap in self._gaps]
        for channels, start, stop in holes + [(c, self._time(row - 1), self._time(runs[c, row])) for c, row in runs]:
            low = max(math.floor(start * self.sampling_rate) + 1 - first, 0) if start > -math.inf else 0
            high = max(math.ceil(stop * self.sampling_rate) - first, 0) if stop < math.inf else made.shape[1]
            made[channels, low:high] = 0.0
        now = self._given / self.sampling_rate
        self._gaps = [gap for gap in self._gaps if gap[1] >= now]
        for run in [run for run, stop in runs.items() if self._time(stop) < now]:
            del runs[run]
        return made

    def _time(self, row: float) -> float:
        """Seconds of a row; minus infinity before the first, infinity after the last."""
        if row < 0 or row == math.inf:
            return math.copysign(math.inf, row)
        if self.times is None:
            return row / self.rate
        return float(self.times[int(row)]) if row < len(self.times) else math.inf


def long_steps(times: np.ndarray, longest: float) -> list[tuple[float, float]]:
    """Start and end of each step between times (N,) s that is longer than ``longest`` s."""
    rows = np.flatnonzero(np.diff(times) > longest)
    return [(float(times[row]), float(times[row + 1])) for row in rows]
