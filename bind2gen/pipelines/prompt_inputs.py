"""Prompts as people give them: inputs of any modality, alone or mixed, and what they are called."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from ..errors import Bind2GenWarning, EmptyInputError, InputError, ModalityError, misspelt
from ..imagebind.embedding import embed_inputs
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..modality import MODALITIES
from ..space.vocabulary import Vocabulary
from .class_vectors import ClassPrompts
from .null_sounds import SAMPLE_RATE, null_sounds

LEVELS = (1.0, 0.3, 0.1, 0.03, 0.01)  # of the sounds of nothing
DURATIONS = tuple(0.5 * k for k in range(1, 12))  # s


@dataclass(frozen=True)
class MixedPrompt:
    """One prompt of several inputs: this sound and this word, but not a car.

    Attributes:
        wanted: modality -> input or list of them; they count alike unless ``weights`` says otherwise.
        unwanted: modality -> input or list of them, whose directions are taken out.
        weights: modality -> number above zero, of each of its wanted inputs.
        amount: how much of the unwanted is taken out; 0.5 as in :func:`bind2gen.subtract`.
        label: what boxes of it are called; default is made of the inputs' names.

    Raises:
        InputError: nothing wanted, or a number out of range.
        ModalityError: an unknown modality, or a weight without its inputs.
    """

    wanted: Mapping[str, Any]
    unwanted: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    amount: float = 0.5
    label: str | None = None

    def __post_init__(self) -> None:
        if not self.wanted:
            raise InputError("MixedPrompt: wanted at least one input that is meant, got none")
        if unknown := (set(self.wanted) | set(self.unwanted)) - set(MODALITIES):
            raise ModalityError(f"MixedPrompt: unknown {sorted(unknown)}; known are {', '.join(MODALITIES)}")
        if unknown := set(self.weights) - set(self.wanted):
            raise ModalityError(f"MixedPrompt: weights for {sorted(unknown)}, but only {', '.join(self.wanted)} wanted")
        numbers = [("amount", self.amount), *((f"the weight of {name}", value) for name, value in self.weights.items())]
        for what, value in numbers:
            if not isinstance(value, Real) or not 0 < value < math.inf:
                raise InputError(f"MixedPrompt: wanted {what} as a finite number above zero, got {value!r}")

    @property
    def name(self) -> str:
        """The label, or one like "dog + a tree - a car"."""
        if self.label is not None:
            return self.label

        def joined(inputs: Mapping[str, Any]) -> list[str]:
            return [input_name(m, v, i) for m, vs in inputs.items() for i, v in enumerate(listed(m, vs), 1)]

        return " - ".join([" + ".join(joined(self.wanted)), *joined(self.unwanted)])


def listed(modality: str, value: Any) -> list[Any]:
    """One input or a list of them as a list; as for the processor, only a ``list`` is several.

    Raises:
        EmptyInputError: an empty list, or a text of blanks.
    """
    values = value if isinstance(value, list) else [value]
    if not values:
        raise EmptyInputError(f"{modality}: wanted at least one prompt, got an empty list")
    if modality == "text" and any(isinstance(text, str) and not text.strip() for text in values):
        raise EmptyInputError("text: wanted a prompt of at least one character, got an empty one")
    return values


def input_name(modality: str, value: Any, number: int) -> str:
    """What boxes of an input are called: a text itself, a file's name without its ending, or "audio 1"."""
    if modality == "text" and isinstance(value, str):
        return value
    if isinstance(value, str | os.PathLike) and Path(value).stem:
        return Path(value).stem
    return f"{modality} {number}"


def warn_of_unknown(
    inputs: Sequence[tuple[str, Any]],
    prompts: ClassPrompts,
    names: Sequence[str],
    known_text: float | None,
    known_sound: float | None,
) -> None:
    """Warn of those texts and sounds that are like none of a detector's words.

    Args:
        inputs: modality and value, of the first of the prompts; mixtures come after them.
        names: the words.
        known_text, known_sound: of :class:`~bind2gen.pipelines.class_prompts.ClassPrompter`; None never warns.
    """
    texts, sounds = [], []  # what it is called, and the nearest word
    for i, (modality, value) in enumerate(inputs):
        word, familiar = prompts.words[i][0][0], prompts.familiar[i]
        if modality == "text" and known_text is not None and prompts.likeness[i] < known_text:
            texts.append((value, word))
        elif known_sound is not None and familiar is not None and familiar < known_sound and not prompts.nothing[i]:
            sounds.append((prompts.labels[i], word))
    hints = "".join(hint for text, _ in texts if (hint := misspelt(text, names)))
    for kind, far, end in (("text", texts, hints), ("audio", sounds, "")):
        if far:
            taken = ", ".join(f"{name!r} (nearest: {word})" for name, word in far)
            words = f"{kind}: not among the {len(names)} words that the detector knows: {taken}"
            warnings.warn(f"{words}; boxes are of the nearest words{end}", Bind2GenWarning, stacklevel=3)


def embed_nothing(encoder: ImageBindModel, processor: ImageBindProcessor, *, seed: int = 0) -> Vocabulary:
    """Sounds that no thing makes (:mod:`bind2gen.pipelines.null_sounds`), for ``ClassPrompter(nothing=...)``.

    Loud and faint, and of many lengths: what lies behind the end of a short sound changes its embedding. There are
    about 230 of them, embedded one batch a length.
    """
    names, rows = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # that some of them are silent
        for duration in DURATIONS:
            sounds = []
            for name, sound in null_sounds(duration, copies=1, seed=seed).items():
                levels = (1.0,) if name == "silence" else LEVELS
                sounds += [(level * sound, SAMPLE_RATE) for level in levels]
                names += [_spoken(name)] * len(levels)
            rows.append(embed_inputs(encoder, processor, {"audio": sounds})["audio"])
    return Vocabulary(tuple(names), torch.cat(rows), "null sounds")


def _spoken(name: str) -> str:
    """The first white noise is "white 1": to people it is white noise."""
    kind = name.rstrip(" 0123456789")
    return kind if kind in ("silence", "hum") else f"{kind} noise"


def checked_labels(labels: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """One a prompt; default is ``names``."""
    if labels is None:
        return tuple(names)
    if isinstance(labels, str) or len(labels) != len(names) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"labels: wanted {len(names)} names, one a prompt, got {labels!r}")
    return tuple(labels)
