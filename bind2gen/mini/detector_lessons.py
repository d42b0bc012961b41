"""What the bundled detector learns from: the regions that YOLO finds in whole photos, and what is in them.

Photos say what they show, not where (Detic's image labels, arXiv 2201.02605): the label goes to the largest likely
region, or to the next one where the image tower sees the label there rather. Of COCO's 80 names a region keeps what
YOLO answers, except those that the label rules out; frames of videos have boxes.
"""

from __future__ import annotations

import io
import json
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.ops import box_iou, clip_boxes_to_image

from ..files.atomic import written_whole
from ..hosts.boxes.rescoring import crop_box
from ..hosts.boxes.yolo.detector import lettered
from ..hosts.boxes.yolo.network import Regions, YoloConfig, YoloModel
from .data import ImageSet, Sample, held_out, read_files
from .detector_words import KNOWN_AS, Words
from .evaluate.labels import plain

logger = logging.getLogger(__name__)

# At most so many photos of one concept, and of the 64-pixel ones those of what has no larger ones.
PHOTOS = {"dog": 260, "cat": 200, "insect": 400, "bird": 330, "airplane": 120, "clock": 120, "car": 80}
SMALL_OF, SMALL = frozenset({
    "frog", "sea", "police van", "keyboard", "sheep", "cow", "train", "pig", "helicopter", "fire", "rain",
}), 120  # fmt: skip
FRAMES = 110  # of each concept
SIDES = (288, 416)  # pixels of the longer side: photos are small, users' are not
SMALL_SIDE = 256
SMALLEST = 0.002  # share of a picture; smaller regions count as this large when the largest is chosen
RIVAL = 0.25  # of the chosen region's likelihood: another one of so much is looked at, too
BETTER = 0.1  # by which the image tower must prefer the other one, in cosine
SAME, NEAR = 0.6, 0.15  # overlap with the chosen region from which another is the thing; between them it is left open
BOXED, BESIDE = 0.5, 0.2  # the same where boxes are known
CROPS, MARGIN = 48, 0.1  # crops embedded at a time; margin as of rescoring
# Of a photo few regions, but unlikely ones too: what YOLO was not taught looks like nothing to it.
FEW = {"objectness": 0.002, "proposal_iou": 0.6, "proposals": 12}
Embed = Callable[[list[Image.Image]], torch.Tensor]


@dataclass(frozen=True)
class Lessons:
    """N regions of many pictures, one after the other; floats in half precision but for the first and the last two.

    Attributes:
        objectness: (N,) YOLO's logits.
        answers, context: (N, answers) and (N, K), see :class:`~bind2gen.hosts.boxes.yolo.network.Regions`.
        wanted: (N, W) 0..1, whether each word is right; (N, W) ``open`` says where that is not known.
        seen: (N, D) unit-norm direction of what the image tower sees in the region; zeros where it did not look.
        thing: (N,) wanted objectness in 0..1, below 0 where it is not known.
        weight: (N,) of a region in the loss of its words.
    """

    objectness: torch.Tensor
    answers: torch.Tensor
    context: torch.Tensor
    wanted: torch.Tensor
    open: torch.Tensor
    seen: torch.Tensor
    thing: torch.Tensor
    weight: torch.Tensor

    def __len__(self) -> int:
        return len(self.objectness)

    def take(self, rows: torch.Tensor) -> Lessons:
        return Lessons(*(getattr(self, field.name)[rows] for field in fields(self)))

    def save(self, path: Path) -> None:
        with written_whole(path) as temporary:
            save_file({field.name: getattr(self, field.name).contiguous() for field in fields(self)}, temporary)

    @classmethod
    def load(cls, path: Path) -> Lessons:
        return cls(**load_file(path))

    @classmethod
    def joined(cls, parts: Sequence[Lessons]) -> Lessons:
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))


@dataclass(frozen=True)
class Shown:
    """A whole picture.

    Attributes:
        words: for what it shows; none where that is not known, and YOLO's answers are all that is to be kept.
        boxes: (n, 4) xyxy of it, if known.
        side: pixels that its longer side is brought to.
    """

    picture: Image.Image
    words: tuple[str, ...]
    boxes: np.ndarray | None
    side: int


def shown(data: Path) -> Iterator[Shown]:
    """Every picture of the training part, in an order that follows from the paths; a tenth is held out."""
    rng, counts = np.random.default_rng(0), Counter()
    for sample, file in _trained(data / "photos", "photos"):
        counts[sample.concept] += bool(sample.concept)
        if counts[sample.concept] <= PHOTOS.get(sample.concept, len(file)):
            boxes = json.loads(sample.row["boxes"]) if sample.row.get("boxed") == "1" else []
            corners = np.array([box[1:] for box in boxes if box[0] == sample.concept], np.float32)
            yield Shown(_opened(file), _said(sample), corners if len(corners) else None, int(rng.choice(SIDES)))
    for sample, file in _trained(data / "mini", "images"):
        counts["small", sample.concept] += 1
        if sample.concept in SMALL_OF and counts["small", sample.concept] <= SMALL:
            yield Shown(_opened(file), _said(sample), None, SMALL_SIDE)
    for sample, file in _trained(data / "mini", "frames"):
        counts["frames", sample.concept] += sample.row["modality"] == "image"
        if sample.row["modality"] == "image" and counts["frames", sample.concept] <= FRAMES:
            box = np.array([[sample.row[k] for k in ("x0", "y0", "x1", "y1")]], np.float32)
            yield Shown(_opened(file), (sample.concept,), box, SIDES[-1])
    for path in sorted((data / "scenes").glob("*.jpg")):
        yield Shown(_opened(path.read_bytes()), (), None, SIDES[-1])


def _trained(folder: Path, name: str) -> Iterator[tuple[Sample, bytes]]:
    """Rows of the training part with their files, shuffled by their path."""
    files = read_files(folder, name)
    away = held_out(ImageSet(np.zeros(0), [row for row, _ in files]))
    kept = [pair for pair, is_away in zip(files, away, strict=True) if not is_away]
    yield from sorted(kept, key=lambda pair: zlib.crc32(pair[0].path.encode()[::-1]))


def _opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def _said(sample: Sample) -> tuple[str, ...]:
    """The concept and the finer label, as the detector's words have them."""
    label = plain(sample.row["label"])
    return tuple({sample.concept, KNOWN_AS.get(label, label)} - {""})


@torch.no_grad()
def lessons(network: YoloModel, pictures: Iterator[Shown], words: Words, embed: Embed) -> Lessons:
    """Regions of all pictures with what is wanted of them.

    Args:
        network: with YOLO's weights; its config becomes the default one.
        embed: crops to unit-norm directions (n, D) in the space of the words' directions.
    """
    parts, pending = [], []
    for count, one in enumerate(pictures, 1):
        network.config = replace(YoloConfig(), **FEW) if one.words else YoloConfig()
        pixels, factor, corner = lettered(one.picture, one.side)
        (found,) = network.regions(pixels.to(network.device, network.bias.dtype))
        if len(found.boxes):
            boxes = (found.boxes - torch.tensor(corner * 2)) / factor
            pending.append((one, found, clip_boxes_to_image(boxes, one.picture.size[::-1])))
        if len(pending) == CROPS:
            parts += _looked_at(pending, words, embed)
            pending = []
        if count % 500 == 0:
            logger.info("detector: %d pictures looked at", count)
    network.config = YoloConfig()
    return Lessons.joined(parts + _looked_at(pending, words, embed))


def _looked_at(pending: list[tuple[Shown, Regions, torch.Tensor]], words: Words, embed: Embed) -> list[Lessons]:
    crops, chosen = [], []
    for one, found, boxes in pending:
        chosen.append(likeliest(boxes, found.objectness, one.picture.size) if one.words else [])
        crops += [one.picture.crop(crop_box(boxes[row].tolist(), one.picture.size, MARGIN, True)) for row in chosen[-1]]
    width = words.directions.shape[1]
    directions = (embed(crops) if crops else torch.zeros(0, width)).split([len(rows) for rows in chosen])
    return [
        lesson(found, boxes, one, rows, seen, words)
        for (one, found, boxes), rows, seen in zip(pending, chosen, directions, strict=True)
    ]


def likeliest(boxes: torch.Tensor, objectness: torch.Tensor, size: tuple[int, int]) -> list[int]:
    """The largest likely region of (N, 4), (N,) logits, and the likeliest elsewhere if it is nearly as likely."""
    share = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1).prod(1) / (size[0] * size[1])
    likely = objectness.sigmoid() * share.clamp(min=SMALLEST).sqrt()
    first = int(likely.argmax())
    elsewhere = objectness.sigmoid() * (box_iou(boxes, boxes[first : first + 1])[:, 0] < 0.5)
    other = int(elsewhere.argmax())
    return [first, other] if elsewhere[other] > 0 and likely[other] > RIVAL * likely[first] else [first]


def lesson(
    found: Regions, boxes: torch.Tensor, one: Shown, rows: Sequence[int], seen: torch.Tensor, words: Words
) -> Lessons:
    """What is wanted of the regions of one picture.

    Args:
        boxes: (N, 4) of the regions in pixels of the picture.
        rows, seen: regions that the image tower looked at, and their directions (n, D).
    """
    likely = found.objectness.sigmoid()
    wanted = torch.zeros(len(boxes), len(words))
    wanted[:, words.answered] = found.answers.float().sigmoid()
    unknown, thing, weight = torch.zeros_like(wanted, dtype=torch.bool), likely.clone(), (3 * likely).clamp(0.1, 1)
    if one.words:
        label = [words.names.index(name) for name in one.words if name in words.names]
        hit, near = _hit(boxes, one, rows, seen @ words.directions[label].mean(0) if label else None)
        if label:
            _label(words, label, hit, near, wanted, unknown)
            if set(label) - set(words.answered):
                thing[hit], thing[near] = 1.0, -1.0
        else:  # a thing without a word of ours: less sure of any of them
            wanted[hit] *= 0.5
        weight[hit] = 2.0 if label else 0.5
    looked = torch.zeros(len(boxes), seen.shape[1])
    looked[list(rows)] = seen
    halves = (part.half() for part in (found.answers, found.context, wanted))
    return Lessons(found.objectness, *halves, unknown, looked.half(), thing, weight)


def _label(
    words: Words, label: list[int], hit: torch.Tensor, near: torch.Tensor, wanted: torch.Tensor, unknown: torch.Tensor
) -> None:
    """Put the label into ``wanted`` and ``unknown`` (N, W). Of COCO's names YOLO knows better where they are."""
    new = [k for k in label if k not in words.answered]
    right = wanted[:, label].clone()
    wanted[hit] = 0.0
    wanted[:, label] = right
    is_new, akin = torch.zeros(len(words), dtype=torch.bool), words.akin[label].any(0)
    is_new[new], akin[label] = True, False
    wanted[hit[:, None] & is_new] = 1.0
    unknown[hit] |= akin
    unknown[near] |= akin | is_new


def _hit(
    boxes: torch.Tensor, one: Shown, rows: Sequence[int], like: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) bool twice: regions that are the thing, and those that may be part of it."""
    if one.boxes is not None:
        overlap = box_iou(boxes, torch.from_numpy(one.boxes)).amax(1)
        hit = overlap > BOXED
        return hit, (overlap > BESIDE) & ~hit
    first = rows[0]
    if like is not None and int(like.argmax()) and like.max() > like[0] + BETTER:
        first = rows[int(like.argmax())]
    overlap = box_iou(boxes, boxes[first : first + 1])[:, 0]
    hit = overlap > SAME
    return hit, (overlap > NEAR) & ~hit
