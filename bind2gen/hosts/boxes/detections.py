"""What every detector returns, and what every detector is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from ...errors import InputError
from ...files import forking  # noqa: F401
from .checks import checked_boxes, checked_masks, checked_prompts, checked_size, checked_thresholds, checked_understood
from .formats import FormsMixin


@dataclass(frozen=True, eq=False)
class Detections(FormsMixin):
    """Boxes in one picture, best first. Arrays are brought to the dtypes below and checked.

    Attributes:
        xyxy: (N, 4) float32, left, top, right, bottom in pixels of the picture as it was given.
        scores: (N,) float32 in 0..1.
        prompts: (N,) int64, which class embedding each box answers.
        labels: one name a class embedding; ``labels[prompts[i]]`` is what box i is called.
        image_size: (width, height) of the picture in pixels.
        masks: (N, height, width) bool, or None where the detector has none.
        understood: for each label the words that it was taken for, with their shares (sum 1), where the way from
            prompts to class embeddings went by words; else None. ``found.understood[found.prompts[i]]`` is box i's.

    Raises:
        ShapeError, NonFiniteError, InputError: naming the field, what was wanted and what came.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    prompts: np.ndarray
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    masks: np.ndarray | None = None
    understood: tuple[Mapping[str, float], ...] | None = None

    def __post_init__(self) -> None:
        boxes, scores = checked_boxes(self.xyxy, self.scores, "Detections")
        size = checked_size(self.image_size)
        if (
            isinstance(self.labels, str)
            or not isinstance(self.labels, Sequence)
            or not all(isinstance(label, str) for label in self.labels)
        ):
            raise InputError(f"labels: wanted a tuple of names, got {self.labels!r}")
        for name, value in (
            ("xyxy", boxes),
            ("scores", scores),
            ("prompts", checked_prompts(self.prompts, len(boxes), len(self.labels))),
            ("labels", tuple(self.labels)),
            ("image_size", size),
            ("masks", None if self.masks is None else checked_masks(self.masks, (len(boxes), size[1], size[0]))),
            ("understood", self.understood and checked_understood(self.understood, len(self.labels))),
        ):
            object.__setattr__(self, name, value)  # the way into a frozen dataclass

    @classmethod
    def empty(cls, labels: Sequence[str], image_size: tuple[int, int], *, masks: bool = False) -> Detections:
        """No boxes; with ``masks``, no masks as an array of their shape."""
        none = np.zeros((0, image_size[1], image_size[0]), bool) if masks else None
        return cls(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), tuple(labels), image_size, none)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        pairs = [(getattr(self, f.name), getattr(other, f.name)) for f in dataclasses.fields(self)]
        return all((a is None) == (b is None) and np.array_equal(a, b) for a, b in pairs)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> Detections:
        """Some of the boxes, by number, slice, list of numbers or (N,) bool; always :class:`Detections`."""
        if isinstance(which, int | np.integer):
            if not -len(self) <= which < len(self):  # which also ends a loop over the boxes
                raise IndexError(f"box {which} of {len(self)}")
            which = [which]
        which = which if isinstance(which, slice) else np.asarray(which, None if len(which) else np.int64)
        return dataclasses.replace(
            self,
            xyxy=self.xyxy[which],
            scores=self.scores[which],
            prompts=self.prompts[which],
            masks=None if self.masks is None else self.masks[which],
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What each box is called, one name a box."""
        return tuple(self.labels[prompt] for prompt in self.prompts)

    def above(self, threshold: float | Sequence[float] | torch.Tensor) -> Detections:
        """Boxes that score more than ``threshold``: one number, or one a prompt."""
        return self[self.scores > checked_thresholds(threshold, len(self.labels))[self.prompts]]

    def of(self, prompt: int | str) -> Detections:
        """Boxes of one prompt, by number or label; a label that several prompts share means all of them.

        Raises:
            InputError: there is no such prompt.
        """
        wanted = [i for i, label in enumerate(self.labels) if prompt in (i, label)]
        if not wanted:
            raise InputError(f"wanted a prompt among {', '.join(self.labels) or 'none'}, got {prompt!r}")
        return self[np.isin(self.prompts, wanted)]

    def sorted(self) -> Detections:
        """Best first; equal scores keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def top(self, count: int, *, per_prompt: bool = False) -> Detections:
        """The ``count`` best boxes, best first, of all or of each prompt."""
        ranked = self.sorted()
        if not per_prompt:
            return ranked[:count]
        kept = [np.flatnonzero(ranked.prompts == prompt)[:count] for prompt in range(len(self.labels))]
        return ranked[np.sort(np.concatenate([np.zeros(0, np.int64), *kept]))]


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes that may hold anything at all.

    Attributes:
        xyxy: (N, 4) float32 in pixels of the picture as it was given, best first.
        scores: (N,) float32 in 0..1, how much a box looks like an object.

    Raises:
        ShapeError, NonFiniteError, InputError: naming the field, what was wanted and what came.
    """

    xyxy: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        boxes, scores = checked_boxes(self.xyxy, self.scores, "Proposals")
        object.__setattr__(self, "xyxy", boxes)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.xyxy)


class Proposer(Protocol):
    """Anything that finds boxes without being told what to look for."""

    def encode_image(self, image: Image.Image) -> Any:
        """All that :meth:`propose` needs to know of a picture."""

    def propose(self, encoded: Any, *, max_proposals: int = 256) -> Proposals:
        """Boxes that may hold anything, whatever the prompts."""


class Detector(Proposer, Protocol):
    """A detector whose classes are vectors. A picture is encoded once; prompts are then cheap to change."""

    @property
    def embed_dim(self) -> int:
        """Width D of its class embeddings."""

    def detect(
        self,
        encoded: Any,
        class_embeds: torch.Tensor,
        *,
        labels: tuple[str, ...] | None = None,
        threshold: float | torch.Tensor = 0.5,
        max_detections: int = 300,
        masks: bool = True,
    ) -> Detections:
        """Boxes for the classes (C, D); ``threshold`` is one score or (C,) of them."""
