"""Naming by words, or by sounds and pictures: how like each label an embedding is, and whether it is like any.

As CLIP (arXiv 2103.00020, section 3.1) and ImageBind (section 4.2) do: cosines with each label's vector, times the
scale that the tower was trained with, through a softmax.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import InputError, ShapeError
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..modality import modality as find_modality
from .arithmetic import Embeds, as_tensor, normalize
from .everyday import EVERYDAY_WORDS
from .text_towers import EncoderText
from .vocabulary import checked_names, embed_names

SOUND_TEMPLATES = (
    "{}", "a {}", "the sound of a {}", "the sound of {}", "a recording of a {}", "a {} can be heard",
)  # fmt: skip
TEMPLATE_SETS = ("clip80", "audio", "none")
SYNONYM = 0.7  # cosine, the mean of the words taken off, from which a word says the same as a label
NONE_BELOW = 0.5  # probability of being any of the labels under which it is called none of them


@dataclass(frozen=True)
class Answers:
    """What N embeddings are called.

    Attributes:
        labels: C names.
        probabilities: (N, C); of labels that exclude each other the rows sum to 1.
        known: (N,) how probable it is that it is any of them, 0..1; None where that cannot be told.
        threshold: of ``known``, under which it is called none of them.
        agreement: (N,) share of the labels' wordings by which the first label is the same; None of one wording.
        nearer_to: what else each is most like; None where nothing else was compared.
    """

    labels: tuple[str, ...]
    probabilities: torch.Tensor
    known: torch.Tensor | None = None
    threshold: float = NONE_BELOW
    agreement: torch.Tensor | None = None
    nearer_to: tuple[str, ...] | None = None

    @property
    def first(self) -> tuple[str | None, ...]:
        """The most probable label of each, None where it is none of them."""
        best = [self.labels[i] for i in self.probabilities.argmax(1).tolist()]
        if self.known is None:
            return tuple(best)
        return tuple(b if k >= self.threshold else None for b, k in zip(best, self.known.tolist(), strict=True))


class ZeroShotClassifier:
    """Labels and their vectors.

    Args:
        labels: C names, all different.
        vectors: (T, C, D), or (C, D), of any length: of each label in T wordings, whose mean directions count.
        scale: that cosines are multiplied by before the softmax, above 0.
        others: other things, name -> (D,): what is more like these is none of the labels. Those that say the same as
            a label do not count.

    Raises:
        ShapeError, InputError: what does not fit.
    """

    def __init__(
        self, labels: Sequence[str], vectors: Embeds, scale: float, *, others: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self.labels, vectors = checked_names(labels), as_tensor(vectors).float()
        if twice := {label for label in self.labels if self.labels.count(label) > 1}:
            raise InputError(f"labels: wanted different ones, {', '.join(sorted(twice))} is there twice")
        self.wordings = normalize(vectors if vectors.ndim == 3 else vectors[None])  # (T, C, D)
        if self.wordings.shape[1] != len(self.labels):
            raise ShapeError(f"labels: wanted {len(self.labels)} vectors, one each, got {tuple(vectors.shape)}")
        if not scale > 0:
            raise InputError(f"scale: wanted a number above zero, got {scale}")
        self.vectors, self.scale = normalize(self.wordings.mean(0)), float(scale)  # (C, D)
        self.other_names = tuple(others or {})
        self.others = normalize(torch.stack(list(others.values())).to(self.vectors)) if others else None  # (R, D)
        self.same = self._same() if others else None  # (C, R) bool

    @classmethod
    def from_model(
        cls,
        encoder: ImageBindModel,
        processor: ImageBindProcessor,
        labels: Sequence[str],
        *,
        modality: str,
        templates: str | Sequence[str] | None = None,
        others: Sequence[str] = EVERYDAY_WORDS,
    ) -> ZeroShotClassifier:
        """Labels as words through the encoder's text tower.

        Args:
            modality: of what is to be named: it decides on the scale, see :func:`pair_scale`.
            templates: one of :data:`TEMPLATE_SETS`, or texts with ``{}`` for the label; default is "audio" for sounds
                and CLIP's eighty for everything else.
            others: words that everything else may be; () for no other.
        """
        texts, embed = (
            template_set(templates or ("audio" if modality == "audio" else "clip80")),
            EncoderText(encoder, processor),
        )
        vectors = torch.stack([embed_names(labels, embed, templates=(text,)) for text in texts])
        rest = embed_names(others, embed, templates=template_set("audio")) if others else ()
        scale = pair_scale(encoder, modality, "text")
        return cls(labels, vectors, scale, others=dict(zip(others, rest, strict=True)))

    @torch.no_grad()
    def __call__(self, embeds: Embeds, *, independent: bool = False) -> Answers:
        """Name embeddings.

        Args:
            embeds: (N, D) of any length.
            independent: whether several labels may be right at once, as of sounds that mix: each is then weighed
                against the other things alone, and not against the other labels.

        Raises:
            InputError: ``independent`` without other things to weigh against.
        """
        logits = self._logits(embeds, self.vectors)  # (N, C)
        if self.others is None:
            if independent:
                raise InputError("independent: wanted other things to weigh the labels against, there are none")
            return Answers(self.labels, logits.softmax(1), agreement=self._agreement(embeds, logits))
        rest = self._logits(embeds, self.others)  # (N, R)
        apart = torch.stack([rest.masked_fill(same, -torch.inf).logsumexp(1) for same in self.same], 1)  # (N, C)
        alone = torch.sigmoid(logits - apart)
        kept = rest.masked_fill(self.same.any(0), -torch.inf)
        known = torch.sigmoid(logits.logsumexp(1) - kept.logsumexp(1))
        answers = Answers(
            self.labels, alone if independent else logits.softmax(1), known, agreement=self._agreement(embeds, logits),
            nearer_to=tuple(self.other_names[i] for i in kept.argmax(1).tolist()),
        )  # fmt: skip
        return replace(answers, known=alone.max(1).values) if independent else answers

    def _logits(self, embeds: Embeds, vectors: torch.Tensor) -> torch.Tensor:
        embeds = normalize(as_tensor(embeds).to(vectors))
        if embeds.ndim != 2 or embeds.shape[1] != vectors.shape[-1]:
            raise ShapeError(f"embeddings: wanted (N, {vectors.shape[-1]}), got {tuple(embeds.shape)}")
        return self.scale * embeds @ vectors.mT

    def _agreement(self, embeds: Embeds, logits: torch.Tensor) -> torch.Tensor | None:
        if len(self.wordings) == 1:
            return None
        firsts = torch.stack([self._logits(embeds, vectors).argmax(1) for vectors in self.wordings])  # (T, N)
        return (firsts == logits.argmax(1)).float().mean(0)

    def _same(self) -> torch.Tensor:
        """Which of the other things are a label in other words: by a word of it, or by where it lies."""
        mean = self.others.mean(0)
        near = F.normalize(self.vectors - mean, dim=1) @ F.normalize(self.others - mean, dim=1).T > SYNONYM
        words = [[set(re.findall(r"\w+", name.lower())) for name in names] for names in (self.labels, self.other_names)]
        return near | torch.tensor([[bool(label & other) for other in words[1]] for label in words[0]])


def pair_scale(encoder: ImageBindModel, first: str, second: str) -> float:
    """1 / temperature between two modalities: of the one that was trained against pictures.

    Of two that were, that of ``first``; of two kinds of pictures, of which neither was, that of texts.

    Raises:
        ModalityError: the model was built without the tower that has it.
    """
    trained = [name for name in (first, second) if find_modality(name).tower != "vision"]
    return float(encoder.logit_scale(trained[0] if trained else "text").detach())


def template_set(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Texts with ``{}``: those of a set of :data:`TEMPLATE_SETS` by its name, others as they are."""
    if not isinstance(templates, str):
        return tuple(templates)
    if templates == "clip80":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    sets: dict[str, Any] = {"audio": SOUND_TEMPLATES, "none": ("{}",)}
    if templates not in sets:
        raise InputError(f"templates: wanted {', '.join(TEMPLATE_SETS)} or texts with {{}}, got {templates!r}")
    return sets[templates]
