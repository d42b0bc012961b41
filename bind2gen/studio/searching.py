"""Search for visitors: what in a store is nearest to their sounds, words and pictures; bounded, in fair turns."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from threading import Event

from ..errors import InputError
from ..modality import MODALITIES
from ..store import FILM, EmbeddingStore, Hit, Part
from ..store.encoder import Encoder
from ..store.places import TAKEN_OUT, VARIETY
from ..store.relevance import LIKELY, Relevance
from .inputs import read_inputs
from .limits import Limits, visitors_words, whole
from .results import Finds, Found, Progress
from .worker import Report, Worker

MOST = 24  # that are found
STAGES = ("Listening and looking", "Searching")


class SearchStudio:
    """Finds for visitors what is like their inputs in a store.

    Args:
        encoder: of the store, on its device.
        store: open; visitors see names and thumbnails of its files, and nothing else of them.
        relevance: of the encoder, for probabilities; None where nothing was measured.
        limits: of one request; None is the default ones.
        worker: of another studio, so that both take turns on one machine; default is one of its own.
    """

    def __init__(
        self, encoder: Encoder, store: EmbeddingStore, *, relevance: Relevance | None = None,
        limits: Limits | None = None, worker: Worker | None = None,
    ) -> None:  # fmt: skip
        self.encoder, self.store, self.relevance = encoder, store, relevance
        self.limits, self.worker = limits or Limits(), worker or Worker()
        self.counts = {name: count for name in (*MODALITIES, FILM) if (count := store.count(modality=name))}

    def warm(self) -> None:
        """Search once, so that no visitor has to wait for what is slow the first time."""

        def work(report: Report, stop: Event) -> bool:
            self._search([Part("text", self.encoder.embed("text", ["warm"])[0])], 1, None)
            return True

        if self.counts and "text" in self.encoder.model.towers:
            for _ in self.worker.run(work, "warm"):
                pass

    def stop(self, session: str) -> bool:
        """Stop a session's search, after the stage at hand; whether there was any."""
        return self.worker.stop(session)

    def close(self) -> None:
        """End the worker's thread, and let go of the store."""
        self.worker.close()
        self.store.close()

    def find(
        self,
        inputs: Sequence[Mapping[str, str | None]],
        *,
        without: str | None = None,
        modality: str | None = None,
        count: int = MOST // 2,
        session: str = "",
        visitor: str | None = None,
    ) -> Iterator[Progress | Finds]:
        """The nearest rows to the sum of all inputs.

        Args:
            inputs: modality -> uploaded file or text, once for each of a kind; None and empty ones are not given.
            without: words that are not meant.
            modality: to find only; None is all.
            count: at most.
            session, visitor: as of :meth:`~bind2gen.studio.Studio.draw`.

        Yields:
            :class:`Progress` while it waits and works, then a :class:`Finds`; nothing more once it was stopped.

        Raises:
            Bind2GenError: an input cannot be used.
        """
        if modality is not None and modality not in tuple(self.counts):  # which may be asked for anything
            kinds = ", ".join(self.counts) or "nothing, the store is empty"
            raise InputError(f"wanted to find {kinds}, got {reprlib.repr(modality)}")
        count = whole("count", count, 1, MOST)
        if not any(str(value).strip() for one in inputs for value in one.values() if value):
            raise InputError("nothing to search by: record or upload a sound, write some words, or upload a picture")

        def work(report: Report, stop: Event) -> Finds | None:
            started = time.perf_counter()
            with visitors_words() as notes:
                report(Progress(0, len(STAGES), doing=STAGES[0]))
                parts = [part for one in inputs for part in self._parts(one, 1.0)]
                unwanted = self._parts({"text": without}, -TAKEN_OUT)
                if stop.is_set():
                    return None
                report(Progress(1, len(STAGES), doing=STAGES[1]))
                hits = self._search(parts + unwanted, count, modality, VARIETY if len(parts) > 1 else 0.0)
            known = [hit.probability for hit in hits if hit.probability is not None]
            nothing = not hits or (len(known) == len(hits) and max(known) < LIKELY)
            return Finds(tuple(map(_found, hits)), nothing, tuple(notes), time.perf_counter() - started)

        yield from self.worker.run(work, session, visitor=visitor)

    # ---- how ----

    def _parts(self, inputs: Mapping[str, str | None], weight: float) -> list[Part]:
        raw = read_inputs(inputs, self.encoder.model, self.encoder.processor, self.limits, None)
        return [Part(name, self.encoder.embed(name, [value])[0], weight) for name, value in raw.items()]

    def _search(self, parts: list[Part], count: int, modality: str | None, diversity: float = 0.0) -> list[Hit]:
        return self.store.search(
            parts, count, modality=modality, adapter=self.encoder.adapter, relevance=self.relevance, diversity=diversity
        )


def _found(hit: Hit) -> Found:
    item = hit.item
    return Found(
        PurePath(item.path).name, item.modality, hit.score, hit.probability, item.start, item.end, item.thumbnail
    )
