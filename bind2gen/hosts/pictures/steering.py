"""Pipelines without a slot, steered by looking at what they are about to draw.

At each step the clean latents that the network points at are decoded, seen by the encoder that the embedding is of, and
moved a little to where the picture is more like it; the scheduler goes on from there. This is Seeing and Hearing (arXiv
2402.17723), whose own implementation moves the noisy latents by Adam, up to 0.1 in each number. Moving the clean ones,
as MPGD does (arXiv 2311.16424), is the same for every scheduler and kind of prediction. In both the gradient goes
through decoder and encoder, never through the denoiser.

Tried on the bundled generator without its class embedding, ten steps, 107 held-out sounds: a judge of photos takes 23 %
of the pictures for their kind and they come back with a cosine of 0.72; not steered 13 % and 0.43, by the slot 60 % and
0.84. So it is for pipelines that have no slot. Moves that become smaller with the noise lead further than moves of one
length (of eight training sounds to 0.82 at strength 1, against 0.75 at 0.3 throughout), and 2 no less far than 1.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...errors import HostError, InputError, ShapeError
from .contract import Host, Slot, away_from, bound_method
from .unclip_steps import clean_estimate

DENOISERS = ("unet", "transformer")
LOSS_SCALE = 2.0**12  # keeps gradients in half precision above its least number; their length does not count
STRENGTH = 1.0
SLOT = Slot(
    name="a pipeline that is steered", space="", width=0, norm="any", negative="zeros", media="image",
    needs="ImageBind's image tower", prompt=True, weights="any of text-to-image latents", licence="its own",
    gigabytes=0.0, goes_with="all that it takes",
)  # fmt: skip

Look = Callable[[torch.Tensor], torch.Tensor]


class Steering(Host):
    """Any pipeline of latents, without a slot, steered by what it is about to draw.

    Args:
        width: D of the embeddings.

    Attributes:
        look: pictures (N, 3, H, W) in 0..1 -> (N, D) unit norm, differentiable; set before anything is drawn.
        eyes: the network that it looks with.
    """

    SLOTS = (SLOT,)
    look: Look
    eyes: nn.Module

    def __init__(self, width: int = 0) -> None:
        self.width = width

    def slot(self, pipe: Any) -> Slot:
        name, scheduler = type(pipe).__name__, getattr(pipe, "scheduler", None)
        denoises = any(hasattr(pipe, part) for part in DENOISERS)
        vae = getattr(pipe, "vae", None)
        if not denoises or vae is None or getattr(vae.config, "latents_mean", None) or hasattr(pipe, "_unpack_latents"):
            raise HostError(f"{name}: wanted a pipeline of latents (N, C, h, w) that a vae decodes, to be steered")
        if not hasattr(scheduler, "alphas_cumprod") and not _flows(scheduler):
            words = f"{type(scheduler).__name__} does not say how noisy a step is"
            raise HostError(f"{name}: {words}; take one such as DDIMScheduler or FlowMatchEulerDiscreteScheduler")
        prompt = "prompt" in inspect.signature(type(pipe).__call__).parameters
        return replace(SLOT, name=f"{name}, steered", width=self.width, prompt=prompt)

    def norm(self, pipe: Any) -> float:
        return 1.0  # only the direction counts

    def load(self, folder: str | os.PathLike[str], *, embed_dim: int | None = None, **options: Any) -> Any:
        from diffusers import DiffusionPipeline

        from .stated_parts import load_parts

        return load_parts(DiffusionPipeline.from_pretrained, folder, **options)

    @contextmanager
    def conditioned(
        self,
        pipe: Any,
        embeds: torch.Tensor,
        *,
        num: int,
        guided: bool,
        negative: torch.Tensor | None = None,
        strength: float = STRENGTH,
        rounds: int = 1,
        start: float = 0.0,
        end: float = 1.0,
    ) -> Iterator[dict[str, Any]]:
        """As of :class:`Host`; ``negative`` is what pictures are to be unlike, guided or not.

        Args:
            strength: how far one round moves the clean latents, root mean square, as a multiple of their uncertainty:
                of the share of noise at that step, 1 at the beginning and 0 at the end.
            rounds: moves a step.
            start, end: shares of the steps, 0..1, between which they are moved.

        Raises:
            InputError, ShapeError: numbers or embeddings that do not fit.
        """
        if embeds.ndim != 2:
            raise ShapeError(f"steering: wanted one embedding a picture, (B, D), got {tuple(embeds.shape)}")
        if not (0 <= start <= end <= 1 and strength >= 0 and rounds >= 1):
            came = f"{strength}, {rounds}, {start} and {end}"
            raise InputError(f"strength, rounds, start, end: wanted 0 or more, 1 or more, 0..1 in order, got {came}")
        rows = (embeds if negative is None else embeds - away_from(negative, embeds, 1)).repeat_interleave(num, dim=0)
        scheduler, own = pipe.scheduler, pipe.scheduler.step

        @functools.wraps(own)  # pipelines look at its signature
        def step(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **options: Any) -> Any:
            place = int((scheduler.timesteps == timestep).nonzero()[0])
            if start <= place / len(scheduler.timesteps) < end:
                clean, slope = _clean(scheduler, place, timestep, sample, model_output)
                far = strength * _noise(scheduler, place, timestep)
                pairs = zip(clean.split(1), rows.split(1), strict=True)  # or memory grows with the batch
                with _in_range(pipe.vae):
                    moved = torch.cat([self._moved(pipe.vae, one, row, far, rounds) for one, row in pairs])
                model_output = model_output + ((moved - clean) / slope).to(model_output)
            return own(model_output, timestep, sample, *args, **options)

        with bound_method(scheduler, "step", step), _frugal(pipe.vae, self.eyes):
            yield {}

    @torch.enable_grad()
    def _moved(self, vae: Any, clean: torch.Tensor, row: torch.Tensor, strength: float, rounds: int) -> torch.Tensor:
        """(1, C, h, w), nearer to the embedding (1, D)."""
        for _ in range(rounds):
            leaf = clean.detach().requires_grad_()
            likeness = (self.look(_decoded(vae, leaf)) * row.to(leaf)).sum()
            (gradient,) = torch.autograd.grad(LOSS_SCALE * likeness, leaf)
            clean = clean + strength * gradient / gradient.square().mean().sqrt().clamp(min=1e-12)
        return clean.detach()


def _flows(scheduler: Any) -> bool:
    """Whether latents are ``(1 - sigma) * clean + sigma * noise``, and the network predicts ``noise - clean``."""
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    return kind == "flow_prediction" or type(scheduler).__name__.startswith("FlowMatch")


def _noise(scheduler: Any, place: int, t: Any) -> float:
    """Share of noise, 0..1, in what the network sees: the clean latents that it points at are about as far off."""
    if _flows(scheduler):
        return float(scheduler.sigmas[place])
    return float((1 - scheduler.alphas_cumprod[round(float(t))]).sqrt())


def _clean(
    scheduler: Any, place: int, t: Any, sample: torch.Tensor, predicted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean latents that a prediction points at, float32, and how far they move when it does."""
    sample, predicted = sample.float(), predicted.float()
    if _flows(scheduler):
        sigma = scheduler.sigmas[place].to(sample)
        return sample - sigma * predicted, -sigma
    seen, one = scheduler.scale_model_input(sample, t), sample.new_ones(())
    return clean_estimate(scheduler, seen, t, predicted), clean_estimate(scheduler, 0 * one, t, one)


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) -> (1, 3, H, W) in 0..1, float32."""
    latents = latents / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float() / 2 + 0.5


@contextmanager
def _in_range(vae: Any) -> Iterator[None]:
    """Within the block an autoencoder that overflows in float16, as SDXL's does, is float32."""
    before = vae.dtype
    overflows = before == torch.float16 and getattr(vae.config, "force_upcast", False)
    if overflows:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if overflows:
            vae.to(before)


@contextmanager
def _frugal(vae: Any, eyes: nn.Module) -> Iterator[None]:
    """Within the block nothing is kept for gradients of weights, and of an autoencoder only its blocks' inputs."""
    with ExitStack() as undo:
        for weight in [p for p in (*vae.parameters(), *eyes.parameters()) if p.requires_grad]:
            undo.callback(weight.requires_grad_, True)
            weight.requires_grad_(False)
        if getattr(vae, "_supports_gradient_checkpointing", False) and not vae.is_gradient_checkpointing:
            undo.callback(vae.disable_gradient_checkpointing)
            vae.enable_gradient_checkpointing()
        yield
