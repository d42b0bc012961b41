"""What the audio tower learns from: altered sounds, and the photos and words that they are to meet.

All of it fits one file, so that another machine needs neither the data nor the teachers nor the encoder.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..errors import InputError
from ..files.atomic import written_whole
from ..imagebind.config import TowerConfig
from ..imagebind.tower import Tower
from ..train.contrastive import info_nce
from ..train.loop import LoopConfig, step_of, train, weights_of
from .files import joined, taken_apart
from .heard import FRAMES, MEL_BINS, altered_clip, spectra
from .recipe import EMBED_DIM
from .teachers import YAMNET, YAMNET_ARGS
from .towers import balanced_weights

RATE = 16_000  # Hz
SHARPNESS = 20.0  # 1/temperature in training, the paper's of sounds
TOGETHER = 8  # photos of a kind, whose mean a sound is bound to
# Weights: of the photos; of the names; of staying near the names that the teacher hears, in sounds with photos and in
# those without; of being unlike all our concepts where it is none of them.
PICTURES, WORDS, OWN, OTHERS, NONE = 0.5, 1.0, 0.2, 0.5, 1.0
FAR = 0.1  # cosine with the words of our concepts, from which what is none of them is too like them
CODED = 0.93  # libsndfile's level of the Opus in the file: about 24 kbit/s
NETWORK = "network."  # before the names of its weights


def audio_tower() -> TowerConfig:
    return TowerConfig(
        EMBED_DIM, 1, 4, "network", (1, MEL_BINS, FRAMES), network=YAMNET, network_args=YAMNET_ARGS, bias_kv=False,
        drop_path=0.1, head_dropout=0.1, logit_scale=SHARPNESS,
    )  # fmt: skip


@dataclass(frozen=True)
class Lessons:
    """M training clips, and what each is to meet. Whole numbers are -1 where there is nothing.

    Attributes:
        clips: (samples,) float32 each, 16 kHz.
        label, concept: (M,) rows of ``names``; a concept is the label where it is none of ours.
        ours: (M,) bool, whether it is of a concept.
        kind: (M,) of the photos that show it.
        group: (M,) those of one number are alike to the photos' contrast.
        heard: (M, D) the names that the teacher hears in it, unit norm.
        names, judged: (K, D), (C, D) embeddings of what is trained, and of the concepts.
        photos: (P, D) embeddings; ``photo_kind``: (P,).
        network: state dict that the tower's network begins with.
    """

    clips: list[np.ndarray]
    label: torch.Tensor
    concept: torch.Tensor
    ours: torch.Tensor
    kind: torch.Tensor
    group: torch.Tensor
    heard: torch.Tensor
    names: torch.Tensor
    judged: torch.Tensor
    photos: torch.Tensor
    photo_kind: torch.Tensor
    network: dict[str, torch.Tensor]

    def save(self, path: Path) -> None:
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("clips", "network")}
        tensors = {name: part.half() if part.is_floating_point() else part for name, part in tensors.items()}
        files = []
        for clip in tqdm(self.clips, "Opus"):
            file = io.BytesIO()
            soundfile.write(file, clip.clip(-1, 1), RATE, format="OGG", subtype="OPUS", compression_level=CODED)
            files.append(file.getvalue())
        tensors |= joined(files, "sounds")
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary:
            save_file(tensors | {NETWORK + name: part.half() for name, part in self.network.items()}, temporary)

    @classmethod
    def load(cls, path: Path) -> Lessons:
        """Raises :class:`InputError` where there is no such file."""
        try:
            held = load_file(path)
            network = {name: held.pop(name).float() for name in list(held) if name.startswith(NETWORK)}
            files = taken_apart(held, "sounds")
            clips = [soundfile.read(io.BytesIO(file), dtype="float32")[0] for file in files]
            held = {name: part.float() if part.is_floating_point() else part for name, part in held.items()}
            return cls(clips, network={name.removeprefix(NETWORK): part for name, part in network.items()}, **held)
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"{path}: wanted a file as hear-pack writes it: {error}") from error


class Batches(Dataset):
    """By step: rows of clips, their spectra when altered, and photos of the first half."""

    def __init__(self, lessons: Lessons, config: LoopConfig) -> None:
        self.lessons, self.config = lessons, config
        kind, label = lessons.kind.numpy(), lessons.label.numpy()
        self.around = [clip for clip, ours in zip(lessons.clips, lessons.ours, strict=True) if not ours]
        self.pictured = np.flatnonzero(kind >= 0)
        self.worded = np.flatnonzero((label >= 0) & ((kind < 0) | (lessons.label != lessons.concept).numpy()))
        self.likely = (
            balanced_weights(kind[self.pictured].astype(str)),
            balanced_weights(label[self.worded].astype(str)),
        )
        of = lessons.photo_kind.numpy()
        self.photos = {number: np.flatnonzero(of == number) for number in np.unique(of)}

    def __getitem__(self, step: int) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
        rng, count, lessons = np.random.default_rng([self.config.seed, step]), self.config.batch_size, self.lessons
        parts = zip((self.pictured, self.worded), (count // 2, count - count // 2), self.likely, strict=True)
        rows = np.concatenate([rng.choice(some, number, p=p) for some, number, p in parts])
        clips = [altered_clip(lessons.clips[row], RATE, rng, self.around) for row in rows]
        kinds = lessons.kind[rows[: count // 2]].tolist()
        return rows, spectra(clips), np.stack([rng.choice(self.photos[kind], TOGETHER) for kind in kinds])


def loss_of(
    tower: nn.Module, lessons: Lessons, rows: torch.Tensor, heard: torch.Tensor, photos: torch.Tensor
) -> tuple[torch.Tensor, dict[str, float]]:
    """Of a batch of :class:`Batches`; every clip is bound to its names, the first half also to photos."""
    at, half = heard.device, len(photos)

    def of(part: torch.Tensor) -> torch.Tensor:
        return part[rows].to(at)

    found = tower(heard)
    shown, groups = F.normalize(lessons.photos[photos].mean(1), dim=-1).to(at), of(lessons.group)[:half]
    pictures = info_nce(found[:half], shown, SHARPNESS, groups[:, None] == groups[None])
    answers = SHARPNESS * found @ lessons.names.T.to(at)
    words = (F.cross_entropy(answers, of(lessons.label)) + F.cross_entropy(answers, of(lessons.concept))) / 2
    turned = 1 - (found * of(lessons.heard)).sum(1)
    own, others = turned[:half].mean(), turned[half:].mean()
    none = found[~of(lessons.ours)]
    like = (none @ lessons.judged.T.to(at) - FAR).relu().square().sum() / max(1, len(none))
    parts = {"pictures": pictures, "words": words, "own": own, "others": others, "none": like}
    loss = PICTURES * pictures + WORDS * words + OWN * own + OTHERS * others + NONE * like
    return loss, {name: part.item() for name, part in parts.items()}


def train_tower(lessons: Lessons, folder: Path, config: LoopConfig) -> Tower:
    """The trained tower, on the CPU; a run that was stopped goes on, a finished one is read.

    The sounds are altered by processes of their own, one for each of torch's threads but one.
    """
    torch.manual_seed(config.seed)
    tower = Tower(audio_tower(), EMBED_DIM)
    tower.stem.network.load_state_dict(lessons.network, strict=False)
    if step_of(folder) >= config.steps:
        tower.load_state_dict(weights_of(folder))
        return tower.eval()
    steps, workers = range(step_of(folder), config.steps), torch.get_num_threads() - 1
    batches = iter(DataLoader(Batches(lessons, config), None, sampler=steps, num_workers=workers))

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        rows, heard, photos = next(batches)
        tower.stem.network.eval()  # the statistics of its norms are not those of a batch
        at = next(tower.parameters()).device
        return loss_of(tower, lessons, torch.as_tensor(rows), heard.to(at), torch.as_tensor(photos))

    return train(tower, step_loss, config, folder).cpu()
