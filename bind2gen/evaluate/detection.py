"""How well prompts find their objects: average precision, and how often a box is drawn of what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.ops import box_iou

from ..hosts.boxes.detections import Detections

IOU = 0.5  # overlap from which a box is right


@dataclass(frozen=True)
class Truth:
    """What is on one picture: boxes (n, 4) xyxy in pixels, and each one's class (n,) as a row of the prompts."""

    boxes: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Found:
    """What one class's boxes are worth, over all pictures.

    Attributes:
        precision: average precision at :data:`IOU`, 0..1; NaN if there was nothing to find.
        objects: how many there were to find.
    """

    precision: float
    objects: int


def average_precision(found: Sequence[Detections], truths: Sequence[Truth], classes: int) -> list[Found]:
    """Area under precision over recall of each class, boxes of all pictures ranked together (PASCAL VOC 2010's).

    Every object is found once: further boxes on it are wrong.
    """
    return [_one_class(found, truths, k) for k in range(classes)]


def _one_class(found: Sequence[Detections], truths: Sequence[Truth], k: int) -> Found:
    scores, right, objects = [], [], 0
    for detections, truth in zip(found, truths, strict=True):
        mine, there = detections.prompts == k, truth.boxes[truth.classes == k]
        objects += len(there)
        scores.append(detections.scores[mine])
        right.append(right_boxes(detections.xyxy[mine], detections.scores[mine], there))
    if not objects:
        return Found(float("nan"), 0)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(right)[order].cumsum()
    recall, precision = hits / objects, hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # the best precision at this recall or a higher one
    steps = np.diff(recall, prepend=0.0)
    return Found(float((steps * envelope).sum()), objects)


def right_boxes(boxes: np.ndarray, scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N,) bool: best first, each box takes the object that it overlaps most, if that one is still free."""
    right = np.zeros(len(boxes), bool)
    if not len(there) or not len(boxes):
        return right
    overlap = box_iou(torch.from_numpy(boxes).float(), torch.from_numpy(there).float()).numpy()
    taken = np.zeros(len(there), bool)
    for i in np.argsort(-scores, kind="stable"):
        best = int(overlap[i].argmax())
        if overlap[i, best] >= IOU and not taken[best]:
            right[i] = taken[best] = True
    return right


@dataclass(frozen=True)
class PromptScores:
    """Of every picture and prompt: the best score of any box.

    Attributes:
        present: best scores of prompts whose object is there, and counted only if the box is on it (0 if none is).
        absent: best scores of prompts whose object is not there.
    """

    present: np.ndarray
    absent: np.ndarray

    def false_alarms(self, threshold: float) -> float:
        """Share of absent prompts that get a box."""
        return float((self.absent > threshold).mean())

    def recall(self, threshold: float) -> float:
        """Share of present prompts that get a box on one of their objects."""
        return float((self.present > threshold).mean())

    def threshold_for(self, false_alarms: float) -> float:
        """The least threshold with at most that share of false alarms."""
        return float(np.quantile(self.absent, 1 - false_alarms, method="higher"))


def prompt_scores(found: Sequence[Detections], truths: Sequence[Truth], classes: int) -> PromptScores:
    """Best scores with and without an object to find."""
    present, absent = [], []
    for detections, truth in zip(found, truths, strict=True):
        for k in range(classes):
            mine, there = detections.prompts == k, truth.boxes[truth.classes == k]
            scores = detections.scores[mine]
            if len(there):
                scores = scores[right_boxes(detections.xyxy[mine], scores, there)]
            (present if len(there) else absent).append(scores.max(initial=0.0))
    return PromptScores(np.array(present), np.array(absent))
