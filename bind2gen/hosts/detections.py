"""What every detector returns, and what every detector is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image

from ..errors import InputError, NonFiniteError, ShapeError
from . import detection_formats as formats

if TYPE_CHECKING:
    import supervision

ROUNDING = 1e-5  # by which a score may leave 0..1


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes in one picture, best first. Arrays are brought to the dtypes below and checked.

    Attributes:
        xyxy: (N, 4) float32, left, top, right, bottom in pixels of the picture as it was given.
        scores: (N,) float32 in 0..1.
        prompts: (N,) int64, which class embedding each box answers.
        labels: one name a class embedding; ``labels[prompts[i]]`` is what box i is called.
        image_size: (width, height) of the picture in pixels.
        masks: (N, height, width) bool, or None where the detector has none.

    Raises:
        ShapeError, NonFiniteError, InputError: naming the field, what was wanted and what came.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    prompts: np.ndarray
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes, scores = _checked_boxes(self.xyxy, self.scores, "Detections")
        size = _checked_size(self.image_size)
        if (
            isinstance(self.labels, str)
            or not isinstance(self.labels, Sequence)
            or not all(isinstance(label, str) for label in self.labels)
        ):
            raise InputError(f"labels: wanted a tuple of names, got {self.labels!r}")
        for name, value in (
            ("xyxy", boxes),
            ("scores", scores),
            ("prompts", _checked_prompts(self.prompts, len(boxes), len(self.labels))),
            ("labels", tuple(self.labels)),
            ("image_size", size),
            ("masks", None if self.masks is None else _checked_masks(self.masks, (len(boxes), size[1], size[0]))),
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

    # ---- other people's forms ----

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings for JSON, under the names of transformers' post-processing.

        Keys: ``boxes`` (xyxy), ``scores``, ``labels`` (which prompt), ``text_labels`` (its name), ``prompts`` (all
        names), ``image_size`` (width, height) and, where there are masks, ``masks`` as COCO's run lengths.
        """
        return formats.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Detections:
        """Back from :meth:`to_dict`."""
        return cls(**formats.fields_from_dict(values))

    def to_coco(
        self,
        *,
        image_id: int = 1,
        category_ids: Sequence[int] | None = None,
        first_id: int = 1,
        compressed: bool = False,
    ) -> list[dict[str, Any]]:
        """COCO annotations: ``bbox`` as left, top, width, height; masks as run lengths.

        Args:
            category_ids: one a prompt; 1, 2, 3... where not given.
            first_id: of the annotations.
            compressed: write run lengths as COCO's short strings, not as lists.
        """
        return formats.to_coco(
            self, image_id=image_id, category_ids=category_ids, first_id=first_id, compressed=compressed
        )

    @classmethod
    def from_coco(
        cls,
        annotations: Iterable[Mapping[str, Any]],
        *,
        labels: Sequence[str],
        image_size: tuple[int, int],
        category_ids: Sequence[int] | None = None,
    ) -> Detections:
        """From COCO annotations of one picture; those without a score (ground truth) get 1.

        Raises:
            InputError: a category that is not among ``category_ids`` (1, 2, 3... where not given), masks as polygons,
                or a mask of another size.
        """
        return cls(
            **formats.fields_from_coco(annotations, labels=labels, image_size=image_size, category_ids=category_ids)
        )

    def to_supervision(self, *, track_ids: np.ndarray | None = None) -> supervision.Detections:
        """As ``supervision.Detections``: ``class_id`` is the prompt's number, ``data["class_name"]`` its label.

        Args:
            track_ids: (N,) from :func:`bind2gen.hosts.tracking.track`.

        Raises:
            DependencyError: supervision is not installed.
        """
        return formats.to_supervision(self, track_ids=track_ids)

    @classmethod
    def from_supervision(
        cls, found: supervision.Detections, *, image_size: tuple[int, int], labels: Sequence[str] | None = None
    ) -> Detections:
        """Back from supervision. Without ``labels`` they are read off ``data["class_name"]``; boxes without a score
        get 1, boxes without a class are of prompt 0."""
        return cls(**formats.fields_from_supervision(found, image_size=image_size, labels=labels))


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
        boxes, scores = _checked_boxes(self.xyxy, self.scores, "Proposals")
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


# ---- checks ----


def checked_thresholds(threshold: float | Sequence[float] | torch.Tensor, count: int) -> np.ndarray:
    """One score for each of ``count`` prompts, (C,) float32, from one number or one a prompt.

    Raises:
        ShapeError: another number of them.
        NonFiniteError: NaN or infinite.
        InputError: not numbers.
    """
    try:
        values = np.asarray(threshold.detach().cpu() if isinstance(threshold, torch.Tensor) else threshold, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"threshold: wanted one number or {count} (one a prompt), got {threshold!r}") from error
    if values.shape not in ((), (count,)):
        raise ShapeError(f"threshold: wanted one number or {count} (one a prompt), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise NonFiniteError("threshold: holds NaN or infinite values")
    return np.broadcast_to(values, (count,))


def _checked_boxes(xyxy: Any, scores: Any, owner: str) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = np.asarray(xyxy, np.float32), np.asarray(scores, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(f"{owner}.xyxy: wanted boxes (N, 4), got shape {boxes.shape}")
    if scores.shape != (len(boxes),):
        raise ShapeError(f"{owner}.scores: wanted {len(boxes)}, one a box, got shape {scores.shape}")
    for name, values in (("xyxy", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise NonFiniteError(f"{owner}.{name}: holds NaN or infinite values")
    if (turned := (boxes[:, 2:] < boxes[:, :2]).any(1)).any():
        first = boxes[turned][0].tolist()
        raise InputError(f"{owner}.xyxy: wanted left, top, right, bottom, got {first}; is it left, top, width, height?")
    if len(scores) and not (scores.min() >= -ROUNDING and scores.max() <= 1 + ROUNDING):
        raise InputError(f"{owner}.scores: wanted 0..1, got {scores.min():g}..{scores.max():g}")
    return boxes, scores.clip(0, 1)


def _checked_prompts(prompts: Any, boxes: int, labels: int) -> np.ndarray:
    prompts = np.asarray(prompts)
    if prompts.shape != (boxes,):
        raise ShapeError(f"Detections.prompts: wanted {boxes}, one a box, got shape {prompts.shape}")
    if boxes and prompts.dtype.kind not in "iu":
        raise ShapeError(f"Detections.prompts: wanted whole numbers, got dtype {prompts.dtype}")
    if boxes and not (prompts.min() >= 0 and prompts.max() < labels):
        raise InputError(f"Detections.prompts: wanted 0..{labels - 1}, got {prompts.min()}..{prompts.max()}")
    return prompts.astype(np.int64)


def _checked_size(size: Any) -> tuple[int, int]:
    if not isinstance(size, Sequence) or len(size) != 2 or not all(map(_is_side, size)):
        raise InputError(f"image_size: wanted (width, height) in whole pixels above zero, got {size!r}")
    return int(size[0]), int(size[1])


def _is_side(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value > 0


def _checked_masks(masks: Any, shape: tuple[int, int, int]) -> np.ndarray:
    masks = np.asarray(masks)
    if masks.shape != shape:
        raise ShapeError(f"Detections.masks: wanted (boxes, height, width) {shape}, got {masks.shape}")
    if masks.dtype != bool and (masks.dtype.kind not in "iu" or (masks.size and masks.max() > 1)):
        raise ShapeError(f"Detections.masks: wanted bool, or whole numbers 0 and 1, got dtype {masks.dtype}")
    return masks.astype(bool, copy=False)
