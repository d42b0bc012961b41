"""Kandinsky 2.2 (its decoder; also with a depth hint, from a picture, or into a masked one): embeddings, no words.

diffusers repeats and casts for guided calls alone, counts a batch of img2img by its pictures, and inpaints all of a
batch into its first picture. So everything is repeated here, and the pipeline is told of one picture each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import ShapeError
from .contract import SPACES, Host, Slot, away_from, picture_each, takes_and_needs

SLOT = Slot(
    name="Kandinsky 2.2", space="vit-bigg", width=SPACES["vit-bigg"][0], norm="measured", negative="vector",
    media="image", needs="an adapter with a map to its space (fit-map)", prompt=False, licence="Apache-2.0",
    gigabytes=2.6, weights="kandinsky-community/kandinsky-2-2-decoder, -controlnet-depth or -decoder-inpaint",
    goes_with="depth hint, img2img, inpaint",
)  # fmt: skip
SIDE = 512  # pixels, where neither height nor width is given

Picture = Image.Image | torch.Tensor


class Kandinsky(Host):
    """Kandinsky 2.2's decoder.

    What it is guided away from is no zeros, but the embedding of a picture whose normalised pixels are all zero (its
    prior's ``get_zero_embed``): that of CLIP's mean grey.
    """

    SLOTS = (SLOT,)
    pipelines = (
        "KandinskyV22Pipeline", "KandinskyV22ControlnetPipeline", "KandinskyV22Img2ImgPipeline",
        "KandinskyV22ControlnetImg2ImgPipeline", "KandinskyV22InpaintPipeline",
    )  # fmt: skip
    width_at = ("unet", "encoder_hid_dim")

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        image: Picture | Sequence[Picture] | None = None,
        mask_image: Any = None,
        hint: Picture | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`.

        Args:
            image: of img2img and inpaint, what is begun with: one, or of img2img one an embedding.
            mask_image: of inpaint, where it is drawn anew: white.
            hint: of ControlNet, a depth map as a picture (which is scaled), or (1, 3, H, W) of 0..1.
            height, width: pixels, default :data:`SIDE`; the pipeline rounds them up.

        Raises:
            InputError, ShapeError: a picture that this pipeline needs is missing, or that it does not take is there.
        """
        given = takes_and_needs(pipe, image=image, mask_image=mask_image, hint=hint)
        if embeds.ndim != 2:
            raise ShapeError(f"{SLOT.name}: wanted one embedding a picture, (B, D), got {tuple(embeds.shape)}")
        height, width = height or SIDE, width or SIDE
        device, dtype, count = pipe._execution_device, pipe.unet.dtype, len(embeds) * num
        rows = embeds.repeat_interleave(num, dim=0).to(device, dtype)
        wanted = {"image_embeds": rows, "negative_image_embeds": away_from(negative, rows, num)}
        if hint is not None:
            grain = 4 ** (len(pipe.movq.config.block_out_channels) - 1)  # pixels, multiples of which are drawn
            size = tuple(-(-side // grain) * grain for side in (width, height))
            wanted["hint"] = _planes(hint, size).to(device, dtype).expand(count, -1, -1, -1)
        if image is not None:
            wanted["image"] = picture_each(image, len(embeds), num, several="mask_image" not in given)
        if mask_image is not None:
            wanted["mask_image"] = [mask_image] * count
        yield wanted | {"height": height, "width": width, "num_images_per_prompt": 1}


def _planes(hint: Picture, size: tuple[int, ...]) -> torch.Tensor:
    """(1, 3, H, W) of 0..1."""
    if isinstance(hint, Image.Image):
        hint = torch.from_numpy(np.asarray(hint.convert("RGB").resize(size), np.float32) / 255).permute(2, 0, 1)[None]
    if not isinstance(hint, torch.Tensor) or tuple(hint.shape) != (1, 3, *size[::-1]):
        came = tuple(hint.shape) if isinstance(hint, torch.Tensor) else type(hint).__name__
        raise ShapeError(f"hint: wanted a picture, or a tensor {(1, 3, *size[::-1])} of 0..1, got {came}")
    return hint
