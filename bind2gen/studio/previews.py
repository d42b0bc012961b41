"""What a half-denoised picture will become: previews during denoising, for schedulers of any kind."""

from __future__ import annotations

from typing import Any

import torch

SMALL = 1e-6  # signal or noise levels that count as equal


def levels(scheduler: Any, step: int) -> tuple[float, float]:
    """Factors of picture and noise in the latents before ``step`` (at the count of steps: after the last).

    Schedulers that start from latents larger than unit noise (Euler and its kin) count in sigmas, and their latents are
    ``picture + sigma * noise``; the others keep the variance: ``sqrt(a) * picture + sqrt(1 - a) * noise``.
    """
    if float(scheduler.init_noise_sigma) > 1 + SMALL:
        return 1.0, float(scheduler.sigmas[step])
    if step >= len(scheduler.timesteps):
        return 1.0, 0.0
    kept = float(scheduler.alphas_cumprod[int(scheduler.timesteps[step])])
    return kept**0.5, (1 - kept) ** 0.5


def expected(scheduler: Any, step: int, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor | None:
    """The finished latents, as the step from ``before`` to ``after`` points at them.

    Both are one picture and one noise in known proportions, so the picture can be solved for: exact for DDIM, close for
    schedulers of higher order, a poor guess for those that add fresh noise.

    Args:
        scheduler: with its timesteps set.
        step: index of the step just done.
        before, after: (N, C, h, w) latents around it.

    Returns:
        (N, C, h, w), or None where the step changed nothing in the proportions (PNDM takes its second step twice).
    """
    signal, noise = levels(scheduler, step)
    signal_after, noise_after = levels(scheduler, step + 1)
    weight = noise * signal_after - noise_after * signal
    if abs(weight) < SMALL:
        return None
    return (noise * after - noise_after * before) / weight
