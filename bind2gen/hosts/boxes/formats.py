"""Detections in other people's forms: dicts for JSON and transformers, COCO annotations, supervision's arrays.

Each pair of methods goes there and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...errors import DependencyError, InputError
from .checks import checked_size
from .run_lengths import from_rle, to_rle

if TYPE_CHECKING:
    import supervision

CLASS_NAME = "class_name"  # supervision's key for names


class FormsMixin:
    """What :class:`~bind2gen.hosts.boxes.detections.Detections` becomes elsewhere, and is made of."""

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings for JSON, under the names of transformers' post-processing.

        Keys: ``boxes`` (xyxy), ``scores``, ``labels`` (which prompt), ``text_labels`` (its name), ``prompts`` (all
        names), ``image_size`` (width, height) and, where they are known, ``masks`` as COCO's run lengths and
        ``understood``, the words of each prompt with their shares.
        """
        values: dict[str, Any] = {
            "boxes": self.xyxy.tolist(),
            "scores": self.scores.tolist(),
            "labels": self.prompts.tolist(),
            "text_labels": list(self.names),
            "prompts": list(self.labels),
            "image_size": list(self.image_size),
        }
        if self.masks is not None:
            values["masks"] = [to_rle(mask, compressed=True) for mask in self.masks]
        if self.understood is not None:
            values["understood"] = [dict(words) for words in self.understood]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Back from :meth:`to_dict`."""
        if missing := [key for key in ("boxes", "scores", "labels", "prompts", "image_size") if key not in values]:
            raise InputError(
                f"detections as a dict: wanted the keys of Detections.to_dict, {', '.join(missing)} missing"
            )
        size = checked_size(values["image_size"])
        masks = None if values.get("masks") is None else [from_rle(rle, size) for rle in values["masks"]]
        fields = {
            "xyxy": _boxes(values["boxes"]),
            "scores": _numbers("scores", values["scores"]),
            "prompts": np.array(values["labels"]) if len(values["labels"]) else np.zeros(0, np.int64),
            "labels": tuple(values["prompts"]),
            "image_size": size,
            "masks": None if masks is None else _stacked(masks, size),
            "understood": values.get("understood"),
        }
        return cls(**fields)

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
        categories = _categories(category_ids, len(self.labels))
        annotations = []
        for i, (left, top, right, bottom) in enumerate(self.xyxy.astype(float).tolist()):
            annotation = {
                "id": first_id + i,
                "image_id": image_id,
                "category_id": categories[self.prompts[i]],
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
                "score": float(self.scores[i]),
            }
            if self.masks is not None:
                annotation["segmentation"] = to_rle(self.masks[i], compressed=compressed)
                annotation["area"] = float(self.masks[i].sum())
            annotations.append(annotation)
        return annotations

    @classmethod
    def from_coco(
        cls,
        annotations: Iterable[Mapping[str, Any]],
        *,
        labels: Sequence[str],
        image_size: tuple[int, int],
        category_ids: Sequence[int] | None = None,
    ) -> Self:
        """From COCO annotations of one picture; those without a score (ground truth) get 1.

        Raises:
            InputError: a category that is not among ``category_ids`` (1, 2, 3... where not given), masks as polygons,
                or a mask of another size.
        """
        annotations, image_size = list(annotations), checked_size(image_size)
        categories = _categories(category_ids, len(labels))
        if isinstance(labels, str):
            raise InputError(f"labels: wanted a tuple of names, got {labels!r}")
        if missing := {key for a in annotations for key in ("category_id", "bbox") if key not in a}:
            raise InputError(
                f"COCO annotations: wanted category_id and bbox in each, {', '.join(sorted(missing))} missing"
            )
        if unknown := sorted({a["category_id"] for a in annotations} - set(categories)):
            raise InputError(f"COCO annotations: categories {unknown} are not among the known {categories}")
        if len({a["image_id"] for a in annotations if "image_id" in a}) > 1:
            raise InputError("COCO annotations: wanted those of one picture, got several image_id; sort them out first")
        with_masks = [a for a in annotations if a.get("segmentation") is not None]
        if with_masks and len(with_masks) < len(annotations):
            raise InputError(
                f"COCO annotations: {len(with_masks)} of {len(annotations)} have masks; wanted all or none"
            )
        masks = (
            _stacked([from_rle(a["segmentation"], image_size) for a in with_masks], image_size) if with_masks else None
        )
        boxes = _boxes([a["bbox"] for a in annotations])
        boxes[:, 2:] += boxes[:, :2]
        fields = {
            "xyxy": boxes,
            "scores": _numbers("scores", [a.get("score", 1.0) for a in annotations]),
            "prompts": np.array([categories.index(a["category_id"]) for a in annotations], np.int64),
            "labels": tuple(labels),
            "image_size": image_size,
            "masks": masks,
        }
        return cls(**fields)

    def to_supervision(self, *, track_ids: np.ndarray | None = None) -> supervision.Detections:
        """As ``supervision.Detections``: ``class_id`` is the prompt's number, ``data["class_name"]`` its label.

        Args:
            track_ids: (N,) from :func:`bind2gen.hosts.boxes.tracking.track`.

        Raises:
            DependencyError: supervision is not installed.
        """
        try:
            from supervision import Detections as Theirs
        except ImportError as error:
            raise DependencyError('this form needs supervision: pip install "bind2gen[detection]"') from error
        return Theirs(
            xyxy=self.xyxy.copy(),
            mask=None if self.masks is None else self.masks.copy(),
            confidence=self.scores.copy(),
            class_id=self.prompts.copy(),
            tracker_id=None if track_ids is None else np.asarray(track_ids, np.int64),
            data={CLASS_NAME: np.array(self.names, dtype=np.str_)},
        )

    @classmethod
    def from_supervision(
        cls, found: supervision.Detections, *, image_size: tuple[int, int], labels: Sequence[str] | None = None
    ) -> Self:
        """Back from supervision. Without ``labels`` they are read off ``data["class_name"]``, one for each different
        number and name (merged findings may call several things by one number; those after the first get numbers
        behind all others); boxes without a score get 1, boxes without a class are of prompt 0."""
        prompts = np.zeros(len(found), np.int64) if found.class_id is None else np.asarray(found.class_id, np.int64)
        masks = found.mask
        if labels is None:
            prompts, labels = _named(prompts, found.data.get(CLASS_NAME))
        fields = {
            "xyxy": found.xyxy,
            "scores": np.ones(len(found)) if found.confidence is None else found.confidence,
            "prompts": prompts,
            "labels": tuple(labels),
            "image_size": image_size,
            "masks": None if masks is None else _stacked(list(np.asarray(masks)), image_size),
        }
        return cls(**fields)


def _boxes(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """(N, 4) float64 of N rows of four numbers."""
    if wrong := [row for row in rows if not isinstance(row, Sequence | np.ndarray) or len(row) != 4]:
        raise InputError(f"boxes: wanted four numbers each, got {wrong[0]!r}")
    return _numbers("boxes", rows).reshape(-1, 4)


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: wanted numbers, got something else ({error})") from error


# ---- COCO ----


def _categories(category_ids: Sequence[int] | None, count: int) -> list[int]:
    if category_ids is None:
        return list(range(1, count + 1))  # COCO counts from 1
    if len(category_ids) != count or len(set(category_ids)) != count:
        raise InputError(f"category_ids: wanted {count} different ones, one a prompt, got {list(category_ids)}")
    return list(category_ids)


def _stacked(masks: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    return np.stack(masks) if masks else np.zeros((0, size[1], size[0]), bool)


def _named(prompts: np.ndarray, names: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers and one label for each, up to the highest; numbers that no box has are called by themselves.

    A number keeps the first name that it comes with; each further name of it gets a number of its own behind all.
    """
    names = [str(number) for number in prompts] if names is None else list(map(str, names))
    kinds = dict.fromkeys(zip(prompts.tolist(), names, strict=True))
    first = {number: name for number, name in reversed(kinds)}
    labels = [first.get(number, str(number)) for number in range(max(first, default=-1) + 1)]
    places = {kind: kind[0] for kind in kinds}
    for kind in kinds:
        if first[kind[0]] != kind[1]:
            places[kind] = len(labels)
            labels.append(kind[1])
    numbers = [places[kind] for kind in zip(prompts.tolist(), names, strict=True)]
    return np.array(numbers, np.int64), tuple(labels)
