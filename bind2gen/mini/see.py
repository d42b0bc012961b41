"""Stage ``see``: an image tower that begins with EfficientNet-Lite0 and learns to meet the words of stage ``read``.

The network stays as it is; what is trained is the end of it, the transformer behind it and the head, on its features
of the photos as they are and altered, which are computed once. The tower begins as the network's own classifier over
the names' embeddings (starts.py), and is kept near it on photos of all kinds, so that it goes on to see what no label
of ours names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from ..errors import InputError
from ..files.atomic import written_whole
from ..imagebind.config import ImageBindConfig, TowerConfig
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..imagebind.tower import Tower
from ..preprocess.image import ImageSettings, normalize
from ..space.text_towers import EncoderText
from ..space.vocabulary import EmbedTexts, embed_names
from ..train.augment import augment_photos
from ..train.loop import LoopConfig, half_precision, train
from .evaluate.labels import photo_verdicts
from .evaluate.verdicts import auroc
from .figures import keep
from .photos import Photos, load_photos
from .read import read_model, text_settings
from .recipe import EMBED_DIM, JUDGED, TEMPLATES
from .starts import after_attention, begin_as_classifier
from .teachers import LITE0_MEAN, LITE0_STD, lite0
from .texts import Texts
from .towers import balanced_weights

MODEL = "imagebind"  # folder of the finished towers, for ImageBindModel.from_pretrained and the processor
IMAGE_SIZE = 176  # pixels
NETWORK = "tf_efficientnet_lite0"
WIDTH = 384  # of the transformer: its MLP holds the classifier's thousand names and as much again for ours
SCALED_BY = 512  # photos by which the tower's start is scaled
BATCH = 32  # photos at once through the network
SHARPNESS = 20.0  # 1/temperature of the classifications in training
TEACHER_TEMPERATURE = 4.0  # of its posteriors: the likeness of kinds is in their tails
KNOWN_FROM = 4  # photos of a label, from which it is learnt as such
# Weights: of the labels; of staying near the names that the teacher sees in the same photos, and in those of all kinds;
# of telling its thousand names apart as it does.
LABELS, OWN, OTHERS, NAMED = 0.5, 1.0, 5.0, 1.0
WANTED = {
    "concepts_first": 0.90,
    "labels_first": 0.85,
    "left_out_first": 0.60,
    "none_auroc": 0.85,
}


def image_tower() -> TowerConfig:
    return TowerConfig(
        WIDTH, 1, 6, "network", (3, IMAGE_SIZE, IMAGE_SIZE), network=NETWORK, bias_kv=False, drop_path=0.1,
        head_dropout=0.1,
    )  # fmt: skip


def image_settings() -> ImageSettings:
    return ImageSettings(size=IMAGE_SIZE, mean=(LITE0_MEAN,) * 3, std=(LITE0_STD,) * 3)


class Tail(nn.Module):
    """The end of the network, from its last blocks' features on: takes the network's place while they are cached."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.conv_head, self.bn2 = network.conv_head, network.bn2

    def forward_features(self, features: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv_head(features))


class End(nn.Module):
    """What follows the attention in a tower of one block: takes the tower's place while the class token is cached."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        (self.block,), self.head = tower.blocks, tower.head

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, width) class tokens as attention left them -> (N, D) unit norm."""
        rows = self.block.mlp(self.block.norm2(rows), rows, self.block.drop_path)
        return F.normalize(self.head(rows), dim=-1)


def features_of(network: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) normalised -> what :class:`Tail` takes."""
    return network.blocks(network.bn1(network.conv_stem(values)))


class Seen:
    """Photos as the frozen network sees them.

    Args:
        photos: to train on and to judge on.
        teacher: EfficientNet-Lite0 with its classifier.
        folder: where the features are kept; an interrupted run goes on from them.
        copies: of each training photo: one as it is, the others altered.
    """

    def __init__(self, photos: Photos, teacher: nn.Module, folder: Path, copies: int) -> None:
        self.photos, self.teacher, self.folder = photos, teacher, folder
        everything = [self._copy(number) for number in range(copies)]
        self.features = [part["features"] for part in everything]  # each (N, 320, 6, 6) half precision
        self.logits = [part["logits"] for part in everything]  # each (N, 1000)

    @torch.inference_mode()
    def _copy(self, number: int) -> dict[str, torch.Tensor]:
        """Features and ImageNet logits of every photo as it is (0), or of the trained ones altered; zeros elsewhere."""
        path = self.folder / f"features_{number}.safetensors"
        if path.is_file():
            return load_file(path)
        rows = np.flatnonzero(self.photos.trained) if number else np.arange(len(self.photos))
        rng, settings, tail = np.random.default_rng([7, number]), image_settings(), Tail(self.teacher)
        network = self.teacher.to(memory_format=torch.channels_last)
        side = -(-IMAGE_SIZE // 32)
        found = torch.zeros(len(self.photos), network.conv_head.in_channels, side, side, dtype=torch.float16)
        logits = torch.zeros(len(self.photos), 1000, dtype=torch.float16)
        for start in tqdm(range(0, len(rows), BATCH), desc=f"features {number}"):
            part = rows[start : start + BATCH]
            unit = self.photos.unit(part, settings)
            unit = augment_photos(unit, rng) if number else unit
            values = normalize(unit, settings.mean, settings.std).contiguous(memory_format=torch.channels_last)
            with half_precision():
                seen = features_of(network, values)
                logits[part] = network.forward_head(tail.forward_features(seen)).half()
            found[part] = seen.half()
        with written_whole(path) as temporary:
            save_file({"features": found, "logits": logits}, temporary)
        return {"features": found, "logits": logits}


class Meeting:
    """Photos that are to meet the words: those of their labels, without leaving those that the teacher sees in them.

    Args:
        seen: the photos.
        embed_text: the text tower of stage ``read``, frozen.
        imagenet: the thousand names of the teacher, in its order.
    """

    def __init__(self, seen: Seen, embed_text: EmbedTexts, imagenet: list[str]) -> None:
        self.seen, self.features, photos = seen, seen.features, seen.photos
        self.rows = np.flatnonzero(photos.trained)
        labels, numbers, counts = np.unique(photos.labels[self.rows], return_inverse=True, return_counts=True)
        known = np.isin(photos.labels[self.rows], labels[counts >= KNOWN_FROM])
        self.likely = balanced_weights(np.where(known, photos.labels[self.rows], ""))
        self.widely = 1 / counts[numbers] / len(labels)
        named = sorted(set(photos.labels[self.rows]) | set(photos.concepts[self.rows]) - {""})
        every = sorted({*named, *photos.judged_labels, *JUDGED})
        self.vectors = dict(zip(every, embed_names(every, embed_text, templates=TEMPLATES), strict=True))
        self.imagenet = embed_names(imagenet, embed_text, templates=TEMPLATES)
        self.named = torch.stack([self.vectors[name] for name in named])
        places = {name: i for i, name in enumerate(named)}
        self.label_at = torch.tensor([places.get(label, -1) for label in photos.labels])
        concepts = np.where(photos.concepts == "", photos.labels, photos.concepts)
        self.concept_at = torch.tensor([places.get(concept, -1) for concept in concepts])

    def direction(self, logits: torch.Tensor) -> torch.Tensor:
        """(N, 1000) of the teacher -> (N, D): the names it sees, by how much it sees them."""
        return F.normalize((logits.float() / TEACHER_TEMPERATURE).softmax(1) @ self.imagenet, dim=-1)

    def loss(self, tower: nn.Module, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """Of a batch of so many photos: half of well-known labels, half of all kinds alike, to keep what they mean."""
        rows = np.concatenate([rng.choice(self.rows, count // 2, p=p) for p in (self.likely, self.widely)])
        copy, known = rng.integers(len(self.features)), slice(count // 2)
        at = next(tower.parameters()).device
        found = tower(self.features[copy][rows].float().to(at))
        answers = SHARPNESS * found[known] @ self.named.T.to(at)
        true = (part[rows[known]].to(at) for part in (self.label_at, self.concept_at))
        labels = sum(F.cross_entropy(answers, names) for names in true) / 2
        logits = self.seen.logits[copy][rows].float().to(at)
        turned = 1 - (found * self.direction(logits).to(at)).sum(1)
        own, others = turned[known].mean(), turned[count // 2 :].mean()
        named = F.kl_div(
            (SHARPNESS * found @ self.imagenet.T.to(at)).log_softmax(1), logits.softmax(1), reduction="batchmean"
        )
        parts = {"labels": labels.item(), "own": own.item(), "others": others.item(), "named": named.item()}
        return LABELS * labels + OWN * own + OTHERS * others + NAMED * named, parts

    # ---- judging ----

    def embed(self, tower: nn.Module, rows: np.ndarray) -> torch.Tensor:
        """(n, D) of photos as they are."""
        at, parts = next(tower.parameters()).device, np.array_split(rows, len(rows) // 128 + 1)
        return torch.cat([tower(self.features[0][part].float().to(at)).float().cpu() for part in parts])

    def figures(self, tower: nn.Module) -> dict[str, float]:
        """Every figure of :data:`WANTED` and what it is made of, of the trained tower."""
        rows = self.seen.photos.judged_rows()
        return self.judge(rows, self.embed(tower, rows))

    def floor(self) -> dict[str, float]:
        """The same with nothing trained: the teacher's posteriors times the names."""
        rows = self.seen.photos.judged_rows()
        return self.judge(rows, self.direction(self.seen.logits[0][rows]))

    def judge(self, rows: np.ndarray, embeds: torch.Tensor) -> dict[str, float]:
        photos, figures = self.seen.photos, {}
        names = photos.judged_labels, photos.left_out_labels
        found, ours, none = photo_verdicts(photos.take(rows), embeds, self.vectors, *names)
        for name, answers in found.items():
            figures |= answers.figures(name)
        return figures | {"none": len(none), "none_auroc": auroc(ours, none)}


def towers_of(folder: Path, modalities: list[str] | None = None) -> tuple[ImageBindModel, ImageBindProcessor]:
    """What a stage left in its folder.

    Raises:
        InputError: it has not been run yet.
    """
    place = folder / MODEL
    if not (place / "config.json").is_file():
        raise InputError(f"{place}: wanted the towers of stage {folder.name}, found none; run that stage first")
    model = ImageBindModel.from_pretrained(place, modalities=modalities)
    return model.eval(), ImageBindProcessor.from_pretrained(place)


def run_see(texts: Texts, folder: Path, config: LoopConfig, first: LoopConfig, copies: int = 3) -> None:
    """Train the image tower on the words of stage ``read`` beside ``folder``; write figures, and the model of both.

    Args:
        config: of the training of all that is trained.
        first: of that of the tower's end alone, which is a hundred times as fast: attention stays as it begins.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read, teacher = folder.parent / "read", lite0(texts.teachers)
    words = read_model(read)
    seen = Seen(load_photos(texts.data), teacher, folder, copies)
    processor = ImageBindProcessor.for_config(words.config, text=text_settings(read))
    meeting = Meeting(seen, EncoderText(words, processor), texts.imagenet)
    keep(folder, "before", lambda _: meeting.floor(), words, WANTED)
    torch.manual_seed(0)
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {"vision": image_tower(), "text": words.config.tower("text")}))
    tower = model.towers["vision"]
    trunk = {key: value for key, value in teacher.state_dict().items() if not key.startswith("classifier")}
    tower.stem.network.load_state_dict(trunk)
    model.towers["text"].load_state_dict(words.towers["text"].state_dict())
    network, tower.stem.network = tower.stem.network, Tail(tower.stem.network)
    some = meeting.rows[:: len(meeting.rows) // SCALED_BY + 1]
    begin_as_classifier(tower, teacher.classifier, meeting.imagenet, seen.features[0][some], seen.logits[0][some])

    def trained(part: nn.Module, loop: LoopConfig, place: Path) -> nn.Module:
        return train(part, lambda step, rng: meeting.loss(part, loop.batch_size, rng), loop, place)

    meeting.features = [after_attention(tower, values) for values in seen.features]
    end = End(tower)
    end.load_state_dict(trained(end, first, folder / "end").state_dict())
    meeting.features = seen.features
    result = trained(tower, config, folder)
    keep(folder, "after", meeting.figures, result, WANTED)
    network.load_state_dict(result.stem.network.state_dict(), strict=False)
    tower.load_state_dict(result.state_dict())
    tower.stem.network = network
    model.save_pretrained(folder / MODEL)
    processor = ImageBindProcessor.for_config(model.config, text=text_settings(read), image=image_settings())
    processor.save_pretrained(folder / MODEL)
