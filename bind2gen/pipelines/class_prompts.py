"""From what is heard, said or seen to a detector's class vectors, by one of the :data:`ROUTES`.

All routes work on directions, embeddings less the mean of their kind. Sounds, texts and pictures lie in cones of their
own; what tells a dog from a car is how an embedding differs from its cone's middle, so only these differences are
compared, added and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Real
from typing import Any

import torch

from ..errors import HostError, InputError, ShapeError
from ..imagebind.embedding import embed_inputs
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..space.adapter import EmbeddingAdapter
from ..space.arithmetic import normalize
from ..space.class_map import ClassMap
from ..space.text_towers import EncoderText
from ..space.vocabulary import TEMPERATURE, TOP_WORDS, Vocabulary, embed_names, mixture, nearest_words
from ..space.zero_shot import ZeroShotClassifier
from .class_vectors import ClassPrompts, Words
from .prompt_inputs import MixedPrompt, checked_labels, input_name, listed, warn_of_unknown

# map: a learned map; words: a blend of the detector's own vectors of the nearest words; rescoring: the encoder's own
# space, near images; joint: the same less the mean image, for a detector that was trained in the encoder's space.
ROUTES = ("map", "words", "rescoring", "joint")
# Cosine of directions with silence or noise. Of the bundled encoder 12 of 15 others exceed it, of 160 recordings none.
SAME_SOUND = 0.92


class ClassPrompter:
    """Makes class vectors of prompts of any modality.

    Args:
        encoder, processor: ImageBind and its front ends.
        route: one of :data:`ROUTES`; default of each call.
        vocabulary: the detector's own class vectors of its words, for ``words``; not for ``joint``.
        class_map: for ``map``; brings the means of the modalities itself.
        adapter: knows the means of the modalities for the other routes. Without one, embeddings are compared as they
            are, and ``joint`` cannot be had.
        templates: texts around the vocabulary's words for the encoder.
        word_embeds: (C, D) the encoder's embeddings of these words, where they are at hand (see the property of that
            name); default is to make them when first needed.
        known_text: in ``words``, the cosine of a text with its nearest word below which the text counts as unknown: it
            gets the nearest words all the same, with a warning. None never warns. It depends on the encoder.
        top_words: how many share a prompt in ``words``.
        temperature: of their softmax over cosines; smaller is more decided.
        nothing: names and encoder's embeddings of sounds that no thing makes, see
            :func:`~bind2gen.pipelines.prompt_inputs.embed_nothing`. A prompt whose direction is that of one of them
            gets no box.
        sounds: names what is known by its sound among all that may be heard, so that other sounds are told from it.
        known_sound: its probability of being known below which a sound counts as unknown, as ``known_text``.

    Raises:
        InputError: an unknown route, one that lacks its parts or is not the detector's, or numbers out of range.
        HostError, ShapeError: map, adapter or word embeddings are another encoder's.
    """

    def __init__(
        self,
        encoder: ImageBindModel,
        processor: ImageBindProcessor,
        *,
        route: str = "words",
        vocabulary: Vocabulary | None = None,
        class_map: ClassMap | None = None,
        adapter: EmbeddingAdapter | None = None,
        templates: Sequence[str] = ("a {}",),
        word_embeds: torch.Tensor | None = None,
        top_words: int = TOP_WORDS,
        temperature: float = TEMPERATURE,
        nothing: Vocabulary | None = None,
        known_text: float | None = None,
        sounds: ZeroShotClassifier | None = None,
        known_sound: float | None = None,
    ) -> None:
        self.nothing, self.known_text, self.sounds, self.known_sound = nothing, known_text, sounds, known_sound
        self.encoder, self.processor, self.route = encoder, processor, route
        self.vocabulary, self.class_map, self.adapter = vocabulary, class_map, adapter
        self.templates, self.top_words, self.temperature = tuple(templates), top_words, temperature
        if isinstance(top_words, bool) or not isinstance(top_words, int) or top_words < 1:
            raise InputError(f"top_words: wanted a whole number above zero, got {top_words!r}")
        if not isinstance(temperature, Real) or not 0 < temperature < math.inf:
            raise InputError(f"temperature: wanted a finite number above zero, got {temperature!r}")
        if word_embeds is not None:
            wanted = (len(vocabulary) if vocabulary else 0, encoder.config.embed_dim)
            if tuple(word_embeds.shape) != wanted:
                raise ShapeError(f"word_embeds: wanted {wanted}, a row a word, got {tuple(word_embeds.shape)}")
            self.__dict__["word_embeds"] = normalize(word_embeds.float())  # in the cached property's place
        self._check_widths()
        self._checked_route(route)

    def class_embeddings(
        self,
        *,
        audio: Any = None,
        text: Any = None,
        image: Any = None,
        imu: Any = None,
        depth: Any = None,
        thermal: Any = None,
        video: Any = None,
        mixed: MixedPrompt | Sequence[MixedPrompt] | None = None,
        labels: Sequence[str] | None = None,
        route: str | None = None,
        sampling_rate: float | None = None,
    ) -> ClassPrompts:
        """Class vectors of prompts, in the order of the arguments.

        Args:
            audio, text, image, imu, depth, thermal, video: one input or a list of them; each is a prompt of its own.
            mixed: prompts of several inputs each, as :class:`MixedPrompt`.
            labels: one a prompt; default is a text itself, a file's name without its ending, or "audio 1".
            route: instead of the default one.
            sampling_rate: Hz, of sounds given as arrays without a rate.

        Raises:
            InputError: nothing given, an input cannot be read, labels do not match, or the route lacks its parts.
            ModalityError: the encoder has no tower for an input.
        """
        given = dict(audio=audio, text=text, image=image, imu=imu, depth=depth, thermal=thermal, video=video)
        plain = {name: listed(name, value) for name, value in given.items() if value is not None}
        mixtures = [mixed] if isinstance(mixed, MixedPrompt) else list(mixed or [])
        if not plain and not mixtures:
            raise InputError("no prompt: give audio=, text=, image=, imu=, depth=, thermal=, video= or mixed=")
        route = self._checked_route(route or self.route)
        names = [input_name(name, value, i) for name, values in plain.items() for i, value in enumerate(values, 1)]
        names = checked_labels(labels, [*names, *(prompt.name for prompt in mixtures)])
        embeds = embed_inputs(self.encoder, self.processor, plain, sampling_rate=sampling_rate) if plain else {}
        rows = [self._directions(name, value, route) for name, value in embeds.items()]
        rows += [self._mixture(prompt, route, sampling_rate) for prompt in mixtures]
        familiar = (*self._familiar(embeds), *[None] * len(mixtures))
        prompts = replace(self._finished(torch.cat(rows), names, route), familiar=familiar)
        if prompts.words is not None:
            inputs = [(name, value) for name, values in plain.items() for value in values]
            warn_of_unknown(inputs, prompts, self.vocabulary.names, self.known_text, self.known_sound)
        return prompts

    def from_embeds(
        self, embeds: Mapping[str, torch.Tensor], *, labels: Sequence[str] | None = None, route: str | None = None
    ) -> ClassPrompts:
        """The same from embeddings that are there already: modality -> (N, D) unit norm, a prompt a row.

        Raises:
            InputError: none given, or labels do not match.
            ShapeError: another width than the encoder's.
        """
        route, width = self._checked_route(route or self.route), self.encoder.config.embed_dim
        if not embeds:
            raise InputError("no prompt: give embeddings of at least one modality")
        if wrong := {name: tuple(e.shape) for name, e in embeds.items() if e.ndim != 2 or e.shape[1] != width}:
            raise ShapeError(f"embeds: wanted (N, {width}) of each modality, got {wrong}")
        names = [f"{name} {i}" for name, value in embeds.items() for i in range(1, len(value) + 1)]
        rows = [self._directions(name, normalize(value.float()), route) for name, value in embeds.items()]
        prompts = self._finished(torch.cat(rows), checked_labels(labels, names), route)
        return replace(prompts, familiar=self._familiar(embeds))

    @cached_property
    def word_embeds(self) -> torch.Tensor:
        """(C, D) the encoder's embeddings of the vocabulary's words; made when first asked for."""
        return embed_names(self.vocabulary.names, EncoderText(self.encoder, self.processor), templates=self.templates)

    # ---- directions ----

    @property
    def _centre(self) -> torch.Tensor:
        """(D,) the mean image embedding, or zeros where no means are known."""
        if self.adapter is None or "image" not in self.adapter.known:
            return torch.zeros(self.encoder.config.embed_dim)
        return self.adapter.means[self.adapter.known.index("image")].float().cpu()

    def _directions(self, modality: str, embeds: torch.Tensor, route: str) -> torch.Tensor:
        """(N, D) embeddings less the mean of their modality, on the CPU."""
        embeds = embeds.float().cpu()
        if route == "map":
            return self.class_map.centred(embeds, modality)
        moved = embeds if self.adapter is None else self.adapter.shift(modality, embeds)
        return moved - self._centre

    def _mixture(self, prompt: MixedPrompt, route: str, sampling_rate: float | None) -> torch.Tensor:
        """(1, D): the weighted mean of what is wanted, less ``amount`` of the mean of what is not."""
        sides = []
        for inputs in (prompt.wanted, prompt.unwanted):
            lists = {name: listed(name, value) for name, value in inputs.items()}
            found = embed_inputs(self.encoder, self.processor, lists, sampling_rate=sampling_rate) if lists else {}
            parts = [self._directions(name, value, route) for name, value in found.items()]
            weights = [prompt.weights.get(name, 1.0) for name, value in found.items() for _ in value]
            if parts:
                shares = torch.tensor(weights) / sum(weights)
                sides.append((shares[:, None] * torch.cat(parts)).sum(0, keepdim=True))
        return sides[0] - prompt.amount * sides[1] if len(sides) == 2 else sides[0]

    # ---- routes ----

    @torch.no_grad()
    def _finished(self, directions: torch.Tensor, labels: tuple[str, ...], route: str) -> ClassPrompts:
        words, likeness, nothing = None, None, self._nothing(directions, route)
        if route == "map":
            embeds = self.class_map.project(directions)
        elif route == "words":
            embeds, words, likeness = self._blended(directions)
        else:
            embeds = normalize(directions if route == "joint" else directions + self._centre)
        if words is not None:
            words = tuple(known if name is None else ((name, 1.0),) for known, name in zip(words, nothing, strict=True))
        return ClassPrompts(embeds, labels, route, words, tuple(name is not None for name in nothing), likeness)

    def _nothing(self, directions: torch.Tensor, route: str) -> list[str | None]:
        """For each prompt the name of the sound of nothing that it is, or None."""
        if self.nothing is None:
            return [None] * len(directions)
        known = normalize(self._directions("audio", self.nothing.vectors, route))
        nearest = (normalize(directions) @ known.T).max(1)
        same = (nearest.values > SAME_SOUND).tolist()
        return [self.nothing.names[i] if is_same else None for i, is_same in zip(nearest.indices, same, strict=True)]

    def _blended(self, directions: torch.Tensor) -> tuple[torch.Tensor, tuple[Words, ...], tuple[float, ...]]:
        """The detector's vectors of the nearest words in their mixture, these words with their shares, and cosines."""
        places, shares = nearest_words(directions, self._word_directions, self.top_words, self.temperature)
        names = self.vocabulary.names
        told = tuple(
            tuple((names[i], share) for i, share in zip(row, part, strict=True))
            for row, part in zip(places.tolist(), shares.tolist(), strict=True)
        )
        likeness = (normalize(directions) * self._word_directions[places[:, 0]]).sum(1)
        return mixture(self.vocabulary.vectors, places, shares), told, tuple(likeness.tolist())

    @cached_property
    def _word_directions(self) -> torch.Tensor:
        return normalize(self._directions("text", self.word_embeds, "words"))

    def _familiar(self, embeds: Mapping[str, torch.Tensor]) -> tuple[float | None, ...]:
        def probable(modality: str, rows: torch.Tensor) -> list[float | None]:
            none = modality != "audio" or self.sounds is None
            return [None] * len(rows) if none else self.sounds(rows.float().cpu()).known.tolist()

        return tuple(p for name, rows in embeds.items() for p in probable(name, rows))

    # ---- checks ----

    def _checked_route(self, route: str) -> str:
        needs = {"map": "class_map", "words": "vocabulary", "joint": "adapter"}
        if route not in ROUTES:
            raise InputError(f"route: wanted one of {', '.join(ROUTES)}, got {route!r}")
        if route in needs and getattr(self, needs[route]) is None:
            raise InputError(f"route {route!r} needs {needs[route]}=, which was not given")
        if route == "joint" and self.vocabulary is not None:
            raise InputError(
                "route 'joint' is for a detector that was trained in the encoder's space; this one has class vectors "
                "of its own: use 'words'"
            )
        return route

    def _check_widths(self) -> None:
        width = self.encoder.config.embed_dim
        parts = {"class_map": (self.class_map, "source_dim"), "adapter": (self.adapter, "embed_dim")}
        for name, (part, key) in parts.items():
            if part is not None and part.config[key] != width:
                raise HostError(f"{name}: made for embeddings of width {part.config[key]}, the encoder's are {width}")
