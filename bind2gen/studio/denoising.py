"""Conditioning vectors to pictures, batch by batch, with previews and a way to stop between steps."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image

from ..hosts import unclip
from ..pipeline import ImageBindUnCLIPPipeline
from .previews import expected
from .results import Progress
from .worker import Report

PREVIEWS = 10  # a batch; each costs one decoding


class Watch:
    """The pipeline's callback for one batch: reports progress, decodes previews, and stops it when told to.

    Args:
        done: pictures of the batches before, shown along.
        batch, batches: which one this is, from 0, and how many there are.
    """

    def __init__(
        self, report: Report, stop: threading.Event, *, done: Sequence[Image], batch: int, batches: int
    ) -> None:
        self.report, self.stop = report, stop
        self.done, self.batch, self.batches = tuple(done), batch, batches
        self.before: torch.Tensor | None = None
        self.previews: tuple[Image, ...] = ()

    def __call__(self, pipe: Any, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        """After each step; ``tensors`` holds the latents, (N, C, h, w)."""
        steps = len(pipe.scheduler.timesteps)  # schedulers may take more steps than asked for
        latents, last = tensors["latents"], step + 1 == steps
        due = not last and (step + 1) % max(1, -(-steps // PREVIEWS)) == 0
        if self.before is not None and (due or self.stop.is_set()):
            guess = expected(pipe.scheduler, step, self.before, latents)
            if guess is not None:
                self.previews = tuple(unclip.decode(pipe, guess.to(latents.dtype), "pil"))
        self.before = latents
        if self.stop.is_set():
            pipe._interrupt = True
            return {}
        shown = self.done + self.previews if due and self.previews else ()
        self.report(Progress(self.batch * steps + step + 1, self.batches * steps, shown))
        return {}


def draw(
    pipe: ImageBindUnCLIPPipeline,
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
    done: list[Image] = []
    starts = range(0, len(rows), batch_size)
    for batch, start in enumerate(starts):
        part = slice(start, start + batch_size)
        watch = Watch(report, stop, done=done, batch=batch, batches=len(starts))
        # On the CPU, so that a seed starts from the same noise on every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        images = pipe(
            image_embeds=rows[part], rescale_embeds=False, generator=generators, num_inference_steps=steps,
            guidance_scale=guidance, callback_on_step_end=watch,
        ).images  # fmt: skip
        if stop.is_set():
            return tuple(done) + watch.previews, True
        done += images
    return tuple(done), False
