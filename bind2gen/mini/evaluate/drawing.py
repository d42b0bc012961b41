"""What the pipeline under judgement makes of raw data: embeddings, pictures, reconstructions, and how long it takes."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm

from ...errors import Bind2GenWarning
from ...hosts.pictures.unclip import picture_size
from ...pipelines.unclip import ImageBindUnCLIPPipeline
from ...preprocess.imu import ImuRecording
from ..data import AudioSet, ImuSet
from ..recipe import TEMPLATES

BATCH = 32  # pictures drawn at a time
TIMED_CALLS = 5


@torch.no_grad()
def embed(pipe: ImageBindUnCLIPPipeline, modality: str, items: Sequence[Any], *, quiet: bool = False) -> torch.Tensor:
    """Raw inputs as the processor takes them -> (N, D) float32 unit norm on the CPU."""
    parts = []
    with (
        warnings.catch_warnings(),
        tqdm(total=len(items), desc=f"{modality} embeddings", disable=quiet or None, leave=False) as bar,
    ):
        warnings.simplefilter("ignore", Bind2GenWarning)  # many stretches of motion are shorter than a window
        for start in range(0, len(items), BATCH):
            batch = list(items[start : start + BATCH])
            parts.append(pipe.embed(**{modality: batch})[modality].float().cpu())
            bar.update(len(batch))
    return torch.cat(parts)


@torch.no_grad()
def class_embeddings(pipe: ImageBindUnCLIPPipeline, names: Sequence[str]) -> torch.Tensor:
    """Text embedding of each concept, the mean over the caption templates: (C, D) on the CPU."""
    ids = [pipe.processor(text=[t.format(name) for t in TEMPLATES])["input_ids"][:, 0] for name in names]
    return pipe.imagebind.encode("text", torch.stack(ids).to(pipe.device)).float().cpu()


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


def imu_recordings(data: ImuSet) -> list[ImuRecording]:
    """Recordings as the processor takes them, in units that need no finding out."""
    return [ImuRecording(torch.from_numpy(samples), data.sample_rate) for samples in data.recordings]


def thermal_pictures(pixels: np.ndarray) -> list[Image.Image]:
    """(N, H, W, 3) uint8 with equal channels -> pictures of one channel, as an infrared file is read."""
    return [Image.fromarray(picture).convert("L") for picture in pixels]
