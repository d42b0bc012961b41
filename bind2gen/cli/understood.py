"""What ``generate`` says of its inputs before it draws them, by the code that the page says it by."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Bind2GenWarning
from ..files.bundled import DETECTOR_PART
from ..pipelines.parts import saved_adapter
from ..space.everyday import words_of
from ..studio.understood import VERBS, Understanding, Understood, doubt
from .loading import ModelChoice
from .reporting import say

if TYPE_CHECKING:
    import torch

    from ..pipelines.conditioning import ImageBindConditioning

SHOWN = 60  # characters of a text


def understanding(pipe: ImageBindConditioning, choice: ModelChoice) -> Understanding | None:
    """None where no words are known: of models without a detector's words, or with another encoder or adapter."""
    if choice.adapter is not None:  # thresholds of likeness are those of the model's own
        return None
    if choice.imagebind is not None:  # it may be the model's own all the same
        own = saved_adapter(choice.source)
        if own is None or not own.fits(pipe.imagebind):
            return None
    return Understanding.where_known(pipe, Path(choice.source) / DETECTOR_PART, words_of(choice.encoder))


def understand(
    pipe: ImageBindConditioning, choice: ModelChoice, embeds: Mapping[str, torch.Tensor]
) -> dict[str, list[Understood]]:
    """Modality -> what each embedding is; empty where no words are known."""
    known = understanding(pipe, choice)
    return known(embeds) if known else {}


def tell(
    found: Mapping[str, Sequence[Understood]], named: Mapping[str, Sequence[str]], *, model: str, quiet: bool
) -> None:
    """Say it on stderr, and warn of what the model does not know, or draws as something else."""
    several = sum(map(len, named.values())) > 1
    for name, items in found.items():
        for value, item in zip(named[name], items, strict=True):
            label = f'"{value[:SHOWN]}"' if name == "text" else value
            nearest = f"{item['word']} {item['likeness']:.2f}"
            words = f"{VERBS[name]}: " + (nearest if item["name"] == item["word"] else f"{item['name']} ({nearest})")
            if reason := doubt(item, model):
                warnings.warn(f"{label}: {words}, {reason}", Bind2GenWarning, stacklevel=2)
            elif not quiet:
                say(f"{label}: {words}" if several else words)
