"""Stage ``detector``: the bundled detector's words, what it learns from, when it draws no box, what it is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from ..files.bundled import DETECTOR_PART, ENCODER_PART
from ..hosts.boxes.yolo.detector import YoloDetector
from ..hosts.boxes.yolo.network import YoloModel
from ..imagebind.loading import load_processor
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..pipelines.calibration import Calibration
from ..pipelines.class_vectors import ClassPrompts
from ..pipelines.detection import CLASSES_FILE, NOTHING_FILE, SCORES_FILE, WORDS_FILE
from ..pipelines.parts import saved_adapter
from ..pipelines.prompt_inputs import embed_nothing
from ..space.adapter import EmbeddingAdapter
from ..space.everyday import NAMES_FILE
from ..space.text_towers import EncoderText
from ..space.vocabulary import Vocabulary, embed_names
from ..train.loop import LoopConfig
from .detector import begin, train_detector
from .detector_lessons import Lessons, lessons, shown
from .detector_words import Words, evening, taught
from .evaluate.whole_photos import load_photos, photo_scores
from .recipe import JUDGED, TEMPLATES
from .teachers import yolo_tiny
from .texts import Texts

LESSONS_FILE = "lessons.safetensors"
WRONG_PHOTOS = 0.2  # share of whole photos that may get a box of what is not there, asked for all judged concepts
STEPS = 64  # 34 dB; the file of 18 MB then packs to half


def class_vectors(embeds: Mapping[str, torch.Tensor], adapter: EmbeddingAdapter) -> torch.Tensor:
    """(C, D) unit norm of the blended prompts, modality -> (C, D) each: image-like, less the mean image."""
    centre = adapter.means[adapter.known.index("image")]
    blended = adapter(embeds, anchored=False)
    return F.normalize(blended - centre.to(blended), dim=-1)


@torch.no_grad()
def seen_directions(
    model: ImageBindModel, processor: ImageBindProcessor, adapter: EmbeddingAdapter, crops: list[Image.Image]
) -> torch.Tensor:
    """(n, D) unit norm: what the image tower sees in pictures."""
    seen = model.encode("image", processor(images=crops, device=model.device)["pixel_values"])
    return class_vectors({"image": seen.float()}, adapter)


@torch.no_grad()
def rounded(network: YoloModel) -> YoloModel:
    """Half precision; kernels in even steps of a power of two, at least :data:`STEPS` up to a channel's largest."""
    for part in network.parameters():
        if part.ndim == 4 and part.shape[-1] > 1:
            largest = part.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
            step = 2.0 ** (largest / STEPS).log2().floor()
            part.copy_((part / step).round() * step)
    return network.half()


def measured(detector: YoloDetector, data: Path, asked: ClassPrompts) -> tuple[float, dict[str, dict[str, float]]]:
    """The threshold by one half of the whole photos that are held out, and by the other half what it does."""
    halves = [load_photos(data / "photos", half=half) for half in (0, 1)]
    found = [photo_scores(detector, half, {"text": [asked] * len(half)})["text"] for half in halves]
    threshold = round(found[0].threshold_for(WRONG_PHOTOS), 3)
    return threshold, {"whole_photos": {"text": found[1].at(threshold)}}


@torch.no_grad()
def package_detector(
    network: YoloModel, words: Words, embeds: torch.Tensor, nothing: Vocabulary, data: Path, folder: Path
) -> None:
    """Save the trained network with its words, its calibration and what it was measured to find.

    Args:
        embeds: (W, D) the encoder's of the words.
        nothing: the encoder's of sounds that no thing makes.
    """
    YoloDetector(rounded(network)).save_pretrained(folder)
    classes = Vocabulary(words.names, words.classes(words.directions))
    classes.save(folder / CLASSES_FILE)
    Vocabulary(words.names, embeds).save(folder / WORDS_FILE)
    nothing.save(folder / NOTHING_FILE)
    asked = ClassPrompts(classes.subset(JUDGED).vectors, JUDGED, "words")
    threshold, scores = measured(YoloDetector.from_pretrained(folder), data, asked)
    Calibration(threshold=threshold).save(folder)
    (folder / SCORES_FILE).write_text(json.dumps(scores, indent=1) + "\n")


def run_detector(texts: Texts, folder: Path, config: LoopConfig, host: Path) -> None:
    """Train the detector and leave it in ``folder/detector``, for ``package --host folder``.

    Args:
        host: pipeline folder with the encoder and its adapter.
    """
    model, processor = ImageBindModel.from_pretrained(host / ENCODER_PART).eval(), load_processor(host)
    adapter = saved_adapter(host)
    network = YoloModel().eval()
    coco = yolo_tiny(texts.teachers, network)
    names = taught(texts.data, coco)
    embeds = embed_names(names, EncoderText(model, processor), templates=TEMPLATES)
    many = Vocabulary.from_file(host / ENCODER_PART / NAMES_FILE).vectors.float()
    matrix = evening(class_vectors({"text": many}, adapter))
    words = Words.of(names, class_vectors({"text": embeds}, adapter), coco, matrix)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / LESSONS_FILE).is_file():
        embed = partial(seen_directions, model, processor, adapter)
        lessons(network, shown(texts.data), words, embed).save(folder / LESSONS_FILE)
    torch.manual_seed(config.seed)
    begin(network, words)
    train_detector(network, words, Lessons.load(folder / LESSONS_FILE), config, folder)
    nothing = embed_nothing(model, processor)
    package_detector(network.cpu(), words, embeds, nothing, texts.data, folder / DETECTOR_PART)
