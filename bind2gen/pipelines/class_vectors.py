"""What prompts become for a detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Words = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ClassPrompts:
    """What a detector is asked for: ``detector.detect(encoded, prompts.embeds, labels=prompts.labels)``.

    Attributes:
        embeds: (C, D) float32 unit norm, in the detector's space.
        labels: C names.
        route: by which they were made.
        words: of the route ``words``, for each prompt the words that were understood with their shares, which sum to
            1, the largest first; else None.
        nothing: for each prompt whether it is a sound that no thing makes (silence, noise), which gets no boxes.
        likeness: of the route ``words``, for each prompt the cosine, -1..1, of its direction with that of the nearest
            word; ``Calibration.known_prompt`` says when it is like none of them. Else None.
        familiar: for each prompt how probable it is, 0..1, that it is a sound of one of the things that are known by
            their sound; None of other prompts, and where that was not measured.
    """

    embeds: torch.Tensor
    labels: tuple[str, ...]
    route: str
    words: tuple[Words, ...] | None = None
    nothing: tuple[bool, ...] = ()
    likeness: tuple[float, ...] | None = None
    familiar: tuple[float | None, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)
