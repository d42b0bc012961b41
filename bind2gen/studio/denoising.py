"""Conditioning vectors to pictures, batch by batch, with previews and a way to stop between steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL.Image import Image

from ..pipelines import drawing as pictures
from ..pipelines.conditioning import ImageBindConditioning
from .results import Progress
from .worker import Report

PREVIEWS = 10  # a batch; each costs one decoding
PAUSE = 1 / 3  # s between two previews: what flashes more than three times a second is a hazard (WCAG 2.3.1)


class Watch:
    """The pipeline's callback: reports progress, decodes previews, and stops it when told to.

    Args:
        drawing: makes the previews.
        batches: how many there are; ``batch`` is the one that runs, from 0.
        clock: s.
    """

    def __init__(
        self,
        report: Report,
        stop: threading.Event,
        drawing: ImageBindConditioning,
        *,
        batches: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.report, self.stop, self.drawing, self.batches, self.clock = report, stop, drawing, batches, clock
        self.batch, self.stopped = 0, False
        self.done: list[Image] = []  # of the batches before, shown along
        self.previews: list[Image] = []
        self._next = clock()  # when another preview may be shown

    def __call__(self, pipe: Any, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        """After each step; ``tensors`` holds what previews are made of."""
        steps = len(pipe.scheduler.timesteps)  # schedulers may take more steps than asked for
        shown: tuple[Image, ...] = ()
        due = (step + 1) % -(-steps // PREVIEWS) == 0 and step + 1 < steps and self.clock() >= self._next
        if due or self.stop.is_set():
            self.previews = self.drawing.preview(tensors)
            shown, self._next = (*self.done, *self.previews), self.clock() + PAUSE
        if self.stop.is_set():
            pipe._interrupt = self.stopped = True
        else:
            self.report(Progress(self.batch * steps + step + 1, self.batches * steps, shown))
        return {}


def draw(
    pipe: ImageBindConditioning,
    rows: torch.Tensor,
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float | None,
    batch_size: int,
    report: Report,
    stop: threading.Event,
) -> tuple[tuple[Image, ...], bool]:
    """Draw one picture a row; each depends on its row and seed alone.

    Args:
        rows: (N, D) conditioning vectors of the host's length.
        seeds: one a row.

    Returns:
        The pictures, and whether it was stopped: then they are previews, and may be fewer.
    """
    watch = Watch(report, stop, pipe, batches=-(-len(rows) // batch_size))
    options = dict(num_inference_steps=steps, guidance_scale=guidance, batch_size=batch_size)
    tensors = list(pipe.preview_inputs) or None
    for images in pictures.draw(
        pipe, rows, seeds, **options, callback_on_step_end=watch, callback_on_step_end_tensor_inputs=tensors
    ):
        watch.done += watch.previews if watch.stopped else images
        watch.batch += 1
        if stop.is_set():
            break
    return tuple(watch.done), watch.stopped or len(watch.done) < len(rows)
