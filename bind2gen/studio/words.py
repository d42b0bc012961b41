"""What a vector is about, in words: zero-shot classification through the text tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..arithmetic import normalize
from ..class_prompts import ClassPrompter
from ..errors import InputError
from ..imagebind.embedding import embed_inputs
from ..pipeline import ImageBindUnCLIPPipeline

# Captions that are averaged for each word; CLIP's practice, and the paper's for all modalities.
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}", "the sound of a {}")
# What the bundled model was shown; everything else it would call by one of these names anyhow.
BUNDLED_WORDS = (
    "dog", "cat", "bird", "rooster", "frog", "cow", "sheep", "pig", "insect", "sea", "rain", "fire", "train", "car",
    "police van", "keyboard", "clock", "helicopter", "airplane", "drone",
)  # fmt: skip
# For models that know the world: things that sound, and things that are seen.
EVERYDAY_WORDS = (
    *BUNDLED_WORDS, "horse", "duck", "goose", "crow", "owl", "parrot", "wolf", "lion", "elephant", "monkey", "bee",
    "cricket", "snake", "whale", "crowd", "baby", "child laughing", "singer", "choir", "applause", "footsteps",
    "snoring", "cough", "piano", "guitar", "violin", "drum", "trumpet", "flute", "accordion", "organ", "church bell",
    "alarm clock", "telephone", "typewriter", "printer", "camera", "door", "doorbell", "kettle", "frying pan",
    "dishwasher", "washing machine", "vacuum cleaner", "hair dryer", "toilet", "shower", "tap", "river", "waterfall",
    "fountain", "swimming pool", "thunderstorm", "wind", "snow", "forest", "mountain", "desert", "beach", "sunset",
    "night sky", "street", "traffic", "motorcycle", "bicycle", "bus", "truck", "tractor", "fire engine", "ambulance",
    "boat", "sailing ship", "steam engine", "tram", "rocket", "fireworks", "gun", "explosion", "chainsaw", "hammer",
    "drill", "lawn mower", "sewing machine", "factory", "kitchen", "living room", "bedroom", "office", "classroom",
    "restaurant", "market", "church", "castle", "bridge", "skyscraper", "garden", "flower", "tree", "football match",
    "tennis match", "bowling alley", "playground", "person walking", "person running", "person sitting", "computer",
    "book", "bottle", "glass", "candle", "ice cream", "pizza", "fruit",
)  # fmt: skip


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
    def for_pipeline(cls, pipe: ImageBindUnCLIPPipeline, words: Sequence[str]) -> NearestWords:
        """In the host's conditioning space; the text tower and the adapter are used once, here."""
        embeds = _mean_of_captions(pipe.embed(text=_captions(words))["text"], len(words))
        return cls(words, pipe.adapter.shift("text", embeds), pipe.imagebind.logit_scale("text").detach())

    @classmethod
    @torch.no_grad()
    def for_prompter(cls, prompter: ClassPrompter, words: Sequence[str]) -> NearestWords:
        """In the space of a detector's class vectors."""
        encoder = prompter.encoder
        embeds = embed_inputs(encoder, prompter.processor, {"text": _captions(words)})["text"]
        prompts = prompter.from_embeds({"text": _mean_of_captions(embeds, len(words))})
        return cls(words, prompts.embeds, encoder.logit_scale("text").detach().float().cpu())

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


def _captions(words: Sequence[str]) -> list[str]:
    if len(words) < 2:
        raise InputError(f"words: wanted at least two to choose from, got {len(words)}")
    return [template.format(word) for word in words for template in TEMPLATES]


def _mean_of_captions(embeds: torch.Tensor, words: int) -> torch.Tensor:
    """(W * templates, D) -> (W, D) unit norm."""
    return normalize(embeds.view(words, len(TEMPLATES), -1).mean(1))
