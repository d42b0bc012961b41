"""What a model understood of inputs, in the words that it knows, before anything is drawn of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..pipelines.class_prompts import ClassPrompter
from ..pipelines.conditioning import ImageBindConditioning
from ..pipelines.detection import CLASSES_FILE, own_calibration, own_prompter
from ..space.vocabulary import Vocabulary
from .words import NearestWords

# What is said of a modality. The words name things: of motion they say nothing.
VERBS = {"audio": "heard", "text": "read", "image": "seen", "video": "seen", "depth": "sensed", "thermal": "sensed"}
MEASURED = ("audio", "text")  # what Calibration.known_prompt is measured on

# Why a picture may show something else: in a caption, and behind what was understood.
DOUBTS = {
    "unknown": (
        "none of the things I know",
        "which is like none of the things that {model} draws; the picture may show any of them",
    ),
    "not drawn": (
        "{word}, not among what I draw",
        "which is not among the things that {model} draws; the nearest of them is {drawn}",
    ),
    "not sure": ("not sure: {word} or {drawn}", "but not surely: what is drawn is nearer to {drawn}"),
}

# name: what it is, of all names that lie beside the encoder; word: the nearest of those that the model was taught to
# find or draw; likeness: its cosine, -1..1, or 1 of silence and noise; known: whether that is enough, or None;
# drawn: the kind that the adapter's anchors make of it, or None where they play no part or have no names; doubt: a key
# of DOUBTS, or ""
Understood = dict[str, Any]


class Understanding:
    """Says what embeddings are, as they are before they are drawn to the adapter's anchors.

    Args:
        pipe: on its device.
        part: the detector's folder; its words, and those of the anchors, are what the model knows.
        names: of things, see :func:`~bind2gen.studio.words.words_of`; those without embeddings are of no use here.
    """

    def __init__(self, pipe: ImageBindConditioning, part: Path, names: Sequence[str] | Vocabulary) -> None:
        names = names if isinstance(names, Vocabulary) else None
        known = own_calibration(part)
        self.pipe, self.least, self.least_sound = pipe, known and known.known_prompt, known and known.known_sound
        self.prompter = _prompter(pipe, part, names)
        self.names = names and NearestWords.for_pipeline(pipe, names)

    @classmethod
    def where_known(
        cls, pipe: ImageBindConditioning, part: Path, names: Sequence[str] | Vocabulary
    ) -> Understanding | None:
        """None for models of which no words are known."""
        return cls(pipe, part, names) if (part / CLASSES_FILE).is_file() else None

    def __call__(self, embeds: Mapping[str, torch.Tensor]) -> dict[str, list[Understood]]:
        """Modality -> what each of its embeddings, (B, D) unit norm, is; modalities of which words say nothing lack."""
        return {name: self._items(name, embeds[name]) for name in VERBS if name in embeds}

    def _items(self, modality: str, embeds: torch.Tensor) -> list[Understood]:
        prompts, adapter = self.prompter.from_embeds({modality: embeds}), self.pipe.adapter
        named = self.names and self.names.first(adapter({modality: embeds}, anchored=False))
        drawn = adapter.drawn_as(modality, embeds) or [None] * len(embeds)
        found = []
        for i, (words, likeness, familiar, nothing) in enumerate(
            zip(prompts.words, prompts.likeness, prompts.familiar, prompts.nothing, strict=True)
        ):
            word, known = words[0][0], None
            if self.least is not None and modality in MEASURED:
                known = not nothing and likeness >= self.least
            if known and familiar is not None and self.least_sound is not None:
                known = familiar >= self.least_sound  # each refuses what the other lets through
            found.append({
                "name": named[i] if named and not nothing else word, "word": word,
                "likeness": round(1.0 if nothing else likeness, 3), "known": known, "drawn": drawn[i],
                "doubt": self._doubt(word, known, drawn[i]),
            })  # fmt: skip
        return found

    def _doubt(self, word: str, known: bool | None, drawn: str | None) -> str:
        if known is False:
            return "unknown"
        if drawn in (None, word):
            return ""
        return "not sure" if word in self.pipe.adapter.config.anchor_names else "not drawn"


def briefly(item: Understood) -> str:
    """For a caption: what it is, or that it is not among what is known, or not surely."""
    return DOUBTS[item["doubt"]][0].format(**item) if item["doubt"] else item["name"]


def doubt(item: Understood, model: str = "this model") -> str:
    """Why the picture may show something else than what was understood, or ""."""
    return DOUBTS[item["doubt"]][1].format(model=model, **item) if item["doubt"] else ""


def _prompter(pipe: ImageBindConditioning, part: Path, names: Vocabulary | None) -> ClassPrompter:
    """The detector's, with the words of the anchors beside its own: here words are compared, and nothing is found."""
    own = own_prompter(pipe.imagebind, pipe.processor, pipe.adapter, part)
    rows = {name: k for k, name in enumerate(names.names)} if names else {}
    kinds = pipe.adapter.config.anchor_names or ()
    more = [kind for kind in kinds if kind in rows and kind not in own.vocabulary.names]
    if not more:
        return own
    vectors = torch.cat([own.word_embeds, names.vectors[[rows[kind] for kind in more]]])
    return ClassPrompter(
        pipe.imagebind, pipe.processor, adapter=pipe.adapter, nothing=own.nothing, sounds=own.sounds,
        vocabulary=Vocabulary((*own.vocabulary.names, *more), vectors), word_embeds=vectors,
    )  # fmt: skip
