"""Stable Video Diffusion: a film that begins with a given picture, beside which an embedding of it is heard.

The UNet was taught with the embedding of the first frame, and has that frame's latents beside the noise as well. So an
embedding of something else speaks against what it sees. See :class:`StableVideo` for what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch

from ...errors import ShapeError
from . import FIRST_FRAME
from .contract import SPACES, Host, Slot, away_from, bound_method, picture_each, takes_and_needs

SLOT = Slot(
    name="Stable Video Diffusion", space="vit-h", width=SPACES["vit-h"][0], norm="measured", negative="zeros",
    media="video", needs=FIRST_FRAME, prompt=False, licence="Stable Video Diffusion community licence",
    weights="stabilityai/stable-video-diffusion-img2vid or -img2vid-xt", gigabytes=3.2, goes_with="nothing else",
)  # fmt: skip


class StableVideo(Host):
    """Stable Video Diffusion, with a first frame.

    How far an embedding steers against the frame was measured on random UNets alone (four of width 32, eight guided
    steps): another embedding moved the latents by 0.34 to 0.50 of their length, another first frame by 0.40 to 0.49. So
    the slot is no weaker by its place in the network. Of the trained weights, which never saw the two disagree, that
    says nothing, and nobody has published it.
    """

    SLOTS = (SLOT,)
    pipelines = ("StableVideoDiffusionPipeline",)
    unused = ("image_encoder", "feature_extractor")
    names = MappingProxyType({"guidance_scale": "max_guidance_scale", "num_images_per_prompt": "num_videos_per_prompt"})

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        image: Any = None,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`.

        Args:
            image: first frame, one or one an embedding. The pipeline repeats its latents in another order than the
                embeddings, so all is repeated here.
        """
        takes_and_needs(pipe, image=image)
        if embeds.ndim != 2:
            raise ShapeError(f"{SLOT.name}: wanted one embedding a film, (B, D), got {tuple(embeds.shape)}")
        rows = embeds[:, None].repeat_interleave(num, dim=0)  # (B num, 1, D)

        def encode(pictures: Any, device: Any, count: int, guided: bool) -> torch.Tensor:
            halves = torch.cat([away_from(negative, rows, num), rows]) if guided else rows
            return halves.to(device, pipe.unet.dtype)

        with bound_method(pipe, "_encode_image", encode):
            yield {"image": picture_each(image, len(embeds), num), "num_videos_per_prompt": 1}
