"""Augmentations, batched in torch; every random number comes from the numpy generator that is passed in."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F


def augment_photos(
    pixels: torch.Tensor,
    rng: np.random.Generator,
    *,
    area: tuple[float, float] = (0.35, 1.0),
    stretch: float = 0.25,
    colour: float = 0.3,
) -> torch.Tensor:
    """Random resized crop, mirror, brightness, contrast and saturation.

    Args:
        pixels: (N, 3, H, W) float in 0..1.
        area: share of the picture's area that a crop keeps.
        stretch: largest natural logarithm of a crop's aspect ratio; 0.25 is about 3:4 to 4:3.
        colour: largest relative change of brightness, contrast and saturation.

    Returns:
        (N, 3, H, W) float in 0..1.
    """
    count = len(pixels)
    side = np.sqrt(rng.uniform(*area, count))
    ratio = np.exp(rng.uniform(-stretch, stretch, count))
    width, height = np.minimum(1, side * ratio), np.minimum(1, side / ratio)
    mirror = np.where(rng.random(count) < 0.5, -1, 1)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2] = rng.uniform(-1, 1, count) * (1 - width)
    theta[:, 1, 2] = rng.uniform(-1, 1, count) * (1 - height)
    grid = F.affine_grid(torch.from_numpy(theta).to(pixels.device), list(pixels.shape), align_corners=False)
    pixels = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)

    return recoloured(pixels, rng, colour=colour)


def recoloured(pixels: torch.Tensor, rng: np.random.Generator, *, colour: float = 0.3) -> torch.Tensor:
    """Random brightness, contrast and saturation of (N, 3, H, W) in 0..1; ``colour`` is the largest relative change."""
    count = len(pixels)

    def factor() -> torch.Tensor:
        drawn = rng.uniform(1 - colour, 1 + colour, (count, 1, 1, 1)).astype(np.float32)
        return torch.from_numpy(drawn).to(pixels.device)

    pixels = pixels * factor()
    pixels = pixels.mean((1, 2, 3), keepdim=True).lerp(pixels, factor())
    pixels = pixels.mean(1, keepdim=True).lerp(pixels, factor())
    return pixels.clamp(0, 1)


def erase_patches(
    pixels: torch.Tensor, rng: np.random.Generator, *, share: float = 0.5, side: float = 0.4
) -> torch.Tensor:
    """Grey out one square of up to ``side`` of the width in ``share`` of the pictures (arXiv 1708.04896)."""
    count, _, height, width = pixels.shape
    pixels = pixels.clone()
    for i in np.flatnonzero(rng.random(count) < share):
        size = int(rng.uniform(0.1, side) * width)
        top, left = rng.integers(height - size), rng.integers(width - size)
        pixels[i, :, top : top + size, left : left + size] = 0.5
    return pixels


def crop_sounds(waveforms: list[np.ndarray], samples: int, rng: np.random.Generator, *, tries: int = 2) -> np.ndarray:
    """One clip of ``samples`` from each waveform: the loudest of ``tries`` places; short ones are placed at random.

    Returns:
        (N, samples) float32.
    """
    clips = np.zeros((len(waveforms), samples), np.float32)
    for i, waveform in enumerate(waveforms):
        room = len(waveform) - samples
        if room <= 0:
            start = rng.integers(-room + 1)
            clips[i, start : start + len(waveform)] = waveform
            continue
        starts = rng.integers(room + 1, size=tries)
        best = max(starts, key=lambda s: float(np.square(waveform[s : s + samples]).sum()))
        clips[i] = waveform[best : best + samples]
    return clips


def augment_sounds(
    clips: np.ndarray,
    rng: np.random.Generator,
    *,
    background: np.ndarray | None = None,
    gain_db: float = 12.0,
    mix_share: float = 0.5,
    snr_db: tuple[float, float] = (3.0, 25.0),
) -> np.ndarray:
    """Random gain, polarity, circular shift, mild speed change, and a background sound mixed in at a random ratio.

    Args:
        clips: (N, samples) float32.
        background: (M, samples) float32 sounds of no concept; None mixes nothing.
        gain_db: largest gain up or down.
        snr_db: range of sound over background.
    """
    out = np.empty_like(clips)
    samples = clips.shape[1]
    for i, clip in enumerate(clips):
        clip = np.roll(clip, rng.integers(samples))
        speed = math.exp(rng.uniform(-0.12, 0.12))
        positions = (np.arange(samples) * speed) % (samples - 1)
        clip = np.interp(positions, np.arange(samples), clip).astype(np.float32)
        if background is not None and rng.random() < mix_share:
            noise = background[rng.integers(len(background))]
            clip = with_noise(clip, noise, rng.uniform(*snr_db))
        out[i] = clip * rng.choice((-1, 1)) * 10 ** (rng.uniform(-gain_db, gain_db / 3) / 20)
    return out.clip(-1, 1)


def with_noise(clip: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """(samples,) with a sound of the same length behind it, softer by ``snr_db``."""
    power, noise_power = np.square(clip).mean() + 1e-9, np.square(noise).mean() + 1e-9
    return clip + noise * math.sqrt(power / noise_power / 10 ** (snr_db / 10))


def mask_spectrogram(mel: torch.Tensor, rng: np.random.Generator, *, bands: int = 12, frames: int = 60) -> torch.Tensor:
    """SpecAugment (arXiv 1904.08779): two bands and two spans set to the mean (0) of each normalised spectrogram.

    Args:
        mel: (N, 1, mel bins, frames).
        bands, frames: largest width of each masked part.
    """
    mel = mel.clone()
    for i in range(len(mel)):
        for axis, limit in ((1, bands), (2, frames)):
            for _ in range(2):
                width = rng.integers(limit + 1)
                start = rng.integers(mel.shape[axis + 1] - width + 1)
                mel[i].narrow(axis, start, width).zero_()
    return mel


def augment_movements(
    recordings: list[np.ndarray],
    samples: int,
    rng: np.random.Generator,
    *,
    shortest: float = 0.5,
    tilt: float = 0.3,
    gain: float = 0.15,
    jitter: tuple[float, float] = (0.15, 0.03),
    stretch: float = 0.15,
) -> np.ndarray:
    """A random part of each recording, turned, scaled and made noisy; both sensors turn together, as in one phone.

    Args:
        recordings: (6, n) each: accelerometer in m/s^2, then gyroscope in rad/s.
        samples: length of a clip; shorter parts are zero-padded at the end.
        shortest: smallest share of a recording that is kept.
        tilt: standard deviation of the rotation angle in radians, about a random axis.
        gain: largest relative change of scale.
        jitter: standard deviation of the noise in m/s^2 and rad/s.
        stretch: largest relative change of speed; the gyroscope turns faster where time runs faster.

    Returns:
        (N, 6, samples) float32.
    """
    clips = np.zeros((len(recordings), 6, samples), np.float32)
    for i, whole in enumerate(recordings):
        length = int(whole.shape[1] * rng.uniform(shortest, 1.0))
        start = rng.integers(whole.shape[1] - length + 1)
        part = whole[:, start : start + length]
        speed = rng.uniform(1 - stretch, 1 + stretch)
        places = np.arange(0, length - 1, speed)
        part = np.stack([np.interp(places, np.arange(length), channel) for channel in part])
        part[3:] *= speed
        axis = rng.normal(size=3)
        turn = rotation(axis / np.linalg.norm(axis), rng.normal(scale=tilt))
        part = np.concatenate([turn @ part[:3], turn @ part[3:]]) * rng.uniform(1 - gain, 1 + gain)
        part = part[:, :samples] + rng.normal(size=(6, part[:, :samples].shape[1])) * np.repeat(jitter, 3)[:, None]
        clips[i, :, : part.shape[1]] = part
    return clips


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """(3, 3) matrix of a turn by ``angle`` radians about a unit ``axis`` (Rodrigues' formula)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
