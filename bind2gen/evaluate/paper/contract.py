"""What a reader of a published set gives, and how it says that a folder is not that set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, UnreadableError, did_you_mean
from ...files.endings import FILMS, SOUNDS

Watch = Callable[[Sequence[Any], str], Iterable[Any]]  # of things that take time, and what is done: a bar, or nothing
SHOWN = 6  # names in a message
SEED = 0  # of a quick look


def unwatched(things: Sequence[Any], what: str) -> Iterable[Any]:
    """No bar."""
    return things


@dataclass(frozen=True)
class Item:
    """One thing that is to be named.

    Attributes:
        name: for messages.
        labels: what it is; several where the set has several.
        load: what the processor takes, read when it is called.
        group: fold, sensor or place that it is from.
        photo: the same for the picture of the same thing, where there is one.
    """

    name: str
    labels: tuple[str, ...]
    load: Callable[[], Any]
    group: str = ""
    photo: Callable[[], Any] | None = None


@dataclass(frozen=True)
class PublishedSet:
    """What a reader found.

    Attributes:
        classes: label -> its names; of several the nearest one counts.
        items: the part that is tested.
        training: the part that few-shot examples are drawn from.
        pairs: things with photos of them, for retrieval.
        folds: groups are folds: what is learnt for one is drawn from the others.
        notes: one line each of what is not there, or was left out.
    """

    classes: Mapping[str, tuple[str, ...]]
    items: Sequence[Item]
    training: Sequence[Item] = ()
    pairs: Sequence[Item] = ()
    folds: bool = False
    notes: tuple[str, ...] = ()

    def narrowed(self, groups: Sequence[str] = (), limit: int | None = None) -> PublishedSet:
        """These groups alone are tested, and of them ``limit`` by chance, the same ones each time.

        Raises:
            InputError: there is no such group.
        """
        there = sorted({item.group for item in self.items})
        if unknown := [group for group in groups if group not in there]:
            known = ", ".join(filter(None, there)) or "none, for this set has no groups"
            raise InputError(f"group {unknown[0]}: wanted one of {known}{did_you_mean(unknown[0], there)}")
        return replace(self, items=_some(self.items, groups, limit), pairs=_some(self.pairs, groups, limit))


def _some(items: Sequence[Item], groups: Sequence[str], limit: int | None) -> Sequence[Item]:
    kept = [item for item in items if not groups or item.group in groups]
    if limit is None or limit >= len(kept):
        return kept
    return [kept[i] for i in sorted(np.random.default_rng(SEED).permutation(len(kept))[:limit])]


def names_of(labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Labels as their own names, underscores as blanks."""
    return {label: (label.replace("_", " "),) for label in labels}


def found(folder: Path, places: Sequence[str], layout: str) -> Path:
    """The first of ``places`` that is there, relative to the folder.

    Raises:
        UnreadableError: none is; says what was wanted and what there is.
    """
    for place in places:
        if (path := folder / place).exists():
            return path
    there = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
    raise UnreadableError(f"{folder}: wanted {layout}; {places[0]} is missing, found {shown or 'an empty folder'}")


def missing(names: Sequence[str], total: int, what: str) -> tuple[str, ...]:
    """A note of what is not there, or none."""
    if not names:
        return ()
    return (f"{len(names):,} of {total:,} {what} are missing, the first is {names[0]}",)


def filled(items: Sequence[Item], folder: Path, layout: str, notes: Sequence[str]) -> Sequence[Item]:
    """The items, of which there must be one.

    Raises:
        UnreadableError: there is none.
    """
    if not items:
        raise UnreadableError(
            f"{folder}: wanted {layout}; nothing to test ({'; '.join(notes) or 'its lists are empty'})"
        )
    return items


def sounds_in(folder: Path) -> dict[str, Path]:
    """Sound files, and films for their sound, in the folder and in those in it, by name without ending."""
    return {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (*SOUNDS, *FILMS)}
