"""Motion samples of any timing, with holes, to an even grid: block by block, the same numbers as in one go."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from .resampling import StreamResampler, hermite

WIDTH = 16  # zero crossings of the anti-aliasing filter: from 0.8 of the Nyquist frequency on it begins to cut
LEAST_GAP = 2.5  # periods; a shorter step between samples is no gap, however slow the sensor


Run = tuple[int, int, float]  # of NaN: channel, first row, one past the last (infinity: not known yet)


class HoleFiller:
    """Bridges short runs of NaN in (C, n) blocks with straight lines; longer ones hold the last value and are reported.

    Args:
        limit: rows; the longest run that is bridged.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.long_runs: list[Run] = []
        self._pending: np.ndarray | None = None
        self._first = 0  # row number of the first pending sample
        self._last: np.ndarray | None = None  # (C,) last value of each channel, NaN where there was none

    def push(self, block: np.ndarray, *, end: bool = False) -> np.ndarray:
        """Filled samples; rows after which a run may still turn out short are held back unless this is the end."""
        samples = block if self._pending is None else np.concatenate([self._pending, block], axis=1)
        if self._last is None:
            self._last = np.full(len(samples), np.nan, samples.dtype)
        holes = np.isnan(samples)
        safe = samples.shape[1]
        if safe:  # a run that was open closes where the next value has come
            self.long_runs = [
                (c, row, self._first if stop == math.inf and not holes[c, 0] else stop)
                for c, row, stop in self.long_runs
            ]
        if holes.any():
            samples = samples.copy()
            bridged = [
                run for c in np.flatnonzero(holes.any(axis=1)) for run in self._fill(c, samples[c], holes[c], end)
            ]
            # A bridge must not be cut in two. From its last one on, each is looked at once: cuts only move back.
            for start, stop in sorted(bridged, key=lambda run: -run[1]):
                if start < safe < stop:
                    safe = start
        done, self._pending = samples[:, :safe], np.where(holes[:, safe:], np.nan, samples[:, safe:])
        if safe:
            known = ~holes[:, :safe]
            rows = safe - 1 - known[:, ::-1].argmax(axis=1)
            self._last = np.where(known.any(axis=1), done[np.arange(len(done)), rows], self._last)
        self._first += safe
        return done

    def _fill(self, channel: int, samples: np.ndarray, holes: np.ndarray, end: bool) -> list[tuple[int, float]]:
        """Fill one channel in place; gives first row and one past the last of short runs (infinity: not known yet)."""
        short: list[tuple[int, float]] = []
        edges = np.flatnonzero(np.diff(np.concatenate([[0], holes.astype(np.int8), [0]])))
        for start, stop in edges.reshape(-1, 2).tolist():
            before = samples[start - 1] if start else self._last[channel]
            after = samples[stop] if stop < len(samples) else np.nan
            opened = self._open_run(channel) if start == 0 else None
            if opened is None and stop - start <= self.limit:
                if stop == len(samples) and not end:
                    short.append((start, math.inf))
                    continue
                short.append((start, stop))
                before, after = (after if np.isnan(before) else before), (before if np.isnan(after) else after)
                weights = np.arange(1, stop - start + 1) / (stop - start + 1)
                samples[start:stop] = np.nan_to_num(before + (after - before) * weights)
                continue
            samples[start:stop] = np.nan_to_num(before)
            row = opened if opened is not None else self._first + start
            still_open = stop == len(samples) and not end
            self.long_runs = [run for run in self.long_runs if run[:2] != (channel, row)]
            self.long_runs.append((channel, row, math.inf if still_open else self._first + stop))
        return short

    def forget(self, is_past: Callable[[float], bool]) -> None:
        """Drop the long runs whose end is past."""
        self.long_runs = [run for run in self.long_runs if run[2] >= self._first or not is_past(run[2])]

    def _open_run(self, channel: int) -> int | None:
        return next((row for c, row, stop in self.long_runs if c == channel and stop >= self._first), None)


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
        self._tick = max(self._tick, int(points[-1]) + 1 if len(points) else 0)
        keep = max(ready - 1 - self._row, 0)
        self._rows, self._row = held[:, keep:].clone(), self._row + keep
        return made

    def _without_gaps(self, made: torch.Tensor) -> torch.Tensor:
        """Zeros where nothing was measured for long, of all channels or of one."""
        first, self._given = self._given, self._given + made.shape[1]
        holes = [(slice(None), *gap) for gap in self._gaps]
        holes += [(c, self._time(start - 1), self._time(stop)) for c, start, stop in self._filler.long_runs]
        for channels, start, stop in holes:
            low = max(math.floor(start * self.sampling_rate) + 1 - first, 0) if start > -math.inf else 0
            high = (
                min(math.ceil(stop * self.sampling_rate) - first, made.shape[1]) if stop < math.inf else made.shape[1]
            )
            if low < high:
                made[channels, low:high] = 0.0
        now = self._given / self.sampling_rate
        self._gaps = [gap for gap in self._gaps if gap[1] >= now]
        self._filler.forget(lambda stop: self._time(stop) < now)
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
