"""What the pipeline under judgement is given and makes of it: sounds, embeddings, pictures, and how long they take."""

from __future__ import annotations

import statistics
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm

from ...hosts.pictures.unclip import picture_size
from ...pipelines.unclip import ImageBindUnCLIPPipeline
from ...space.text_towers import EncoderText
from ...space.vocabulary import embed_names
from .. import towers
from ..data import AudioSet
from ..recipe import TEMPLATES

BATCH = 32  # pictures drawn at a time
TIMED_CALLS = 5
BAND, SIGNAL_TO_NOISE = (300, 3400), 10  # of a telephone: Hz, and dB within the band


def embed(pipe: ImageBindUnCLIPPipeline, modality: str, items: Sequence[Any], *, quiet: bool = False) -> torch.Tensor:
    """Raw inputs as the processor takes them -> (N, D) float32 unit norm on the CPU."""
    return towers.embed(pipe.imagebind, pipe.processor, modality, items, quiet=quiet)


def class_embeddings(pipe: ImageBindUnCLIPPipeline, names: Sequence[str]) -> torch.Tensor:
    """Text embedding of each concept, the mean over the caption templates: (C, D) on the CPU."""
    return embed_names(names, EncoderText(pipe.imagebind, pipe.processor), templates=TEMPLATES)


@torch.no_grad()
def understood(pipe: ImageBindUnCLIPPipeline, **embeds: torch.Tensor) -> torch.Tensor:
    """Embeddings by modality, (N, D) each, moved over the gap and blended in the encoder's space: (N, D) on the CPU."""
    return pipe.adapter({name: part.to(pipe.device) for name, part in embeds.items()}, anchored=False).cpu()


def with_rate(sounds: AudioSet) -> list[tuple[np.ndarray, int]]:
    """Sounds as the processor takes them: (waveform, rate)."""
    return [(waveform, sounds.sample_rate) for waveform in sounds.waveforms]


def generate(
    pipe: ImageBindUnCLIPPipeline,
    sounds: AudioSet,
    seeds: Sequence[int],
    *,
    quiet: bool = False,
    **options: float,
) -> np.ndarray:
    """One picture a sound; picture i depends on sound i and seed i alone.

    Args:
        seeds: one for each sound.
        options: for the pipeline's call.

    Returns:
        (N, S, S, 3) uint8.
    """
    audio, pictures = with_rate(sounds), []
    with tqdm(total=len(audio), desc="pictures", disable=quiet or None, leave=False) as bar:
        for start in range(0, len(audio), BATCH):
            part = slice(start, start + BATCH)
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[part]]
            made = pipe(audio=audio[part], generator=generators, **options).images
            pictures += map(np.asarray, made)
            bar.update(len(made))
    return np.stack(pictures)


def at_side(pixels: np.ndarray, side: int) -> np.ndarray:
    """(N, S, S, 3) uint8 brought to ``side``."""
    if pixels.shape[1] == side:
        return pixels
    return np.stack([np.asarray(Image.fromarray(picture).resize((side, side))) for picture in pixels])


@torch.no_grad()
def reconstruct(pipe: ImageBindUnCLIPPipeline, pixels: np.ndarray, *, quiet: bool = False) -> np.ndarray:
    """Photos through the host's autoencoder and back, (N, H, W, 3) uint8: the best that the host can draw."""
    size, back = picture_size(pipe, None, None), []
    for start in tqdm(range(0, len(pixels), BATCH), desc="reconstructions", disable=quiet or None, leave=False):
        photos = torch.from_numpy(pixels[start : start + BATCH]).permute(0, 3, 1, 2)
        # Not pipe.device, which is the CPU where parts are offloaded to.
        unit = _resized(photos.to(pipe._execution_device, pipe.vae.dtype) / 127.5 - 1, size)
        made = pipe.vae.decode(pipe.vae.encode(unit).latent_dist.mode()).sample
        made = _resized(made.float(), pixels.shape[1:3]).clamp(-1, 1).add(1).mul(127.5).round()
        back.append(made.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())
    return np.concatenate(back)


def _resized(pictures: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    if tuple(pictures.shape[2:]) == tuple(size):
        return pictures
    return F.interpolate(pictures, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)


def seconds_per_picture(pipe: ImageBindUnCLIPPipeline, sound: tuple[np.ndarray, int], **options: float) -> float:
    """Median time of a call for one sound, loaded and warmed up, in seconds."""
    taken = []
    for _ in range(TIMED_CALLS + 1):
        started = time.perf_counter()
        pipe(audio=sound, generator=torch.Generator().manual_seed(0), **options)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def through_a_telephone(sounds: AudioSet) -> AudioSet:
    """Each sound within :data:`BAND`, with white noise that its path seeds."""
    seeds = (zlib.crc32(sample.path.encode()) for sample in sounds.samples)
    heard = [_noisy(sound, sounds.sample_rate, seed) for sound, seed in zip(sounds.waveforms, seeds, strict=True)]
    return replace(sounds, waveforms=heard)


def _noisy(waveform: np.ndarray, rate: int, seed: int) -> np.ndarray:
    sound = _in_band(waveform, rate)
    noise = _in_band(np.random.default_rng(seed).standard_normal(len(sound)), rate)
    level = np.sqrt((sound**2).mean() / (noise**2).mean()) * 10 ** (-SIGNAL_TO_NOISE / 20)
    return (sound + level * noise).astype(np.float32)


def _in_band(waveform: np.ndarray, rate: int) -> np.ndarray:
    spectrum, hertz = np.fft.rfft(waveform), np.fft.rfftfreq(len(waveform), 1 / rate)
    return np.fft.irfft(np.where((hertz >= BAND[0]) & (hertz <= BAND[1]), spectrum, 0), len(waveform))
