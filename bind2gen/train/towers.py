"""Training the towers: image and text together, then every other modality against frozen images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..imagebind.model import ImageBindModel
from ..preprocess.audio import AudioSettings, Waveform, log_mel, transform
from .augment import augment_photos, augment_sounds, crop_sounds, erase_patches, mask_spectrogram
from .contrastive import info_nce, train_only, zero_shot_accuracy
from .data import AudioSet, ImageSet
from .loop import LoopConfig, train

Tokenize = Callable[[list[str]], torch.Tensor]
SHARED_CONCEPT = 0.5  # probability that a caption names the concept ("dog"), not the finer label ("Chihuahua")
BACKGROUNDS = 16  # sounds of no concept that a batch's clips are mixed with
AUDIO_TEMPERATURE = 0.05  # ImageBind paper, table 9

# Mean and deviation of CLIP's image preprocessing, per RGB channel in 0..1.
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def balanced_weights(concepts: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Sampling probabilities that lift rare concepts: each item count ** (power - 1). Background ('') gets none."""
    names, inverse, counts = np.unique(concepts, return_inverse=True, return_counts=True)
    weights = (counts.astype(float) ** (power - 1))[inverse]
    weights[concepts == ""] = 0
    return weights / weights.sum()


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(N, H, W, 3) uint8 at the model's size -> (N, 1, 3, H, W) as the vision tower takes it."""
    unit = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    return ((unit - CLIP_MEAN) / CLIP_STD)[:, None]


def captions(
    images: ImageSet, chosen: np.ndarray, templates: tuple[str, ...], rng: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """A caption for each chosen photo, and the name in it: its concept or its finer label."""
    names = []
    for i in chosen:
        sample = images.samples[i]
        label = sample.row.get("label") or sample.concept
        names.append(sample.concept if rng.random() < SHARED_CONCEPT else label)
    return [templates[rng.integers(len(templates))].format(name) for name in names], np.array(names)


def caption_matches(concepts: np.ndarray, labels: np.ndarray, names: np.ndarray) -> torch.Tensor:
    """(N, N) bool: caption j, which names ``names[j]``, is true of photo i."""
    return torch.from_numpy((concepts[:, None] == names[None]) | (labels[:, None] == names[None]))


def embed_photos(model: ImageBindModel, pixels: np.ndarray, batch_size: int = 256) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, D) unit norm, without augmentation."""
    parts = [model.encode("image", pixel_values(pixels[i : i + batch_size])) for i in range(0, len(pixels), batch_size)]
    return torch.cat(parts)


def embed_names(
    model: ImageBindModel, tokenize: Tokenize, names: list[str], templates: tuple[str, ...]
) -> torch.Tensor:
    """Class embeddings: the mean over templates of each name's captions, (C, D) unit norm."""
    ids = torch.stack([tokenize([template.format(name) for template in templates]) for name in names])  # (C, S, T)
    return model.encode("text", ids)


def train_image_text(
    model: ImageBindModel,
    images: ImageSet,
    judged_on: ImageSet,
    tokenize: Tokenize,
    templates: tuple[str, ...],
    config: LoopConfig,
    folder: Path,
) -> ImageBindModel:
    """Vision and text towers together, photos against captions made of their labels."""
    concepts = images.concepts()
    labels = np.array([s.row.get("label") or s.concept for s in images.samples])
    weights = balanced_weights(labels)

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = rng.choice(len(weights), config.batch_size, p=weights)
        unit = torch.from_numpy(images.pixels[chosen]).permute(0, 3, 1, 2).float() / 255
        unit = erase_patches(augment_photos(unit, rng), rng)
        texts, names = captions(images, chosen, templates, rng)
        image_embeds = model.encode("image", ((unit - CLIP_MEAN) / CLIP_STD)[:, None])
        text_embeds = model.encode("text", tokenize(texts)[:, None])
        matches = caption_matches(concepts[chosen], labels[chosen], names)
        scale = model.logit_scale("text")
        return info_nce(image_embeds, text_embeds, scale, matches), {"logit_scale": scale.item()}

    known = sorted(set(concepts))
    targets = torch.tensor([known.index(c) for c in judged_on.concepts()])

    def evaluate(judged: ImageBindModel) -> dict[str, float]:
        classes = embed_names(judged, tokenize, known, templates)
        return {"image_to_text_top1": zero_shot_accuracy(embed_photos(judged, judged_on.pixels), classes, targets)}

    return train(model, step_loss, config, folder, evaluate=evaluate, evaluate_every=400)


@torch.no_grad()
def embed_sounds(model: ImageBindModel, sounds: AudioSet, settings: AudioSettings) -> torch.Tensor:
    """(N, D) unit norm, with the clips that the settings' policy cuts."""
    embeds = []
    for waveform in sounds.waveforms:
        clips = transform(Waveform(torch.from_numpy(waveform)[None], sounds.sample_rate), settings)
        embeds.append(model.encode("audio", clips[None]))
    return torch.cat(embeds)


def altered_mel(
    waveforms: list[np.ndarray], background: list[np.ndarray], settings: AudioSettings, rng: np.random.Generator
) -> torch.Tensor:
    """One augmented clip of each waveform, with background sounds mixed in: (N, 1, mel bins, frames)."""
    clips = crop_sounds(waveforms, settings.clip_samples, rng)
    chosen = rng.integers(len(background), size=BACKGROUNDS)
    noises = crop_sounds([background[i] for i in chosen], settings.clip_samples, rng)
    return log_mel(torch.from_numpy(augment_sounds(clips, rng, background=noises)), settings)


@torch.no_grad()
def embed_altered(
    model: ImageBindModel, sounds: AudioSet, background: AudioSet, settings: AudioSettings, seed: int
) -> torch.Tensor:
    """(N, D) unit norm, of one augmented clip of each sound."""
    rng = np.random.default_rng([seed, 1])
    embeds = []
    for start in range(0, len(sounds.waveforms), 64):
        mel = altered_mel(sounds.waveforms[start : start + 64], background.waveforms, settings, rng)
        embeds.append(model.encode("audio", mel[:, None]))
    return torch.cat(embeds)


def rank_one(queries: torch.Tensor, gallery: torch.Tensor, wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of queries (N, D) whose nearest gallery item (M, D) is of the wanted concept."""
    nearest = (queries @ gallery.T).argmax(1).cpu().numpy()
    return float((found[nearest] == wanted).mean())


def train_audio(
    model: ImageBindModel,
    sounds: AudioSet,
    judged_on: AudioSet,
    images: ImageSet,
    judged_images: ImageSet,
    class_embeds: dict[str, torch.Tensor],
    settings: AudioSettings,
    config: LoopConfig,
    folder: Path,
) -> ImageBindModel:
    """The audio tower against frozen image embeddings: each sound is paired with a random photo of its concept.

    No text is used here. ``class_embeds`` (concept -> (D,)) only measures what emerges: audio to text.
    """
    model.requires_grad_(False)
    model.towers["audio"].requires_grad_(True)
    model.eval()
    with torch.no_grad():
        photo_embeds = embed_photos(model, images.pixels)
        gallery = embed_photos(model, judged_images.pixels)
    photos_of = {c: np.flatnonzero(images.concepts() == c) for c in set(images.concepts())}
    concepts = sounds.concepts()
    weights = balanced_weights(concepts)
    background = [w for w, c in zip(sounds.waveforms, concepts, strict=True) if c == ""]

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        train_only(model, model, "audio")
        chosen = rng.choice(len(weights), config.batch_size, p=weights)
        mel = altered_mel([sounds.waveforms[i] for i in chosen], background, settings, rng)
        mel = mask_spectrogram(mel, rng)
        audio_embeds = model.encode("audio", mel[:, None])
        photos = np.array([rng.choice(photos_of[concepts[i]]) for i in chosen])
        matches = torch.from_numpy(concepts[chosen][:, None] == concepts[chosen][None])
        return info_nce(audio_embeds, photo_embeds[photos], 1 / AUDIO_TEMPERATURE, matches), {}

    heard = judged_on.take(np.isin(judged_on.concepts(), list(class_embeds)))
    names = list(class_embeds)
    targets = torch.tensor([names.index(c) for c in heard.concepts()])
    classes = torch.stack([class_embeds[name] for name in names])

    def evaluate(judged: ImageBindModel) -> dict[str, float]:
        embeds = embed_sounds(judged, heard, settings)
        retrieval = rank_one(embeds, gallery, heard.concepts(), judged_images.concepts())
        return {"audio_to_text_top1": zero_shot_accuracy(embeds, classes, targets), "audio_to_image_r1": retrieval}

    return train(model, step_loss, config, folder, evaluate=evaluate, evaluate_every=300)
