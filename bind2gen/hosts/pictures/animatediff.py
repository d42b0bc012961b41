"""AnimateDiff (arXiv 2307.04725) on Stable Diffusion 1.5 with an IP-Adapter: films, if wanted one embedding a frame.

The motion UNet repeats every embedding over all frames. Here several embeddings of a film are its frames' own, and the
weight of the adapter may be another in each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from diffusers import UNetMotionModel

from ...errors import InputError, ShapeError
from . import ip_adapter
from .prompts import prompts_for

SLOT = replace(
    ip_adapter.SLOT, name="AnimateDiff + SD 1.5 + IP-Adapter", media="video", gigabytes=4.0,
    weights=ip_adapter.SLOT.weights + ", and a motion adapter of guoyww/animatediff",
    goes_with="prompt, ControlNet, LoRA",
)  # fmt: skip


class AnimateDiff(ip_adapter.IPAdapter):
    """AnimateDiff on Stable Diffusion 1.5 with an IP-Adapter."""

    SLOTS = (SLOT,)
    UNET = UNetMotionModel
    own_frames = True
    pipelines = ("AnimateDiffPipeline", "AnimateDiffControlNetPipeline")
    names = MappingProxyType({"num_images_per_prompt": "num_videos_per_prompt"})

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        scale: ip_adapter.Scale | None = None,
        frame_scales: Sequence[float] | None = None,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`; ``embeds`` are (B, D), or (B, F, D) for films of F frames.

        Args:
            scale: weight of the adapter, as of :class:`IPAdapter`.
            frame_scales: of F frames, by what ``scale`` is multiplied in each.
            prompt, negative_prompt: one, or one a film; with FreeNoise, which takes one film at a time, one.

        Raises:
            InputError, ShapeError: numbers that do not fit; several films of one embedding.
        """
        count, frames = len(embeds), embeds.shape[1] if embeds.ndim == 3 else None
        if num != 1:  # the pipeline ignores the number
            raise InputError(f"num_videos_per_prompt: wanted 1, got {num}; give the embedding several times")
        if frame_scales is not None and len(frame_scales) != frames:
            raise ShapeError(f"frame_scales: wanted {frames or 'embeddings of frames'}, got {len(frame_scales)}")
        if pipe.free_noise_enabled and count > 1:
            raise InputError(f"embeddings: wanted those of one film with FreeNoise, got {count} films")
        words = {"prompt": prompts_for(prompt, count)}
        if negative_prompt is not None:
            words["negative_prompt"] = prompts_for(negative_prompt, count, "negative_prompt")
        if pipe.free_noise_enabled:  # it counts lists for frames
            words = {name: listed[0] for name, listed in words.items()}
        given = {"num": num, "guided": guided, "negative": negative, "scale": scale}
        own = _own_embeddings(pipe) if frames else nullcontext()
        with super().conditioned(pipe, embeds, **given) as arguments, own:
            if frame_scales is not None:
                shares = torch.tensor([float(share) for share in frame_scales]).repeat(count)
                for processor in ip_adapter.crossing(pipe):
                    processor.scale = [_FrameScales(value, shares) for value in processor.scale]
            yield arguments | words | ({"num_frames": frames} if frames else {})


@contextmanager
def _own_embeddings(pipe: Any) -> Iterator[None]:
    """Within the block S embeddings of a film are those of its frames, (2 B, S, T, C) -> (2 B S, 1, T, C)."""

    def spread(projection: Any, given: Any, found: list[torch.Tensor]) -> list[_Repeated]:
        return [_Repeated(states.flatten(0, 1)[:, None]) for states in found]

    hook = pipe.unet.encoder_hid_proj.register_forward_hook(spread)
    try:
        yield
    finally:
        hook.remove()


class _Repeated:
    """States that are those of each frame already, so the UNet's repetition leaves them as they are."""

    def __init__(self, states: torch.Tensor) -> None:
        self.states, self.shape = states, states.shape

    def repeat_interleave(self, *_: Any, **__: Any) -> torch.Tensor:
        return self.states


class _FrameScales:
    """A scale for each of B F frames, where the attention expects a number; it is never the 0 that is skipped."""

    def __init__(self, scale: float, shares: torch.Tensor) -> None:
        self.values = scale * shares[:, None, None]

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = None

    def __mul__(self, states: torch.Tensor) -> torch.Tensor:
        """Of (2 B F, tokens, C), both halves alike."""
        return self.values.to(states).repeat(len(states) // len(self.values), 1, 1) * states
