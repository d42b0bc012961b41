"""Thresholds and temperatures fitted on held-out scores, of any detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .errors import InputError, NonFiniteError, ShapeError

FALSE_ALARM = 0.15  # share of absent prompts that may get a box
LEAST_OF_A_PROMPT = 20  # absent scores from which a prompt gets a threshold of its own


@dataclass(frozen=True)
class ThresholdFit:
    """A threshold and what it does on the scores that it was fitted on: boxes must score MORE.

    Attributes:
        threshold: in the scores' own unit.
        false_alarms, absent: prompts whose object is absent and that get a box nevertheless, and all of them.
        found, present: prompts whose object is there and is found, and all of them.
    """

    threshold: float
    false_alarms: int
    absent: int
    found: int
    present: int

    @property
    def false_alarm_rate(self) -> float:
        return self.false_alarms / self.absent if self.absent else math.nan

    @property
    def recall(self) -> float:
        return self.found / self.present if self.present else math.nan

    def __str__(self) -> str:
        alarms = f"{self.false_alarms} of {self.absent} ({self.false_alarm_rate:.1%})"
        found = f"{self.found} of {self.present} ({self.recall:.1%})"
        return f"above {self.threshold:.4g}: false alarms {alarms}, found {found}"


def judge_threshold(scores: Any, is_right: Any, threshold: float) -> ThresholdFit:
    """What a threshold does on scores, such as others than those that it was fitted on; see :func:`fit_threshold`."""
    scores, is_right = _checked_scores(scores, is_right)
    above = scores > threshold
    counts = (
        int((above & ~is_right).sum()),
        int((~is_right).sum()),
        int((above & is_right).sum()),
        int(is_right.sum()),
    )
    return ThresholdFit(float(threshold), *counts)


def fit_threshold(scores: Any, is_right: Any, *, false_alarm: float = FALSE_ALARM) -> ThresholdFit:
    """The threshold for a share of false alarms, chosen so that it holds on data that it has not seen.

    With n absent scores it is the ceil((n + 1) (1 - false_alarm))-th smallest of them: a further one drawn alike
    exceeds it with a probability of at most ``false_alarm`` (split conformal prediction, Papadopoulos et al. 2002).

    Args:
        scores: (N,) the best score of a prompt in a picture; for pictures that have its object, the best of a box on
            the object (0 where there is none).
        is_right: (N,) bool, whether the picture has the prompt's object.
        false_alarm: 0..1, both excluded.

    Raises:
        ShapeError, NonFiniteError: scores that do not fit.
        InputError: too few absent scores for that share.
    """
    scores, is_right = _checked_scores(scores, is_right)
    if not 0 < false_alarm < 1:
        raise InputError(f"false_alarm: wanted a share between 0 and 1, got {false_alarm!r}")
    absent = np.sort(scores[~is_right])
    place = math.ceil((len(absent) + 1) * (1 - false_alarm) - 1e-9)  # counted from 1; rounding must not add one
    if place > len(absent):
        least = math.ceil(1 / false_alarm - 1 - 1e-9)
        raise InputError(
            f"fit_threshold: wanted at least {least} scores of prompts whose object is absent for a false alarm of "
            f"{false_alarm:g}, got {len(absent)}"
        )
    return judge_threshold(scores, is_right, float(absent[place - 1]))


def fit_thresholds(
    scores: Any,
    is_right: Any,
    prompts: Sequence[str],
    *,
    false_alarm: float = FALSE_ALARM,
    least: int = LEAST_OF_A_PROMPT,
) -> dict[str, ThresholdFit]:
    """A threshold for each prompt that has at least ``least`` absent scores; arguments as for :func:`fit_threshold`.

    Args:
        prompts: N labels, whose score each is.
    """
    scores, is_right = _checked_scores(scores, is_right)
    if isinstance(prompts, str) or len(prompts) != len(scores):
        raise ShapeError(f"prompts: wanted {len(scores)}, one a score, got {len(prompts)}")
    fitted, labels = {}, np.array(list(prompts), dtype=object)
    for label in dict.fromkeys(prompts):
        mine = labels == label
        if (mine & ~is_right).sum() >= max(least, math.ceil(1 / false_alarm)):
            fitted[label] = fit_threshold(scores[mine], is_right[mine], false_alarm=false_alarm)
    return fitted


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature, and the mean negative log-likelihood (nats) with temperature 1 and with it."""

    temperature: float
    before: float
    after: float


def fit_temperature(logits: Any, targets: Any) -> TemperatureFit:
    """T of least negative log-likelihood of ``logits / T`` (Guo et al. 2017).

    Args:
        logits: (N, C) for a softmax, or (N,) for a sigmoid; cosines count as logits.
        targets: (N,) the right class as whole numbers in 0..C-1; or for a sigmoid, whether it is right.

    Raises:
        ShapeError, NonFiniteError: arrays that do not fit.
        InputError: targets out of range, or all alike for a sigmoid.
    """
    logits, targets = torch.as_tensor(logits).double(), torch.as_tensor(targets)
    if logits.ndim not in (1, 2) or targets.shape != logits.shape[:1] or not len(logits):
        came = f"{tuple(logits.shape)} and {tuple(targets.shape)}"
        raise ShapeError(f"fit_temperature: wanted logits (N, C) or (N,) and targets (N,), got {came}")
    if not bool(logits.isfinite().all()):
        raise NonFiniteError("fit_temperature: the logits hold NaN or infinite values")
    classes = logits.shape[1] if logits.ndim == 2 else 2
    if int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise InputError(f"fit_temperature: wanted targets in 0..{classes - 1}, got {targets.min()}..{targets.max()}")
    if logits.ndim == 1 and len(targets.unique()) < 2:
        raise InputError("fit_temperature: wanted right and wrong ones, got only one kind")

    def loss(log_temperature: torch.Tensor) -> torch.Tensor:
        scaled = logits * (-log_temperature).exp()
        if logits.ndim == 1:
            return F.binary_cross_entropy_with_logits(scaled, targets.double())
        return F.cross_entropy(scaled, targets.long())

    low, high = math.log(1e-3), math.log(1e3)
    place = _minimum(loss, low, high)
    return TemperatureFit(math.exp(place), loss(torch.zeros(())).item(), loss(torch.tensor(place)).item())


def _minimum(loss: Callable[[torch.Tensor], torch.Tensor], low: float, high: float) -> float:
    """Place of the least value between two places: a coarse grid, then golden sections.

    The loss is convex in 1 / T, so of one valley in log T: sections find it where steps by the gradient overshoot.
    """
    grid = torch.linspace(low, high, 61, dtype=torch.float64)
    best = min(range(61), key=lambda i: loss(grid[i]).item())
    low, high = grid[max(best - 1, 0)].item(), grid[min(best + 1, 60)].item()
    golden = (math.sqrt(5) - 1) / 2
    while high - low > 1e-6:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(torch.tensor(left, dtype=torch.float64)) < loss(torch.tensor(right, dtype=torch.float64)):
            high = right
        else:
            low = left
    return (low + high) / 2


def _checked_scores(scores: Any, is_right: Any) -> tuple[np.ndarray, np.ndarray]:
    scores, is_right = np.asarray(scores, np.float64), np.asarray(is_right)
    if scores.ndim != 1 or is_right.shape != scores.shape or not len(scores):
        raise ShapeError(f"wanted scores (N,) and is_right (N,), got {scores.shape} and {is_right.shape}")
    if not np.isfinite(scores).all():
        raise NonFiniteError("scores: wanted finite numbers, found NaN or infinite ones")
    if is_right.dtype != bool:
        raise ShapeError(f"is_right: wanted true or false, got dtype {is_right.dtype}")
    return scores, is_right
