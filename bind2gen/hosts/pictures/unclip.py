"""Stable unCLIP (diffusers' StableUnCLIPImg2ImgPipeline) and its quirks, one named function each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.utils.torch_utils import randn_tensor

from ...errors import HostError, InputError, ShapeError
from .contract import SPACES, VIT_H, Host, Slot, away_from, bound_method, check_width, length_of, slot_of
from .prompts import layers_skipped, prompts_for, warn_of_lost_words
from .unclip_files import load_host

GUIDANCE = {"guidance_scale": 10.0, "guidance_rescale": 0.0}  # Stable unCLIP's defaults
MIRRORS = "sd2-community/stable-diffusion-2-1-unclip or diffusers/stable-diffusion-2-1-unclip-i2i-h"
SLOT = Slot(
    name="Stable unCLIP 2.1", space="vit-h", width=SPACES["vit-h"][0], norm="measured", negative="zeros", media="image",
    needs="nothing else", prompt=True, weights=VIT_H + MIRRORS, licence="CreativeML OpenRAIL++-M", gigabytes=2.6,
    goes_with="prompt, LoRA",
)  # fmt: skip

Generators = torch.Generator | list[torch.Generator] | None


class UnCLIP(Host):
    """Stable unCLIP."""

    SLOTS = (SLOT,)
    pipelines = ("StableUnCLIPImg2ImgPipeline",)

    def slot(self, pipe: Any) -> Slot | None:
        return slot_of(SLOT, host_width(pipe)) if self.takes(type(pipe)) else None

    def norm(self, pipe: Any) -> float | None:
        """E||x||^2 = sum(mean^2 + std^2) of the training data, by which the host standardises embeddings itself.

        A normaliser as diffusers makes it, mean 0 and std 1, was never measured (Stable unCLIP ViT-H probably ships
        one) and says nothing.
        """
        # On the CPU: double does not exist on MPS.
        mean, std = (t.detach().cpu().double() for t in (pipe.image_normalizer.mean, pipe.image_normalizer.std))
        return float((mean.square() + std.square()).sum().sqrt()) if mean.any() or not std.eq(1).all() else None

    @contextmanager
    def conditioned(
        self, pipe: Any, embeds: torch.Tensor, *, num: int, guided: bool, negative: torch.Tensor | None = None
    ) -> Iterator[dict[str, Any]]:
        if embeds.ndim != 2:
            raise HostError(f"{SLOT.name}: wanted one embedding a picture, (B, D), got {tuple(embeds.shape)}")

        def encode(
            *, device: Any, do_classifier_free_guidance: bool, noise_level: Any, generator: Any, **_: Any
        ) -> Any:
            rows = to_host(embeds, device=device, dtype=pipe.unet.dtype)
            labels = noised_embeddings(pipe, rows, int(noise_level), num, generator)
            if not do_classifier_free_guidance:
                return labels
            return with_negative_half(pipe, labels, negative, int(noise_level), num)

        with bound_method(pipe, "_encode_image", encode):
            yield {"image_embeds": embeds, "image": None}

    def load(self, folder: str | os.PathLike[str], *, embed_dim: int | None = None, **options: Any) -> Any:
        return load_host(folder, **options)


# ---- fit ----


def host_width(host: Any) -> int:
    """Width of the image embeddings that a host takes, from its UNet; checked against its image normaliser.

    Raises:
        HostError: the UNet is not conditioned on projected class embeddings, or the two disagree.
    """
    config, name = host.unet.config, type(host).__name__
    if config.get("class_embed_type") != "projection" or not config.get("projection_class_embeddings_input_dim"):
        raise HostError(f"{name}: wanted a UNet conditioned on image embeddings (unCLIP), this one is not")
    width = config.projection_class_embeddings_input_dim // 2  # the other half is the noise level
    found = host.image_normalizer.mean.shape[-1]
    if found != width:
        raise HostError(f"{name}: the UNet takes embeddings of width {width}, its image_normalizer {found}")
    return width


def check_host(host: Any, embed_dim: int) -> None:
    """Refuse a host that cannot take embeddings of width ``embed_dim``.

    Raises:
        HostError: naming both widths, and the variant where it is a known one.
    """
    check_width(getattr(host, "name_or_path", "") or type(host).__name__, embed_dim, UnCLIP().slot(host))


# ---- what the host expects of embeddings and prompts ----


def host_norm(host: Any) -> float:
    """Length of a typical embedding: of :meth:`UnCLIP.norm`, else the ``norm`` of the host's adapter, else a guess."""
    adapter = getattr(host, "adapter", None)
    return length_of(UnCLIP().norm(host), adapter and adapter.config.norm, host_width(host))


def to_host(embeds: torch.Tensor, *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(B, D) to where the host computes and to its dtype: float32 embeddings into a half-precision host fail."""
    return embeds.to(device=device, dtype=dtype)


def noised_embeddings(
    host: Any, image_embeds: torch.Tensor, noise_level: int, num_images: int, generator: Generators
) -> torch.Tensor:
    """Repeat, noise and mark embeddings as the host does, with noise that depends on each picture's generator alone.

    The host noises before it repeats and draws one batch of noise, even at level 0, so a picture would depend on its
    neighbours. Here a list of generators gives each picture its own draw.

    Args:
        image_embeds: (B, D) raw embeddings.
        noise_level: 0 to the noising schedule's last step.
        num_images: pictures an embedding.
        generator: one for all, or one a picture (B * num_images of them).

    Returns:
        (B * num_images, 2 D): noised embeddings and the encoded noise level.
    """
    embeds = image_embeds.repeat_interleave(num_images, dim=0)
    noise = randn_tensor(embeds.shape, generator=generator, device=embeds.device, dtype=torch.float32)
    normalizer, level = host.image_normalizer, torch.full((len(embeds),), noise_level, device=embeds.device)
    mean, std = (t.detach().to(embeds.device, torch.float32) for t in (normalizer.mean, normalizer.std))
    standard = (embeds.float() - mean) / std
    noised = host.image_noising_scheduler.add_noise(standard, noise, level) * std + mean
    mark = get_timestep_embedding(level, embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([noised, mark], dim=1).to(image_embeds.dtype)


def with_negative_half(
    host: Any, class_labels: torch.Tensor, negative: torch.Tensor | None, noise_level: int, num_images: int
) -> torch.Tensor:
    """Under guidance the first half of the batch is unconditional: all zeros, the noise level's part included.

    Args:
        negative: (1 or B, D) raw embeddings in its place. Their noise is always the same: the pictures' own generators
            draw what they draw without.
    """
    if negative is None:
        return torch.cat([torch.zeros_like(class_labels), class_labels])
    rows = away_from(negative, class_labels.chunk(2, dim=1)[0], num_images)
    still = [torch.Generator().manual_seed(0) for _ in rows]
    return torch.cat([noised_embeddings(host, rows, noise_level, 1, still), class_labels])


def unet_conditions(
    host: Any,
    image_embeds: torch.Tensor,
    prompt: str | list[str] | None,
    negative_prompt: str | list[str] | None,
    *,
    negative: torch.Tensor | None = None,
    noise_level: int,
    num_images: int,
    generator: Generators,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the UNet is conditioned on, for B embeddings (B, D) on the host's device.

    Whether there is guidance, layers to skip and a LoRA scale, the host knows (:class:`SteppedMixin`). Guided calls
    are guided away from ``negative``, (1 or B, D), or from zeros.

    Returns:
        Prompt embeddings (N, T, C) and class labels (N, 2 D); N is B * num_images, or twice that with the negative
        half first under guidance.

    Raises:
        InputError, HostError: prompts or ``clip_skip`` that do not fit.
    """
    lora_scale = (host.cross_attention_kwargs or {}).get("scale")

    def encoded(texts: str | list[str] | None, name: str) -> torch.Tensor:
        listed = prompts_for(texts, len(image_embeds), name)
        states = host.encode_prompt(listed, image_embeds.device, num_images, False, lora_scale=lora_scale)[0]
        if any(listed):
            warn_of_lost_words(host.tokenizer, listed, states, name)
        return states

    with layers_skipped(host.text_encoder, host.clip_skip):
        prompt_embeds = encoded(prompt, "prompt")
    class_labels = noised_embeddings(host, image_embeds, noise_level, num_images, generator)
    if not host.do_classifier_free_guidance:
        return prompt_embeds, class_labels
    # As in diffusers, clip_skip does not count for the negative half.
    both = torch.cat([encoded(negative_prompt, "negative_prompt"), prompt_embeds])
    return both, with_negative_half(host, class_labels, negative, noise_level, num_images)


# ---- from embeddings to latents ----


def picture_size(host: Any, height: int | None, width: int | None) -> tuple[int, int]:
    """Height and width in pixels; default is what the host was trained on.

    Raises:
        InputError: not a positive multiple of the autoencoder's scale.
    """
    scale = host.vae_scale_factor
    size = tuple(host.unet.config.sample_size * scale if side is None else side for side in (height, width))
    if not all(isinstance(side, int) and side > 0 and side % scale == 0 for side in size):
        raise InputError(f"height and width: wanted positive multiples of {scale}, got {size[0]} x {size[1]}")
    return size


def start_latents(
    host: Any,
    latents: torch.Tensor | None,
    count: int,
    size: tuple[int, int],
    generator: Generators,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Unit noise, drawn or given, scaled to what the scheduler starts from.

    The host's own call takes given latents as they are: neither moved, nor cast, nor scaled.

    Raises:
        ShapeError: given latents of another shape.
    """
    channels = host.unet.config.in_channels
    shape = (count, channels, *(side // host.vae_scale_factor for side in size))
    if latents is not None:
        if not isinstance(latents, torch.Tensor) or tuple(latents.shape) != shape:
            came = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ShapeError(f"latents: wanted a tensor {shape}, got {came}")
        latents = latents.to(dtype)
    return host.prepare_latents(count, channels, *size, dtype, device, generator, latents)


def decode(host: Any, latents: torch.Tensor, output_type: str) -> Any:
    """(N, C, h, w) latents to pictures: a list of PIL images, an array, a tensor, or the latents themselves."""
    if output_type != "latent":
        latents = host.vae.decode(latents.to(host.vae.dtype) / host.vae.config.scaling_factor, return_dict=False)[0]
    return host.image_processor.postprocess(latents.detach(), output_type=output_type)
