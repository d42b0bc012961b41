"""What a vector is about, in words: zero-shot classification through the text tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import InputError
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipelines.class_prompts import ClassPrompter
from ..pipelines.conditioning import ImageBindConditioning
from ..space.arithmetic import normalize
from ..space.text_towers import EncoderText
from ..space.vocabulary import Vocabulary, embed_names

# Captions that are averaged for each word; CLIP's practice, and the paper's for all modalities.
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "the sound of a {}")


class NearestWords:
    """The nearest of some words to vectors of one space.

    Words are moved there as any text is that is drawn or looked for. So one measure does for sounds, blends, sums that
    are nobody's recording, and finished pictures.

    Args:
        words: at least two.
        vectors: (W, D) of the words, of any length.
        scale: 1 / temperature of the softmax over cosines.
    """

    def __init__(self, words: Sequence[str], vectors: torch.Tensor, scale: torch.Tensor) -> None:
        self.words, self.vectors, self.scale = tuple(words), normalize(vectors), scale

    @classmethod
    @torch.no_grad()
    def for_pipeline(cls, pipe: ImageBindConditioning, words: Sequence[str] | Vocabulary) -> NearestWords:
        """Where images lie in the encoder's space; the text tower is used once, here, for words without vectors."""
        names, embeds = embedded_words(words, pipe.imagebind, pipe.processor)
        moved = pipe.adapter.shift("text", embeds.to(pipe.imagebind.device))
        return cls(names, moved, pipe.imagebind.logit_scale("text").detach())

    @classmethod
    @torch.no_grad()
    def for_prompter(cls, prompter: ClassPrompter, words: Sequence[str] | Vocabulary) -> NearestWords:
        """In the space of a detector's class vectors."""
        names, embeds = embedded_words(words, prompter.encoder, prompter.processor)
        scale = prompter.encoder.logit_scale("text").detach().float().cpu()
        return cls(names, prompter.from_embeds({"text": embeds}).embeds, scale)

    def probabilities(self, vectors: torch.Tensor) -> torch.Tensor:
        """(B, D) of any length -> (B, W), softmax over the words at the text tower's temperature."""
        return (self.scale * normalize(vectors) @ self.vectors.to(vectors).T).softmax(1)

    def nearest(self, vector: torch.Tensor, count: int) -> dict[str, float]:
        """The ``count`` nearest words of one vector, (1, D): word -> probability, nearest first."""
        found = self.probabilities(vector)[0].topk(min(count, len(self.words)))
        return {self.words[i]: p for p, i in zip(found.values.tolist(), found.indices.tolist(), strict=True)}

    def first(self, vectors: torch.Tensor) -> tuple[str, ...]:
        """The nearest word of each row of (B, D)."""
        return tuple(self.words[i] for i in self.probabilities(vectors).argmax(1).tolist())


def embedded_words(
    words: Sequence[str] | Vocabulary, encoder: ImageBindModel, processor: ImageBindProcessor
) -> tuple[Sequence[str], torch.Tensor]:
    """Names and the encoder's embeddings of them, (W, D) unit norm, each the mean of its captions.

    Raises:
        InputError: fewer than two.
    """
    if len(words) < 2:
        raise InputError(f"words: wanted at least two to choose from, got {len(words)}")
    if isinstance(words, Vocabulary):
        return words.names, words.vectors
    return words, embed_names(words, EncoderText(encoder, processor), templates=TEMPLATES)
