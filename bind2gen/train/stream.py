"""Pairs as a stream of batches: any step's batch follows from the seed alone, so a run can go on anywhere.

Place ``p`` of the stream is sample ``p`` of endless shuffled passes over the data. Step ``k`` takes the next
``batch_size`` places, each process its part of them, and all that is random about a place comes from ``(seed, p)``. So
neither the number of processes nor of workers, nor a stop in between, changes what is trained on.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import Bind2GenError, Bind2GenWarning, ShapeError, UnreadableError
from ..imagebind.fronts import FRONTS
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..modality import MODALITIES
from ..preprocess.sources import one_line
from .align import Pairs, PairStream
from .pairs import Item, PairSet
from .recipe import Recipe
from .views import Draw, view

NEIGHBOURS = 64  # places before and after, among which a sound to mix under is found: it lies in the same shard
TRIES = 10  # samples tried in place of unreadable ones, for each one that may be: some are met twice
NOTES_SHOWN = 20  # warnings of front ends (silent sounds, assumed cameras) that are passed on
NAMED_AT_MOST = 5  # samples listed in an error


@dataclass(frozen=True)
class Decoded:
    """One decoded pair, (1, *sample) each (None: nothing could be read); what was skipped, what was warned of."""

    input: torch.Tensor | None
    anchor: torch.Tensor | None
    group: int
    skipped: dict[str, str]
    notes: list[str]


class PairDataset(Dataset):
    """Decoded, altered pairs by place in the stream.

    Args:
        pairs: what there is.
        recipe: modality, anchor, augmentation, seed, ``max_unreadable``.
        processor: settings of the front ends.
        shapes: by modality, (*sample) that the towers take.
    """

    def __init__(
        self, pairs: PairSet, recipe: Recipe, processor: ImageBindProcessor, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self.pairs, self.recipe, self.shapes = pairs, recipe, shapes
        self.settings = {name: getattr(processor, name) for name in (recipe.modality, recipe.anchor)}
        self.seed = recipe.schedule.seed
        self._pass = lru_cache(maxsize=2)(self._new_pass)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pass"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._pass = lru_cache(maxsize=2)(self._new_pass)

    def _new_pass(self, number: int) -> np.ndarray:
        return self.pairs.order(np.random.default_rng([self.seed, 0, number]))

    def index_at(self, place: int) -> int:
        """Which pair stands at a place: every pair once in each pass."""
        number, within = divmod(place, len(self.pairs))
        return int(self._pass(number)[within])

    def __getitem__(self, place: int) -> Decoded:
        rng = np.random.default_rng([self.seed, 1, place])
        skipped: dict[str, str] = {}
        for attempt in range(TRIES * (self.recipe.data.max_unreadable + 1)):
            if len(skipped) > self.recipe.data.max_unreadable:
                break
            # In place of a sample that cannot be read comes any other: a rule that needs no word between processes.
            index = int(rng.integers(len(self.pairs))) if attempt else self.index_at(place)
            name = f"sample {index}"
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", Bind2GenWarning)
                    item = self.pairs.read(index)
                    name = item.name
                    input, anchor = self._views(item, place, rng)
            except (Bind2GenError, OSError) as error:
                skipped[name] = one_line(error)
                continue
            notes = [one_line(w.message) for w in caught if issubclass(w.category, Bind2GenWarning)]
            return Decoded(input[None], anchor[None], item.group, skipped, notes)
        return Decoded(None, None, 0, skipped, [])

    def _views(self, item: Item, place: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        recipe, views = self.recipe, []
        crop = partial(np.random.default_rng, [self.seed, 2, place])
        for name, source, altered in (
            (recipe.modality, item.input, recipe.augment.inputs),
            (recipe.anchor, item.anchor, recipe.augment.anchors),
        ):
            settings = self._settings_of(item, name)
            raw = FRONTS[name].load(source, settings, None)
            draw = Draw(rng, crop() if recipe.augment.aligned else rng, partial(self._another, place, rng))
            made = view(name, raw, settings, recipe.augment, draw, altered=altered)
            if tuple(made.shape) != self.shapes[name]:
                raise ShapeError(f"{item.name}: {name} became {tuple(made.shape)}, the tower takes {self.shapes[name]}")
            views.append(made.float() if made.is_floating_point() else made)
        return views[0], views[1]

    def _settings_of(self, item: Item, name: str) -> Any:
        settings = self.settings[name]
        changed = item.settings.get(name)
        return type(settings).from_dict(settings.to_dict() | changed) if changed else settings

    def _another(self, place: int, rng: np.random.Generator) -> Any:
        near = max(0, place + int(rng.integers(-NEIGHBOURS, NEIGHBOURS + 1)))
        item = self.pairs.read(self.index_at(near))
        return FRONTS[self.recipe.modality].load(item.input, self._settings_of(item, self.recipe.modality), None)


class Batches(PairStream):
    """Batches of a :class:`PairDataset` by step, with anchors embedded by a frozen tower.

    Args:
        dataset: decoded pairs.
        model: embeds the anchors, without gradients.
        processes, process: how many take part, and which this is.

    Workers read ahead as long as steps are asked for in order; another step starts them anew.
    """

    def __init__(self, dataset: PairDataset, model: ImageBindModel, *, processes: int = 1, process: int = 0) -> None:
        self.dataset, self.model = dataset, model
        self.processes, self.process = processes, process
        self.limit = dataset.recipe.data.max_unreadable
        self.skipped: dict[str, str] = {}
        self._notes: set[str] = set()
        self._next, self._iterator = -1, iter(())

    def at(self, step: int) -> Pairs:
        if step != self._next:
            self._iterator = iter(self._loader(step))
        samples = next(self._iterator)
        self._next = step + 1
        self._report(samples)
        anchors = torch.stack([s.anchor for s in samples]).to(self.model.device)
        with torch.no_grad():
            embeds = self.model.encode(self.dataset.recipe.anchor, anchors)
        return Pairs(torch.stack([s.input for s in samples]), embeds, torch.tensor([s.group for s in samples]))

    def _loader(self, first: int) -> DataLoader:
        return DataLoader(
            self.dataset,
            batch_sampler=_places(self.dataset.recipe.schedule.batch_size, self.processes, self.process, first),
            num_workers=self.dataset.recipe.data.workers,
            collate_fn=list,
            # Workers get their seeds from here: torch's global generator, whose numbers the towers use, stays as it is.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=_deaf,
        )

    def _report(self, samples: list[Decoded]) -> None:
        """Pass on what happened to samples; stop when too many were unreadable.

        Raises:
            UnreadableError: more than ``max_unreadable`` different samples.
        """
        for name, reason in (pair for sample in samples for pair in sample.skipped.items()):
            if name not in self.skipped:
                self.skipped[name] = reason
                warnings.warn(f"{name}: skipped, it cannot be read ({reason})", Bind2GenWarning, stacklevel=3)
        for note in (note for sample in samples for note in sample.notes):
            if note not in self._notes and len(self._notes) < NOTES_SHOWN:
                self._notes.add(note)
                more = "; further such warnings are not shown" if len(self._notes) == NOTES_SHOWN else ""
                warnings.warn(note + more, Bind2GenWarning, stacklevel=3)
        if len(self.skipped) > self.limit or any(sample.input is None for sample in samples):
            named = "; ".join(f"{name} ({reason})" for name, reason in list(self.skipped.items())[:NAMED_AT_MOST])
            met = len(self.skipped) if len(self.skipped) > self.limit else "no readable one"
            raise UnreadableError(
                f"wanted at most {self.limit} unreadable samples, met {met}: {named}; "
                "mend or remove them, or raise data.max_unreadable"
            )


def _deaf(worker: int) -> None:
    """Terminals and supervisors tell all of a run to stop; its workers end when the loop does, which still needs them.

    Else the loader would fail at the death of one, in the middle of a checkpoint.
    """
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)


def _places(batch: int, processes: int, process: int, first: int) -> Iterator[list[int]]:
    """The places of the stream that a process takes at every step from ``first`` on, for the loader.

    It knows nothing of the :class:`Batches`: in a circle of references the loader's workers would end by time-out.
    """
    part = batch // processes
    for step in count(first):
        start = step * batch + process * part
        yield list(range(start, start + part))


def sample_shapes(model: ImageBindModel, *modalities: str) -> dict[str, tuple[int, ...]]:
    """By modality, (*sample) that a model's towers take."""
    return {name: model.towers[MODALITIES[name].tower].config.input_shape for name in modalities}
