"""A detector on whole photographs: is what is there found, and does it keep silent about what is not?

Most photos have the name of what they show and no boxes, so answers are counted by photo and prompt: the best score of
any box. Where every thing has its box, it is counted how many of the drawn ones are right.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...evaluate.detection import Truth, right_boxes
from ...hosts.boxes.detections import Detections, Detector
from ...pipelines.calibration import Calibration
from ...pipelines.class_vectors import ClassPrompts
from ...pipelines.detection import ImageBindDetectionPipeline
from ...preprocess.image import upright
from ..data import AudioSet, ImageSet, held_out, read_members, read_rows
from ..recipe import JUDGED
from .drawing import with_rate
from .verdicts import auroc

NAME = "photos"  # of the csv and the tar
AKIN = {"rooster": "bird"}  # on such a photo the second is neither there nor absent
LEAST_SCORE = 0.02  # of a box that counts
SOUNDS_SEED = 7


@dataclass(frozen=True)
class Photo:
    """A photo as it is stored, the concept that it shows ("" for none of ours) and its boxes, None if not known."""

    file: bytes
    concept: str
    truth: Truth | None


def load_photos(folder: Path, *, half: int | None = None, limit: int | None = None) -> list[Photo]:
    """Those held out of ``photos.csv`` (path, concept, boxed, boxes) beside ``photos.tar``; none without such a csv.

    Args:
        half: 0 to set a threshold on, 1 to report; default is all.
        limit: photos of each concept.

    Raises:
        InputError: the csv lacks columns.
    """
    if not (folder / f"{NAME}.csv").is_file():
        return []
    members, found = read_members(folder / f"{NAME}.tar"), []
    counts: Counter[str] = Counter()
    rows = read_rows(folder / f"{NAME}.csv")
    away = held_out(ImageSet(np.zeros(0), rows))  # the detector learned from the others
    for sample in (row for row, kept in zip(rows, away, strict=True) if kept):
        if half not in (None, zlib.crc32(sample.path.encode()) % 2) or counts[sample.concept] == limit:
            continue
        counts[sample.concept] += 1
        found.append(Photo(members[sample.path], sample.concept, _truth(sample.row)))
    return found


def _truth(row: Mapping[str, str]) -> Truth | None:
    if row.get("boxed") != "1":
        return None
    ours = [row for row in json.loads(row["boxes"]) if row[0] in JUDGED]
    corners = np.array([row[1:] for row in ours], np.float32).reshape(-1, 4)
    return Truth(corners, np.array([JUDGED.index(row[0]) for row in ours], int))


@dataclass(frozen=True)
class PhotoScores:
    """Best scores of prompts, all concepts asked of every photo at once.

    Attributes:
        present, absent: of each photo and prompt, whose concept the photo shows or does not.
        wrong: (photos,) the best of the absent ones of each photo.
        boxed: (N,) scores of all boxes on photos whose boxes are known, and whether each is right (N,) bool.
    """

    present: np.ndarray
    absent: np.ndarray
    wrong: np.ndarray
    boxed: tuple[np.ndarray, np.ndarray]

    def threshold_for(self, share: float) -> float:
        """The least threshold at which at most that share of photos get a box of what is not there."""
        return float(np.quantile(self.wrong, 1 - share, method="higher"))

    def auroc(self) -> float:
        """How often the prompt of something present scores more than one of something absent, 0..1."""
        return auroc(self.present, self.absent)

    def at(self, threshold: float) -> dict[str, float]:
        """What a threshold does, as shares 0..1 and counts."""
        scores, right = self.boxed
        return {
            "photos": len(self.wrong),
            "threshold": threshold,
            "auroc": self.auroc(),
            "found": float((self.present > threshold).mean()),
            "false_alarms": float((self.absent > threshold).mean()),
            "photos_with_a_wrong_box": float((self.wrong > threshold).mean()),
            "boxes_on_boxed_photos": int((scores > threshold).sum()),
            "of_these_right": int((right & (scores > threshold)).sum()),
        }


class _Tally:
    """Best scores, photo after photo."""

    def __init__(self) -> None:
        self.present, self.absent, self.wrong = [], [], []
        self.scores, self.right = [np.zeros(0)], [np.zeros(0, bool)]

    def add(self, photo: Photo, found: Detections) -> None:
        best = np.array([found.scores[found.prompts == k].max(initial=0) for k in range(len(JUDGED))])
        is_there = np.array([name == photo.concept for name in JUDGED])
        is_absent = ~is_there & np.array([name != AKIN.get(photo.concept) for name in JUDGED])
        self.present.append(best[is_there])
        self.absent.append(best[is_absent])
        self.wrong.append(best[is_absent].max())
        if photo.truth is not None:
            self.scores.append(found.scores)
            self.right.append(_right(found, photo.truth))

    def scored(self) -> PhotoScores:
        present, absent, scores, right = map(np.concatenate, (self.present, self.absent, self.scores, self.right))
        return PhotoScores(present, absent, np.array(self.wrong), (scores, right))


@torch.no_grad()
def photo_scores(
    detector: Detector, photos: Sequence[Photo], asked: Mapping[str, Sequence[ClassPrompts]]
) -> dict[str, PhotoScores]:
    """Ask every photo for every concept, in one or several ways, such as by words and by sounds.

    Args:
        asked: way -> prompts, one a photo: the concepts of :data:`JUDGED` in their order.
    """
    all_boxes = Calibration(threshold=LEAST_SCORE)
    tallies = {way: _Tally() for way in asked}
    for i, photo in enumerate(photos):
        encoded = detector.encode_image(upright(photo.file))
        for way, prompts in asked.items():
            tallies[way].add(photo, all_boxes.detect(detector, encoded, prompts[i], masks=False))
    return {way: tally.scored() for way, tally in tallies.items()}


def judge_photos(
    detection: ImageBindDetectionPipeline, photos: Sequence[Photo], sounds: AudioSet
) -> dict[str, dict[str, float]]:
    """What a pipeline's own threshold does on photos, asked by words ("text") and by sounds ("audio")."""
    words = detection.prompts(text=[f"a {name}" for name in JUDGED])
    kept = sounds.take(np.isin(sounds.concepts(), JUDGED))
    clips = detection.prompts(audio=with_rate(kept))
    asked = {"text": [words] * len(photos), "audio": heard(clips, kept.concepts(), len(photos))}
    found = photo_scores(detection.detector, photos, asked)
    return {way: scores.at(detection.calibration.threshold) for way, scores in found.items()}


def _right(found: Detections, truth: Truth) -> np.ndarray:
    """(N,) bool, each box against the things of its own concept."""
    right = np.zeros(len(found), bool)
    for k in range(len(JUDGED)):
        mine = found.prompts == k
        right[mine] = right_boxes(found.xyxy[mine], found.scores[mine], truth.boxes[truth.classes == k])
    return right


def heard(sounds: ClassPrompts, concepts: np.ndarray, photos: int) -> list[ClassPrompts]:
    """For every photo another sound of each concept.

    Args:
        sounds: class vectors of all sounds.
        concepts: (N,) what each is of; every one of :data:`JUDGED` has one.
    """
    rng, told = np.random.default_rng(SOUNDS_SEED), []
    for _ in range(photos):
        rows = [int(rng.choice(np.flatnonzero(concepts == name))) for name in JUDGED]
        nothing = tuple(sounds.nothing[row] for row in rows) if sounds.nothing else ()
        told.append(ClassPrompts(sounds.embeds[rows], JUDGED, sounds.route, nothing=nothing))
    return told
