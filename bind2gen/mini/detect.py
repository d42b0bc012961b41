"""Stage ``detector``: which scenes and class vectors the bundled detector learns from, and how it is judged.

Class vectors lie where the adapter puts embeddings of any modality, near those of images, less the mean image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..evaluate.detection import PromptScores, Truth, average_precision, prompt_scores
from ..files.bundled import DETECTOR_PART, ENCODER_PART
from ..hosts.boxes.detections import Detections
from ..hosts.boxes.detic.detector import DeticDetector
from ..hosts.boxes.detic.model import DeticModel
from ..imagebind.embedding import embed_inputs
from ..imagebind.loading import load_processor
from ..imagebind.model import ImageBindModel
from ..pipelines.calibration import Calibration
from ..pipelines.class_prompts import SAME_SOUND, ClassPrompts
from ..pipelines.detection import CLASSES_FILE, NOTHING_FILE, SCORES_FILE, WORDS_FILE
from ..pipelines.parts import saved_adapter
from ..pipelines.prompt_inputs import embed_nothing
from ..space.adapter import EmbeddingAdapter
from ..space.text_towers import EncoderText
from ..space.vocabulary import Vocabulary, embed_names, mixture, nearest_words
from ..train.loop import LoopConfig
from .data import load_images, split
from .detector import ClassVectors, train_detector
from .evaluate.whole_photos import Photo, PhotoScores, load_photos, photo_scores
from .mosaics import BoxedSet, Mosaics, Scene, boxed, load_frames
from .package import heard_items
from .recipe import JUDGED, TEMPLATES, detector_config
from .sounds import load_sounds
from .texts import Texts

BATCH = 32  # inputs embedded at a time
PHOTOS = 400  # of each concept that give class vectors
JUDGED_SCENES = 240  # while training
JUDGED_SEED = 4
FALSE_ALARMS = 0.15  # share at which recall is told
CALIBRATED_AT = 0.12  # share of false alarms on the calibration scenes: below the limit, since others may differ
WRONG_PHOTOS = 0.15  # share of whole photos that may get a box of what is not there, asked for all words
# Cosine of a text with its nearest word: below it are 92 % of 1,300 names of LVIS and Objects365 without a word of the
# training labels, 93 % of 58 names of our things that are taken for a wrong one, and 37 % of 70 that are taken rightly.
KNOWN_TEXT = 0.85
REPORTED_SCENES, REPORTED_SEEDS = 400, (5, 6)  # to calibrate on, to report on: of one half of what is held out each
LEAST_SCORE = 0.02  # of a box that counts for average precision


def class_vectors(embeds: Mapping[str, torch.Tensor], adapter: EmbeddingAdapter) -> torch.Tensor:
    """(C, D) unit norm of the blended prompts, modality -> (C, D) each: image-like, less the mean image."""
    centre = adapter.means[adapter.known.index("image")]
    blended = adapter(embeds, anchored=False)
    return F.normalize(blended - centre.to(blended), dim=-1)


class MiniDetection:
    """Scenes to learn from and to judge on, and class vectors of both.

    Args:
        host: pipeline folder with the encoder and its adapter.
    """

    def __init__(self, texts: Texts, host: Path) -> None:
        self.texts, self.size = texts, detector_config().short_side
        self.model, self.processor = ImageBindModel.from_pretrained(host / ENCODER_PART).eval(), load_processor(host)
        self.adapter = saved_adapter(host)
        self.embed_text = EncoderText(self.model, self.processor)
        self.images = split(load_images(texts.data / "mini"))
        self.frames = split(load_frames(texts.data / "mini"))

    def scenes(self, part: int, half: int | None = None) -> Mosaics:
        """Part 0: to train on, 1: to judge on; of which ``half`` 0 or 1 takes every second photo and frame."""
        objects, frames = _judged(boxed(self.images[part])), _judged(self.frames[part])
        return Mosaics(_halved(objects, half), _halved(frames, half), self.size)

    def _embed(self, modality: str, items: Sequence[Any]) -> torch.Tensor:
        parts = [list(items[i : i + BATCH]) for i in range(0, len(items), BATCH)]
        return torch.cat([embed_inputs(self.model, self.processor, {modality: part})[modality] for part in parts])

    @torch.no_grad()
    def training_vectors(self) -> ClassVectors:
        """By words, by photos and by altered sounds, all of the training part."""
        photos, concepts = self.images[0], self.images[0].concepts()
        chosen = [np.flatnonzero(concepts == name)[:PHOTOS] for name in JUDGED]
        sounds = heard_items(self.model, self.texts)
        found = {
            "text": [self.embed_text([t.format(name) for t in TEMPLATES]) for name in JUDGED],
            "image": [self._embed("image", [Image.fromarray(p) for p in photos.pixels[rows]]) for rows in chosen],
            "audio": [sounds.embeds[torch.from_numpy(sounds.names == name)] for name in JUDGED],
        }
        moved = {m: [class_vectors({m: v.float()}, self.adapter) for v in vs] for m, vs in found.items()}
        return ClassVectors(JUDGED, moved)

    @torch.no_grad()
    def held_out_vectors(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Class vectors by words (C, D), and those of each concept's held-out sounds (n, D)."""
        sounds, heard = load_sounds(self.texts.data), []
        for name in JUDGED:
            rows = np.flatnonzero(sounds.held_out & (sounds.concepts == name))
            embeds = self._embed("audio", [(sounds.waveforms[i], sounds.sample_rate) for i in rows])
            heard.append(class_vectors({"audio": embeds}, self.adapter))
        return class_vectors({"text": self.words()}, self.adapter), heard

    def words(self) -> torch.Tensor:
        """(C, D) embeddings of the concepts' names."""
        return embed_names(JUDGED, self.embed_text, templates=TEMPLATES)


def _halved(data: BoxedSet, half: int | None) -> BoxedSet:
    return data if half is None else data.take(np.arange(len(data.samples)) % 2 == half)


def _judged(data: BoxedSet) -> BoxedSet:
    return data.take(np.isin(data.concepts(), JUDGED))


class HeldOutScenes:
    """Average precision by words and by sounds, on scenes made of photos and frames that were not trained on."""

    def __init__(
        self,
        detection: MiniDetection,
        count: int = JUDGED_SCENES,
        seed: int = JUDGED_SEED,
        half: int | None = None,
        nothing: torch.Tensor | None = None,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        mosaics = detection.scenes(1, half)
        self.drawn = [mosaics.draw(self.rng) for _ in range(count)]
        self.truths = [truth(scene) for scene in self.drawn]
        self.words, heard = detection.held_out_vectors()
        # One concept has a single held-out sound, which both halves hear then.
        heard = [sounds if half is None or len(sounds) == 1 else sounds[half::2] for sounds in heard]
        # Every scene hears another sound of each concept, by way of the nearest words as users do.
        drawn = [torch.stack([h[self.rng.integers(len(h))] for h in heard]) for _ in self.drawn]
        self.sounds = [mixture(self.words, *nearest_words(sounds, self.words)) for sounds in drawn]
        # Those that are taken for silence or noise get no boxes; ``nothing`` (K, D) are these sounds' directions.
        self.heard = [
            np.ones(len(JUDGED), bool) if nothing is None else ((sounds @ nothing.T).amax(1) <= SAME_SOUND).numpy()
            for sounds in drawn
        ]

    @torch.no_grad()
    def __call__(self, network: DeticModel) -> dict[str, float]:
        """Average precision, and recall where one absent prompt in seven gets a box."""
        scores = {}
        for name, (found, best) in self.found(network).items():
            worth = [f.precision for f in average_precision(found, self.truths, len(JUDGED)) if f.objects]
            threshold = best.threshold_for(FALSE_ALARMS)
            scores[f"{name}_ap50"] = float(np.mean(worth))
            scores[f"{name}_recall"] = best.recall(threshold)
            scores[f"{name}_threshold"] = threshold
        return scores

    @torch.no_grad()
    def found(self, network: DeticModel) -> dict[str, tuple[list[Detections], PromptScores]]:
        """Boxes of every scene and the best scores of its prompts, by words ("text") and by sounds ("audio")."""
        detector = DeticDetector(network)
        encoded = [detector.encode_image(scene.pixels) for scene in self.drawn]
        told = {}
        for name, prompts in (("text", [self.words] * len(encoded)), ("audio", self.sounds)):
            found = [
                detector.detect(e, p, threshold=LEAST_SCORE, one_class_per_proposal=False)
                for e, p in zip(encoded, prompts, strict=True)
            ]
            if name == "audio":
                found = [boxes[heard[boxes.prompts]] for boxes, heard in zip(found, self.heard, strict=True)]
            told[name] = (found, prompt_scores(found, self.truths, len(JUDGED)))
        return told


def truth(scene: Scene) -> Truth:
    """Classes by their place in :data:`~bind2gen.mini.recipe.JUDGED`."""
    return Truth(scene.boxes, np.array([JUDGED.index(name) for name in scene.concepts], int))


def _on_photos(network: DeticModel, photos: Sequence[Photo], words: ClassPrompts) -> PhotoScores | None:
    if not photos:
        return None
    return photo_scores(DeticDetector(network), photos, {"text": [words] * len(photos)})["text"]


@torch.no_grad()
def package_detector(detection: MiniDetection, network: DeticModel, folder: Path) -> None:
    """Save the trained network in half precision with its words, its calibration and what it is worth.

    The threshold comes from one half of the whole photos, where there are some, else from scenes of one half of the
    held-out photos, frames and sounds; the scores come from the other halves.
    """
    DeticDetector(network.half()).save_pretrained(folder)
    words = detection.words()
    Vocabulary(JUDGED, words).save(folder / WORDS_FILE)
    Vocabulary(JUDGED, class_vectors({"text": words}, detection.adapter)).save(folder / CLASSES_FILE)
    nothing = embed_nothing(detection.model, detection.processor)
    nothing.save(folder / NOTHING_FILE)
    silent = class_vectors({"audio": nothing.vectors}, detection.adapter)
    network.float().eval()
    calibrated, reported = (
        HeldOutScenes(detection, REPORTED_SCENES, seed, half, silent) for half, seed in enumerate(REPORTED_SEEDS)
    )
    asked = ClassPrompts(reported.words, JUDGED, "words")
    whole = [_on_photos(network, load_photos(detection.texts.data / "photos", half=half), asked) for half in (0, 1)]
    threshold = (
        whole[0].threshold_for(WRONG_PHOTOS)
        if whole[0]
        else calibrated.found(network)["audio"][1].threshold_for(CALIBRATED_AT)
    )
    Calibration(threshold=threshold, known_text=KNOWN_TEXT).save(folder)
    missed = float(np.mean([~heard for heard in reported.heard]))
    scores = {"scenes": len(reported.drawn), "threshold": threshold, "sounds_taken_for_nothing": missed}
    if whole[1]:
        scores["whole_photos"] = {"text": whole[1].at(threshold)}
    for name, (found, best) in reported.found(network).items():
        by_concept = dict(zip(JUDGED, average_precision(found, reported.truths, len(JUDGED)), strict=True))
        scores[name] = {
            "ap50": float(np.mean([f.precision for f in by_concept.values() if f.objects])),
            "false_alarms": best.false_alarms(threshold),
            "recall": best.recall(threshold),
            "ap50_by_concept": {concept: f.precision for concept, f in by_concept.items() if f.objects},
        }
    (folder / SCORES_FILE).write_text(json.dumps(scores, indent=1) + "\n")


def run_detector(texts: Texts, folder: Path, config: LoopConfig, host: Path) -> None:
    """Train the detector and leave it in ``folder/detector``, for ``package --host folder``."""
    detection = MiniDetection(texts, host)
    judge, vectors = HeldOutScenes(detection), detection.training_vectors()
    network = train_detector(detector_config(), detection.scenes(0), vectors, config, folder, evaluate=judge)
    package_detector(detection, network.cpu(), folder / DETECTOR_PART)
