"""The studio: one model, many visitors. Everything that the demos do, without their widgets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from threading import Event
from typing import Any

import torch

from ..errors import InputError, ShapeError
from ..modality import MODALITIES
from ..pipelines.conditioning import ImageBindConditioning
from ..space.arithmetic import match_norm, normalize, slerp, subtract
from ..space.everyday import EVERYDAY_WORDS
from ..space.vocabulary import Vocabulary
from . import denoising
from .animation import there_and_back
from .inputs import read_inputs
from .limits import Limits, finite, seed_of, visitors_words, weights_of
from .results import Drawing, Progress, Slide
from .understood import VERBS, Understanding, Understood, doubt
from .words import NearestWords
from .worker import Report, Worker

NEAREST = 5  # words that are shown
STEPS = 20
SLIDE = 5  # pictures
AMOUNT = 0.5  # of the other that a difference takes away
RATE = 16_000  # Hz, of the tone that warms the model


class Studio:
    """Draws for visitors: bounded, one at a time in fair turns, with previews, stoppable.

    Args:
        pipe: on its device.
        words: that :meth:`hear` chooses from, see :func:`~bind2gen.studio.words.words_of`.
        understanding: says what inputs are, of the things that the model knows; None where none are known.
        limits: of one request; None is the default ones.
        batch_size: pictures denoised at a time.
    """

    def __init__(
        self,
        pipe: ImageBindConditioning,
        *,
        words: Sequence[str] | Vocabulary = EVERYDAY_WORDS,
        understanding: Understanding | None = None,
        limits: Limits | None = None,
        batch_size: int = 4,
    ) -> None:
        self.pipe, self.limits, self.batch_size = pipe, limits or Limits(), batch_size
        self.words, self.understanding = NearestWords.for_pipeline(pipe, words), understanding
        self.worker = Worker()

    @property
    def modalities(self) -> tuple[str, ...]:
        """What this model takes: those of its towers."""
        return tuple(name for name, kind in MODALITIES.items() if kind.tower in self.pipe.imagebind.towers)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What this model draws, or nothing where that is not known."""
        return tuple(self.pipe.adapter.config.anchor_names or ())

    @property
    def guidance(self) -> float:
        """The model's own guidance scale."""
        return float(self.pipe.defaults["guidance_scale"])

    def warm(self) -> None:
        """Go once through everything that is slow the first time, so that no visitor has to wait for it."""
        tone = torch.sin(torch.arange(RATE) / 10)

        def work(report: Report, stop: Event) -> bool:
            if "audio" in self.modalities:
                self.pipe.embed(audio=(tone.numpy(), RATE))
            rows = self.pipe.condition(self.pipe.embed(text="warm"))
            pictures, _ = self._pictures(rows, [0], 3, None, report, stop)
            self._round_trip(pictures, rows)
            return True

        for _ in self.worker.run(work, "warm", steps=3):
            pass

    def stop(self, session: str) -> bool:
        """Stop what a session is drawing, after the step at hand; whether it drew anything."""
        return self.worker.stop(session)

    def close(self) -> None:
        """Stop everything and end the worker's thread."""
        self.worker.close()

    # ---- what visitors ask for ----

    def draw(
        self,
        inputs: Mapping[str, str | None],
        *,
        weights: Mapping[str, float] | None = None,
        seed: int = 0,
        steps: int = STEPS,
        guidance: float | None = None,
        pictures: int = 1,
        depth_sensor: str | None = None,
        session: str = "",
        visitor: str | None = None,
    ) -> Iterator[Progress | Drawing]:
        """Pictures of a blend of inputs.

        Args:
            inputs: modality -> uploaded file, or the text itself; None and empty ones are not given.
            weights: modality -> weight, -2..2; 1 where not named, negative subtracts.
            seed: of the first picture; the next ones have the next seeds.
            steps, pictures: within the limits.
            guidance: None is the model's own.
            depth_sensor: one of :data:`~bind2gen.studio.inputs.DEPTH_SENSORS`, for a depth map.
            session: whose work it is, for :meth:`stop`.
            visitor: with whom the others share the machine; default is the session.

        Yields:
            :class:`Progress` while it waits and works, then a :class:`Drawing`.

        Raises:
            Bind2GenError: an input or a number cannot be used.
        """
        limits, seed = self.limits, seed_of(seed)
        steps, guidance = limits.steps_of(steps), limits.guidance_of(guidance)
        seeds = tuple(range(seed, seed + limits.pictures_of(pictures)))

        def work(report: Report, stop: Event) -> Drawing:
            started = time.perf_counter()
            report(Progress(0, steps))
            with visitors_words() as notes:
                embeds, shares = self._embedded(inputs, weights, depth_sensor)
            understood, doubts = self._understood(embeds, shares)
            rows = self.pipe.condition(embeds, shares).expand(len(seeds), -1)
            drawn, stopped = self._pictures(rows, seeds, steps, guidance, report, stop)
            likeness, shows = self._round_trip(drawn, rows)
            heard, seconds = self._nearest(embeds, shares), time.perf_counter() - started
            return Drawing(
                drawn, seeds[: len(drawn)], likeness, heard, shows, understood, (*notes, *doubts), stopped, seconds
            )

        yield from self.worker.run(work, session, visitor=visitor, steps=steps * len(seeds))

    def hear(
        self,
        inputs: Mapping[str, str | None],
        *,
        weights: Mapping[str, float] | None = None,
        depth_sensor: str | None = None,
        session: str = "",
        visitor: str | None = None,
    ) -> dict[str, float]:
        """The nearest words of a blend, word -> probability, nearest first; arguments as of :meth:`draw`."""

        def work(report: Report, stop: Event) -> dict[str, float]:
            with visitors_words():
                return self._nearest(*self._embedded(inputs, weights, depth_sensor))

        news = self.worker.run(work, session, visitor=visitor)
        return next((item for item in news if not isinstance(item, Progress)), {})

    def slide(
        self,
        first: Mapping[str, str | None],
        second: Mapping[str, str | None],
        *,
        pictures: int = SLIDE,
        amount: float = AMOUNT,
        seed: int = 0,
        steps: int = STEPS,
        guidance: float | None = None,
        session: str = "",
        visitor: str | None = None,
    ) -> Iterator[Progress | Slide]:
        """Slide from one thing to another along the sphere, with one seed; and take each out of the other.

        The picture in the middle is that of their sum: normalised, it lies half way.

        Args:
            first, second: what each thing is made of, as the inputs of :meth:`draw`.
            pictures: from end to end, 2 or more.
            amount: 0..1 of the other that the differences take away.
            seed, steps, guidance, session, visitor: as of :meth:`draw`.

        Yields:
            :class:`Progress` while it waits and works, then a :class:`Slide`.

        Raises:
            Bind2GenError: an input or a number cannot be used.
        """
        limits, seed = self.limits, seed_of(seed)
        steps, guidance, count = limits.steps_of(steps), limits.guidance_of(guidance), limits.slide_of(pictures)
        finite("amount", amount, 0.0, 1.0)

        def work(report: Report, stop: Event) -> Slide:
            started = time.perf_counter()
            report(Progress(0, steps))
            with visitors_words() as notes:
                things = [self._embedded(one, None, None, which)[0] for one, which in
                          ((first, "the first thing"), (second, "the second thing"))]  # fmt: skip
            ends = [normalize(self.pipe.condition(thing)) for thing in things]
            meant = [self.pipe.adapter(thing, anchored=False) for thing in things]
            way = torch.linspace(0, 1, count)
            rows, named = (slerp(*pair, way[:, None].to(pair[0])) for pair in (ends, meant))  # (count, H), (count, D)
            rest = _differences(*ends, amount)
            every = match_norm(torch.cat([rows, *rest]), self.pipe.host_norm)
            drawn, stopped = self._pictures(every, [seed] * len(every), steps, guidance, report, stop)
            finished = not stopped and len(drawn) == len(every)
            return Slide(
                drawn[:count], tuple(way.tolist()), self.words.first(named), drawn[count:],
                there_and_back(drawn[:count]) if finished else None,
                tuple(notes), stopped, time.perf_counter() - started,
            )  # fmt: skip

        yield from self.worker.run(work, session, visitor=visitor, steps=steps * (count + 2))

    # ---- how ----

    def _embedded(
        self,
        inputs: Mapping[str, str | None],
        weights: Mapping[str, float] | None,
        depth_sensor: str | None,
        what: str = "the picture",
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Read and encode: modality -> (1, D), and the weights of what was given."""
        raw = read_inputs(inputs, self.pipe.imagebind, self.pipe.processor, self.limits, depth_sensor)
        if not raw:
            raise InputError(f"nothing was given for {what}: record or upload a sound, or write some words")
        return self.pipe.embed(**raw), weights_of(weights, raw)

    def _understood(
        self, embeds: Mapping[str, torch.Tensor], weights: Mapping[str, float]
    ) -> tuple[dict[str, Understood], list[str]]:
        """Modality -> what was understood of it, where it adds to the blend; and why the picture may show another."""
        added = {name: value for name, value in embeds.items() if weights.get(name, 1.0) > 0}
        found = self.understanding(added) if self.understanding else {}
        understood = {name: items[0] for name, items in found.items()}
        doubts = {name: doubt(item) for name, item in understood.items()}
        return understood, [f"{VERBS[name]}: {understood[name]['name']}, {why}" for name, why in doubts.items() if why]

    def _nearest(self, embeds: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> dict[str, float]:
        """The nearest words of a blend as it is before it is drawn to the host's anchors, all of which are near one."""
        return self.words.nearest(self.pipe.adapter(embeds, weights, anchored=False), NEAREST)

    def _pictures(
        self, rows: torch.Tensor, seeds: Sequence[int], steps: int, guidance: float | None, report: Report, stop: Event
    ) -> tuple[tuple, bool]:
        return denoising.draw(
            self.pipe, rows, seeds, steps=steps, guidance=guidance, batch_size=self.batch_size, report=report, stop=stop
        )

    def _round_trip(self, pictures: Sequence[Any], rows: torch.Tensor) -> tuple[tuple[float, ...], tuple[str, ...]]:
        """Of each picture: cosine with the vector that it was drawn from, and its nearest word."""
        if not pictures:
            return (), ()
        embeds, likeness = self.pipe.round_trip(pictures, rows[: len(pictures)])
        return tuple(likeness.tolist()), self.words.first(embeds)


def _differences(first: torch.Tensor, second: torch.Tensor, amount: float) -> list[torch.Tensor]:
    """Each less the other, (1, D); none if the two are the same."""
    try:
        return [subtract(first, second, amount), subtract(second, first, amount)]
    except ShapeError:
        return []
