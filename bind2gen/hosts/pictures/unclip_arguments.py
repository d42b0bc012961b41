"""Arguments of a Stable unCLIP call, checked before anything slow runs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from ...errors import Bind2GenWarning, HostError, InputError

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
LARGEST_NOISE = 2**13  # deviations: diffusers' own stand-in for pure noise is 2**12
MAX_IMAGES = 1000  # an input
DRAWING = ("DPMSolverMultistep", "DDIM", "DDPM", "EulerDiscrete", "EulerAncestralDiscrete", "UniPCMultistep", "PNDM")


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler that diffusers calls compatible and that draws grey, and warn of a setting that does.

    Raises:
        HostError: it does not follow the noise levels that the UNet was trained on; those that do are named.
    """
    name = type(scheduler).__name__
    # EDM's, and those of flow matching; and on a schedule that ends in pure noise those that cannot begin there.
    if not hasattr(scheduler, "alphas_cumprod") or float(scheduler.init_noise_sigma) > LARGEST_NOISE:
        known = ", ".join(f"{one}Scheduler" for one in DRAWING)
        words = f"{name} does not follow the noise levels that the UNet was trained on and draws grey"
        raise HostError(f"scheduler: {words}; wanted one of {known}")
    if getattr(scheduler.config, "clip_sample", False):
        advice = f"{name}.from_config(pipe.scheduler.config, clip_sample=False)"
        warnings.warn(f"scheduler: {name} clips latents, pictures will be grey; use {advice}", Bind2GenWarning, 3)


def check_numbers(host: Any, num_inference_steps: int, num_images: int, **others: tuple[int, int, int]) -> None:
    """Refuse numbers outside of what the host's noise schedule and its memory allow.

    Args:
        others: of this host alone: number, lowest and highest.

    Raises:
        InputError: naming the number, its range and what came.
    """
    limits = others | {
        "num_inference_steps": (num_inference_steps, 1, host.scheduler.config.num_train_timesteps),
        "num_images_per_prompt": (num_images, 1, MAX_IMAGES),
    }
    for name, (value, low, high) in limits.items():
        if not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name}: wanted a whole number in {low}..{high}, got {value!r}")
    guidance, rescale = host.guidance_scale, host.guidance_rescale
    if not isinstance(guidance, int | float) or not math.isfinite(guidance):
        raise InputError(f"guidance_scale: wanted a finite number, got {guidance!r}")
    if not isinstance(rescale, int | float) or not 0 <= rescale <= 1:
        raise InputError(f"guidance_rescale: wanted a number in 0..1, got {rescale!r}")


def check_words(output_type: str, callback_inputs: Sequence[str], known_inputs: Sequence[str]) -> None:
    """Refuse an output type that diffusers would silently replace, and tensors that no callback can get.

    Raises:
        InputError: naming what is known.
    """
    if output_type not in OUTPUT_TYPES:
        raise InputError(f"output_type: wanted one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")
    if unknown := sorted(set(callback_inputs) - set(known_inputs)):
        raise InputError(f"callback_on_step_end_tensor_inputs: {unknown} not among {', '.join(known_inputs)}")


def check_generator(generator: Any, pictures: int) -> None:
    """Refuse anything but None, one generator, or a list with one for each of the ``pictures``.

    Raises:
        InputError: naming both counts, or the type that came.
    """
    wanted = f"generator: wanted a torch.Generator, or a list of {pictures} (one a picture)"
    if isinstance(generator, list) and len(generator) != pictures:
        raise InputError(f"{wanted}, got {len(generator)}")
    for one in generator if isinstance(generator, list) else [generator]:
        if one is not None and not isinstance(one, torch.Generator):
            raise InputError(f"{wanted}, got {type(one).__name__}")
