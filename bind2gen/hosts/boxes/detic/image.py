"""Pictures for the network: resized on 8-bit values, normalised, padded right and bottom."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .config import STRIDE, DeticConfig


def resized_size(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """(width, height) that a picture of ``size`` is resized to; rounding is detectron2's, half a pixel up."""
    width, height = size
    scale = short_side / min(width, height)
    sides = [short_side if width <= height else scale * width, short_side if height <= width else scale * height]
    if max(sides) > long_side:
        shrink = long_side / max(sides)
        sides = [side * shrink for side in sides]
    new_width, new_height = (max(1, int(side + 0.5)) for side in sides)  # a strip keeps one pixel
    return new_width, new_height


def to_pixels(picture: Image.Image, config: DeticConfig, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(3, height, width) float32 on ``device``, resized to ``size`` (width, height) and normalised."""
    resized = picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(resized)).to(device).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (config.pixel_mean, config.pixel_std))
    return (pixels - mean) / std


def padded(pictures: list[torch.Tensor]) -> torch.Tensor:
    """(B, 3, H, W): pictures (3, h, w) with zeros right and below, H and W the least multiples of 32 that hold all."""
    height, width = (-(-max(p.shape[i] for p in pictures) // STRIDE) * STRIDE for i in (1, 2))
    return torch.stack([torch.nn.functional.pad(p, (0, width - p.shape[2], 0, height - p.shape[1])) for p in pictures])
