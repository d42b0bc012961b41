"""Conditioning vectors to pictures, batch by batch, each from a seed of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL.Image import Image

from .conditioning import ImageBindConditioning


def draw(
    pipe: ImageBindConditioning, rows: torch.Tensor, seeds: Sequence[int], *, batch_size: int, **options: Any
) -> Iterator[list[Image]]:
    """Draw one picture a row; each depends on its row and seed alone, whatever is drawn beside it.

    Args:
        rows: (N, D) of the host's length, as of :meth:`ImageBindConditioning.condition`.
        seeds: one a row.
        batch_size: pictures denoised together.
        options: of the pipeline's call; None is its own default.

    Yields:
        The pictures of a batch, before the next one is begun.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    for start in range(0, len(rows), batch_size):
        part = slice(start, start + batch_size)
        # On the CPU, so that a seed starts from the same noise on every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
        yield pipe(
            image_embeds=rows[part], rescale_embeds=False, generator=generators, output_type="pil", **chosen
        ).images
