"""What travels with a packaged encoder and is made with it: names, words, sounds of nothing, thresholds, examples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar

from ..files.bundled import DETECTOR_PART, ENCODER_PART, concept_of
from ..hosts.boxes.windows import GridProposer
from ..pipelines.calibration import Calibration
from ..pipelines.class_prompts import ClassPrompter
from ..pipelines.detection import (
    CLASSES_FILE,
    NOTHING_FILE,
    OTHERS_FILE,
    SOUNDS_FILE,
    WORDS_FILE,
    ImageBindDetectionPipeline,
)
from ..pipelines.detectors import rescored
from ..pipelines.prompt_inputs import embed_nothing
from ..preprocess.words import split_words
from ..space.adapter import EmbeddingAdapter
from ..space.everyday import NAMES_FILE
from ..space.text_towers import EncoderText
from ..space.vocabulary import EmbedTexts, Vocabulary, embed_names
from .evaluate.whole_photos import load_photos as load_whole_photos
from .evaluate.whole_photos import photo_scores
from .photos import Photos
from .recipe import JUDGED, TEMPLATES
from .sounds import Sounds, load_sounds
from .synthesis import NAMES, SAMPLE_RATE, synthesise
from .texts import Texts

KNOWN_LEFT_OUT = 0.05  # share of sounds of the detector's words, named rightly, that count as none of them
UNKNOWN_WARNED_OF = 0.92  # share of names of other things that are warned of
WRONG_BOXES = 0.05  # share of what is absent that gets a box in rescoring
PHOTOS_OF_A_CONCEPT = 3  # to rescore: 130 windows each
SEEDS = 48  # of each example sound, of which the one is kept that the model is surest of
SCALES = (0.0, 4.0)  # logarithms of 1/temperature, between which the search begins
TEXT_SCALE = "towers.text.log_logit_scale"


def measure(to: Path, texts: Texts, photos: Photos, embeds: torch.Tensor) -> dict[str, float]:
    """Write what depends on the encoder into the pipeline folder ``to``; returns what was measured.

    Args:
        embeds: (N, D) of the photos.
    """
    prompter = _prompter(to)
    words = Vocabulary.from_file(to / DETECTOR_PART / CLASSES_FILE).names
    embed_text = EncoderText(prompter.encoder, prompter.processor)
    Vocabulary(words, embed_names(words, embed_text, templates=TEMPLATES)).save(to / DETECTOR_PART / WORDS_FILE)
    embed_nothing(prompter.encoder, prompter.processor).save(to / DETECTOR_PART / NOTHING_FILE)
    sounds = load_sounds(texts.data)
    save_sounds(to, sounds, embed_text)
    names = Vocabulary(tuple(texts.names), embed_names(texts.names, embed_text, templates=("a {}",)))
    names.save(to / ENCODER_PART / NAMES_FILE, dtype=np.float16)
    scale = set_text_scale(to, prompter, names, photos, embeds)
    prompter = _prompter(to)
    least, least_sound, found = known_prompt(prompter, sounds)
    known, warned = known_text(prompter, texts, photos)
    part = to / DETECTOR_PART
    measured = {"known_prompt": least, "known_sound": least_sound, "known_text": known}
    replace(Calibration.load(part), **measured).save(part)
    rescoring = rescoring_threshold(to, texts.data / "photos")
    Calibration(threshold=rescoring).save(to / ENCODER_PART)
    return {"text_scale": scale, "rescoring": rescoring} | measured | found | warned


def _prompter(to: Path, *more: str) -> ClassPrompter:
    return ImageBindDetectionPipeline.from_pretrained(to, modalities=["audio", "text", *more]).prompter


def save_sounds(to: Path, sounds: Sounds, embed_text: EmbedTexts) -> None:
    """What is known by its sound: concepts that are drawn, or judged; and all else that was trained by its sound.

    Words that are not heard well enough to be known, such as "wolf", are among the others.
    """
    kinds = EmbeddingAdapter.from_pretrained(to / "adapter").config.anchor_names or ()
    known = sorted({*sounds.concepts[sounds.trained]} & {*JUDGED, *kinds})
    others = sorted({*sounds.labels[sounds.trained & ~np.isin(sounds.concepts, known)]} - {"", *known})
    for file, names in ((SOUNDS_FILE, known), (OTHERS_FILE, others)):
        found = Vocabulary.from_texts([str(name) for name in names], embed_text, templates=TEMPLATES)
        found.save(to / DETECTOR_PART / file, dtype=np.float16)


def set_text_scale(to: Path, prompter: ClassPrompter, names: Vocabulary, photos: Photos, embeds: torch.Tensor) -> float:
    """1/temperature of a softmax over all names by which held-out photos are named, written into the weights.

    Photos stand for everything that is named: their labels are the finest.
    """
    places = {name: i for i, name in enumerate(names.names)}
    at = np.array([places.get(label, -1) for label in photos.labels])
    rows = np.flatnonzero(photos.held_out & (at >= 0))
    vectors = prompter.adapter.shift("text", names.vectors)
    cosines, right = (embeds[rows] @ vectors.T).double(), torch.from_numpy(at[rows])
    scale = float(np.exp(minimize_scalar(lambda x: F.cross_entropy(cosines * np.exp(x), right).item(), SCALES).x))
    path = to / ENCODER_PART / "model.safetensors"
    state = load_file(path)
    state[TEXT_SCALE] = torch.tensor(scale).log().to(state[TEXT_SCALE])
    save_file(state, path, metadata={"format": "pt"})
    return scale


def known_prompt(prompter: ClassPrompter, sounds: Sounds) -> tuple[float, float, dict[str, float]]:
    """``Calibration.known_prompt`` and ``known_sound`` by held-out sounds of the words: of those named rightly few lie
    below.
    """
    rows = np.flatnonzero(sounds.held_out & np.isin(sounds.concepts, prompter.vocabulary.names))
    prompts = prompter.class_embeddings(audio=[(sounds.waveforms[i], sounds.sample_rate) for i in rows])
    right = np.array([words[0][0] for words in prompts.words]) == sounds.concepts[rows]
    named, likeness = float(right.mean()), np.array(prompts.likeness)
    least = round(float(np.quantile(likeness[right], KNOWN_LEFT_OUT)), 2)
    below = float((likeness < least).mean())
    known = np.isin(sounds.concepts[rows], prompter.sounds.labels)
    familiar, right = np.array(prompts.familiar)[known], right[known]
    least_sound = round(float(np.quantile(familiar[right], KNOWN_LEFT_OUT)), 2)
    figures = {"sounds_named": named, "sounds_below_known": below}
    return least, least_sound, figures | {"sounds_unfamiliar": float((familiar < least_sound).mean())}


def known_text(prompter: ClassPrompter, texts: Texts, photos: Photos) -> tuple[float, dict[str, float]]:
    """``Calibration.known_text`` by names that share no word with any label of the detector's words."""
    ours = np.isin(photos.concepts, prompter.vocabulary.names)
    labels = sorted({*map(str, photos.labels[ours]), *prompter.vocabulary.names})
    prompter.known_text = None  # that of the encoder before, by which it would warn
    spoken = {word for label in labels for word in split_words(label)}
    others = sorted({name for name in texts.seen_things if name and not spoken & set(split_words(name))})
    found, own = (np.array(prompter.class_embeddings(text=list(part)).likeness) for part in (others, labels))
    least = round(float(np.quantile(found, UNKNOWN_WARNED_OF)), 2)
    return least, {"other_names": len(others), "labels": len(labels), "labels_below_known": float((own < least).mean())}


def rescoring_threshold(to: Path, data: Path) -> float:
    """Score that few boxes of what is absent exceed, where windows are rescored by the encoder."""
    prompter = _prompter(to, "image")
    detection = rescored(
        GridProposer(), prompter.encoder, prompter.processor, adapter=prompter.adapter, nothing=prompter.nothing
    )
    photos = load_whole_photos(data, half=0, limit=PHOTOS_OF_A_CONCEPT)
    words = detection.prompts(text=[f"a {name}" for name in JUDGED])
    scores = photo_scores(detection.detector, photos, {"text": [words] * len(photos)})["text"]
    return round(float(np.quantile(scores.absent, 1 - WRONG_BOXES)), 2)


def examples(to: Path) -> dict[str, int]:
    """Write the synthesised sounds that the model names rightly, each with the seed that it is surest of; the seeds."""
    prompter = _prompter(to)
    least = Calibration.load(to / DETECTOR_PART).known_prompt
    folder, kept = to / "sounds", {}
    folder.mkdir(exist_ok=True)
    for name in (name for name in NAMES if concept_of(name) in prompter.vocabulary.names):
        made = [synthesise(name, seed=seed) for seed in range(SEEDS)]
        prompts = prompter.class_embeddings(audio=[(sound, SAMPLE_RATE) for sound in made])
        sure = [
            likeness if words[0][0] == concept_of(name) and not nothing else -1.0
            for words, likeness, nothing in zip(prompts.words, prompts.likeness, prompts.nothing, strict=True)
        ]
        best = int(np.argmax(sure))
        if sure[best] > least:
            kept[name] = best
            soundfile.write(folder / f"{name}.flac", made[best], SAMPLE_RATE, subtype="PCM_16")
    return kept
