"""Sounds as the frozen network hears them, as they are and altered, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from ..atomic import written_whole
from ..preprocess.audio import AudioSettings, log_mel
from ..train.augment import crop_sounds
from ..train.mini_recipe import JUDGED
from .alter import TELEPHONE, altered, banded, with_noise
from .sounds import Sounds

CLIP_SECONDS, FRAMES, MEL_BINS = 5.0, 512, 64
BATCH = 16  # clips at once through the network
AROUND = 16  # sounds of no concept, of which one may be behind a clip
NOISE_DB = 10.0  # of the sounds that are judged through a telephone, over the noise


def audio_settings() -> AudioSettings:
    """The mel front end that YAMNet was trained with, nearly."""
    return AudioSettings(
        num_mel_bins=MEL_BINS, target_length=FRAMES, clip_duration=CLIP_SECONDS, low_freq=125.0, high_freq=7500.0,
        preemphasis_coefficient=0.0, use_power=False, padding="repeat", mean=0.0, std=1.0, policy="cover",
    )  # fmt: skip


class Cached(nn.Module):
    """Takes the network's place while its features are given."""

    def forward_features(self, features: torch.Tensor) -> torch.Tensor:
        return features


class Heard:
    """Clips of sounds as the frozen network hears them.

    Args:
        sounds: to train on and to judge on.
        teacher: YAMNet with its classifier.
        folder: where the features are kept; an interrupted run goes on from them.
        copies: of each training clip: one as it is, the others altered.

    Attributes:
        sound_of: (M,) the sound of each clip.
        features: of each copy, (M, 1024, 2, 16) half precision.
        logits: (M, 521) of the clips as they are.
        telephone, telephone_logits: of the held-out sounds of our concepts through a telephone, noise behind them.
        telephone_of: their sounds.
    """

    def __init__(self, sounds: Sounds, teacher: nn.Module, folder: Path, copies: int) -> None:
        self.sounds, self.teacher, self.folder, self.settings = sounds, teacher, folder, audio_settings()
        clips = [sounds.clips(row, self.settings) for row in range(len(sounds))]
        self.sound_of = np.repeat(np.arange(len(sounds)), [len(some) for some in clips])
        self.clips = [clip for some in clips for clip in some]
        everything = [self._copy(number) for number in range(copies)]
        self.features = [part["features"] for part in everything]
        self.logits = everything[0]["logits"]
        judged = sounds.held_out & ~sounds.many & np.isin(sounds.concepts, JUDGED)
        chosen = np.flatnonzero(judged[self.sound_of])
        self.telephone_of = self.sound_of[chosen]
        telephone = self._kept("telephone", lambda: self._through_a_telephone(chosen))
        self.telephone, self.telephone_logits = telephone["features"], telephone["logits"]

    def _copy(self, number: int) -> dict[str, torch.Tensor]:
        """Features and logits of every labelled clip as it is (0), or of the trained ones altered; zeros elsewhere."""
        labelled, trained = (part[self.sound_of] for part in (self.sounds.labels != "", self.sounds.trained))
        rows = np.flatnonzero(labelled & trained if number else labelled)

        def make() -> dict[str, torch.Tensor]:
            return self._spread(rows, self._computed(self._altered(rows, number), len(rows)))

        return self._kept(str(number), make)

    def _altered(self, rows: np.ndarray, number: int) -> Iterator[np.ndarray]:
        rng, around = np.random.default_rng([7, number]), self.background(self.sounds.trained[self.sound_of])
        for row in rows:
            clip = self.clips[row]
            if number:
                behind = self._cropped(rng.choice(around, AROUND), len(clip), rng)
                clip = altered(clip, self.sounds.sample_rate, rng, behind)
            yield clip

    def _spread(self, rows: np.ndarray, computed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        spread = {name: part.new_zeros(len(self.clips), *part.shape[1:]) for name, part in computed.items()}
        for name, part in computed.items():
            spread[name][rows] = part
        return spread

    def _through_a_telephone(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        rng, rate = np.random.default_rng(7), self.sounds.sample_rate
        noises = self.background(self.sounds.held_out[self.sound_of])

        def each() -> Iterator[np.ndarray]:
            for row in rows:
                (noise,) = self._cropped(rng.choice(noises, 1), len(self.clips[row]), rng)
                yield banded(with_noise(self.clips[row], noise, NOISE_DB), rate, *TELEPHONE).astype(np.float32)

        return self._computed(each(), len(rows))

    def background(self, clips: np.ndarray) -> np.ndarray:
        """Clips of no concept among (M,) chosen ones."""
        return np.flatnonzero(clips & (self.sounds.concepts == "")[self.sound_of])

    def _cropped(self, rows: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
        long = [np.resize(self.clips[row], max(samples, len(self.clips[row]))) for row in rows]
        return crop_sounds(long, samples, rng)

    def _kept(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        path = self.folder / f"features_{name}.safetensors"
        if not path.is_file():
            made = make()
            with written_whole(path) as temporary:
                save_file(made, temporary)
        return load_file(path)

    @torch.inference_mode()
    def _computed(self, clips: Iterator[np.ndarray], count: int) -> dict[str, torch.Tensor]:
        features, logits, batch = [], [], []
        for number, clip in enumerate(tqdm(clips, total=count, desc="features", mininterval=5)):
            batch.append(log_mel(torch.from_numpy(clip)[None], self.settings))
            if len(batch) == BATCH or number + 1 == count:
                seen = self.teacher.forward_features(torch.cat(batch))
                features.append(seen.half())
                logits.append(self.teacher.forward_head(seen))
                batch = []
        return {"features": torch.cat(features), "logits": torch.cat(logits)}
