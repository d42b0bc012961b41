"""What a model understood of inputs, in the words that it knows, before anything is drawn of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..class_prompts import FAR
from ..detection import DETECTOR_PART, WORDS_FILE, own_prompter
from ..errors import Bind2GenWarning
from ..parts import saved_adapter
from .loading import ModelChoice
from .reporting import say

if TYPE_CHECKING:
    import torch

    from ..pipeline import ImageBindUnCLIPPipeline

# What is said of a modality. The words name things: of motion they say nothing.
VERBS = {"audio": "heard", "text": "read", "image": "seen", "video": "seen", "depth": "sensed", "thermal": "sensed"}
MEASURED = ("audio", "text")  # what FAR was measured on
SHOWN = 60  # characters of a text

# word; likeness: its cosine, -1..1, or 1 of silence and noise; known: whether that is enough, None where not measured
Understood = dict[str, Any]


def understand(
    pipe: ImageBindUnCLIPPipeline, choice: ModelChoice, embeds: Mapping[str, torch.Tensor]
) -> dict[str, list[Understood]]:
    """Modality -> the nearest word of each embedding, as it is before it is drawn to the adapter's anchors.

    Empty for models of which no words are known: those without a detector's words, or with another encoder.
    """
    part = Path(choice.source) / DETECTOR_PART
    if not (part / WORDS_FILE).is_file():
        return {}
    if choice.imagebind is not None:  # it may be the model's own all the same
        own = saved_adapter(choice.source)
        if own is None or not own.fits(pipe.imagebind):
            return {}
    prompter, found = own_prompter(pipe.imagebind, pipe.processor, pipe.adapter, part), {}
    for name in (name for name in VERBS if name in embeds):
        prompts = prompter.from_embeds({name: embeds[name]})
        found[name] = [
            {"word": words[0][0], "likeness": round(1.0 if nothing else likeness, 3),
             "known": (not nothing and likeness >= FAR) if name in MEASURED else None}
            for words, likeness, nothing in zip(prompts.words, prompts.likeness, prompts.nothing, strict=True)
        ]  # fmt: skip
    return found


def tell(
    found: Mapping[str, Sequence[Understood]], named: Mapping[str, Sequence[str]], *, model: str, quiet: bool
) -> None:
    """Say it on stderr, and warn of sounds and texts that are like nothing the model knows."""
    several = sum(map(len, named.values())) > 1
    for name, items in found.items():
        for value, item in zip(named[name], items, strict=True):
            label = f'"{value[:SHOWN]}"' if name == "text" else value
            words = f"{VERBS[name]}: {item['word']} {item['likeness']:.2f}"
            if item["known"] is False:
                doubt = f"which is like none of the things that {model} knows; the picture may show any of them"
                warnings.warn(f"{label}: {words}, {doubt}", Bind2GenWarning, stacklevel=2)
            elif not quiet:
                say(f"{label}: {words}" if several else words)
