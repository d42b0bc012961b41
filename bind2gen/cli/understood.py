"""What a model understood of inputs, in the words that it knows, before anything is drawn of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..detection import CLASSES_FILE, DETECTOR_PART, own_calibration, own_prompter
from ..errors import Bind2GenWarning
from ..parts import saved_adapter
from ..studio.words import NearestWords, words_of
from ..vocabulary import Vocabulary
from .loading import ModelChoice
from .reporting import say

if TYPE_CHECKING:
    import torch

    from ..pipeline import ImageBindUnCLIPPipeline

# What is said of a modality. The words name things: of motion they say nothing.
VERBS = {"audio": "heard", "text": "read", "image": "seen", "video": "seen", "depth": "sensed", "thermal": "sensed"}
MEASURED = ("audio", "text")  # what Calibration.known_prompt is measured on
SHOWN = 60  # characters of a text

# name: what it is, of all names that lie beside the encoder; word: the nearest of those that the model was taught to
# find and draw; likeness: its cosine, -1..1, or 1 of silence and noise; known: whether that is enough, or None
Understood = dict[str, Any]


def understand(
    pipe: ImageBindUnCLIPPipeline, choice: ModelChoice, embeds: Mapping[str, torch.Tensor]
) -> dict[str, list[Understood]]:
    """Modality -> what each embedding is, as it is before it is drawn to the adapter's anchors.

    Empty for models of which no words are known: those without a detector's words, or with another encoder.
    """
    part = Path(choice.source) / DETECTOR_PART
    if not (part / CLASSES_FILE).is_file():
        return {}
    if choice.imagebind is not None:  # it may be the model's own all the same
        own = saved_adapter(choice.source)
        if own is None or not own.fits(pipe.imagebind):
            return {}
    prompter, known, found = own_prompter(pipe.imagebind, pipe.processor, pipe.adapter, part), own_calibration(part), {}
    least, names = known and known.known_prompt, words_of(choice.encoder)
    nearest = NearestWords.for_pipeline(pipe, names) if isinstance(names, Vocabulary) else None
    for name in (name for name in VERBS if name in embeds):
        prompts = prompter.from_embeds({name: embeds[name]})
        named = nearest and nearest.first(pipe.adapter({name: embeds[name]}, anchored=False))
        found[name] = [
            {"name": named[i] if named and not nothing else words[0][0], "word": words[0][0],
             "likeness": round(1.0 if nothing else likeness, 3),
             "known": None if least is None or name not in MEASURED else not nothing and likeness >= least}
            for i, (words, likeness, nothing) in enumerate(
                zip(prompts.words, prompts.likeness, prompts.nothing, strict=True)
            )
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
            nearest = f"{item['word']} {item['likeness']:.2f}"
            words = f"{VERBS[name]}: " + (nearest if item["name"] == item["word"] else f"{item['name']} ({nearest})")
            if item["known"] is False:
                doubt = f"which is like none of the things that {model} draws; the picture may show any of them"
                warnings.warn(f"{label}: {words}, {doubt}", Bind2GenWarning, stacklevel=2)
            elif not quiet:
                say(f"{label}: {words}" if several else words)
