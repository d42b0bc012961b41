"""Training image and text towers together, and embedding what they know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..imagebind.model import ImageBindModel
from ..preprocess.audio import AudioSettings, Waveform, transform
from .augment import Mixed, augment_photos, cut_and_paste, erase_patches
from .contrastive import gathered, info_nce, shares, zero_shot_accuracy
from .data import AudioSet, ImageSet
from .loop import LoopConfig, train

Tokenize = Callable[[list[str]], torch.Tensor]
SHARED_CONCEPT = 0.5  # probability that a caption names the concept ("dog"), not the finer label ("Chihuahua")

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
    return normalised(torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255)


def normalised(unit: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in 0..1 -> (N, 1, 3, H, W) as the vision tower takes it."""
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


def caption_matches(concepts: torch.Tensor, labels: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """(N, N) bool: caption j, which names ``named[j]``, is true of photo i. All are (N,) numbers of names."""
    return (concepts[:, None] == named[None]) | (labels[:, None] == named[None])


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


class Captioned:
    """Photos with captions made of their labels: what the image and text towers learn from, and are judged on."""

    def __init__(self, images: ImageSet, judged_on: ImageSet, tokenize: Tokenize, templates: tuple[str, ...]) -> None:
        self.images, self.judged_on, self.tokenize, self.templates = images, judged_on, tokenize, templates
        self.concepts = images.concepts()
        self.labels = np.array([s.row.get("label") or s.concept for s in images.samples])
        self.weights = balanced_weights(self.labels)
        self.numbers = {name: i for i, name in enumerate(sorted({*self.concepts, *self.labels}))}
        self.known = sorted(set(self.concepts))
        self.targets = torch.tensor([self.known.index(c) for c in judged_on.concepts()])

    def loss(
        self, model: ImageBindModel, mixed: Mixed, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, dict[str, float]]:
        """InfoNCE of the chosen photos, altered, and fresh captions of them.

        A photo that holds a part of another one belongs to both captions, to each by the share of its area.
        """
        texts, names = captions(self.images, chosen, self.templates, rng)
        named = self._numbers(names)

        def true_of(photos: np.ndarray) -> torch.Tensor:
            matches = caption_matches(self._numbers(self.concepts[photos]), self._numbers(self.labels[photos]), named)
            return shares(matches.float())

        own = gathered(torch.from_numpy(mixed.own).float())[:, None]
        matches = own * true_of(chosen) + (1 - own) * true_of(chosen[mixed.partner])
        image_embeds = gathered(model.encode("image", normalised(mixed.values)))
        text_embeds = gathered(model.encode("text", self.tokenize(texts)[:, None]))
        scale = model.logit_scale("text")
        return info_nce(image_embeds, text_embeds, scale, matches), {"logit_scale": scale.item()}

    def _numbers(self, names: np.ndarray) -> torch.Tensor:
        return gathered(torch.tensor([self.numbers[name] for name in names]))

    def evaluate(self, judged: ImageBindModel) -> dict[str, float]:
        """Zero-shot accuracy on held-out photos."""
        classes = embed_names(judged, self.tokenize, self.known, self.templates)
        photos = embed_photos(judged, self.judged_on.pixels)
        return {"image_to_text_top1": zero_shot_accuracy(photos, classes, self.targets)}


def altered_photos(images: ImageSet, chosen: np.ndarray, rng: np.random.Generator) -> Mixed:
    """Augmented photos, (N, 3, H, W) in 0..1, some of them with a part of another one."""
    unit = torch.from_numpy(images.pixels[chosen]).permute(0, 3, 1, 2).float() / 255
    return cut_and_paste(erase_patches(augment_photos(unit, rng), rng), rng)


def train_image_text(model: ImageBindModel, data: Captioned, config: LoopConfig, folder: Path) -> ImageBindModel:
    """Vision and text towers together."""

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        chosen = rng.choice(len(data.weights), config.batch_size, p=data.weights)
        return data.loss(model, altered_photos(data.images, chosen, rng), chosen, rng)

    return train(model, step_loss, config, folder, evaluate=data.evaluate, evaluate_every=400)


@torch.no_grad()
def embed_sounds(model: ImageBindModel, sounds: AudioSet, settings: AudioSettings) -> torch.Tensor:
    """(N, D) unit norm, with the clips that the settings' policy cuts."""
    embeds = []
    for waveform in sounds.waveforms:
        clips = transform(Waveform(torch.from_numpy(waveform)[None], sounds.sample_rate), settings)
        embeds.append(model.encode("audio", clips[None]))
    return torch.cat(embeds)


def rank_one(queries: torch.Tensor, gallery: torch.Tensor, wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of queries (N, D) whose nearest gallery item (M, D) is of the wanted concept."""
    nearest = (queries @ gallery.T).argmax(1).cpu().numpy()
    return float((found[nearest] == wanted).mean())
