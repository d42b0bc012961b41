"""Small pictures of what the model saw, from the tensors that it was given: nothing is read a second time."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageOps

from ..imagebind.processor import ImageBindProcessor

SIDE = 96  # pixels of the longer side
QUALITY = 60  # of 100
METHOD = 0  # of WebP's encoder, the fastest; 0..6
DRAWN = ("image", "video", "audio", "depth", "thermal")
COLOURS = {"black": "#000004", "mid": "#b73779", "white": "#fcfdbf"}  # of what has none: lowest, middle, highest


def thumbnail(modality: str, clips: torch.Tensor, processor: ImageBindProcessor) -> bytes:
    """WebP of the first clip, middle crop; empty where a modality has no picture.

    Args:
        clips: (S, *sample), as the processor makes them.
    """
    if modality not in DRAWN:
        return b""
    settings = getattr(processor, modality)
    # In NumPy: so small a thing is not worth waking torch's threads for.
    sample = clips[settings.num_crops // 2 if modality == "video" else 0].float().cpu().numpy()
    if modality == "video":
        sample = sample[:, 0]  # the first frame
    if modality in ("image", "video"):
        pixels = (sample.transpose(1, 2, 0) * settings.std + settings.mean) * 255
        picture = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    else:
        values = sample[0, ::-1] if modality == "audio" else sample[0]  # low tones below
        spread = max(float(values.max() - values.min()), float(np.finfo(np.float32).eps))
        greys = Image.fromarray((255 * (values - values.min()) / spread).astype(np.uint8))
        picture = ImageOps.colorize(greys, **COLOURS)
    if modality == "audio":  # a strip, which would be flat at this size
        picture = picture.resize((SIDE, 2 * SIDE // 3), Image.Resampling.BILINEAR)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=METHOD)
    return file.getvalue()
