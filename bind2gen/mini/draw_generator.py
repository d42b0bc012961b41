"""The generator of stage ``draw``: a stock UNet on an 8 x 8 grid, conditioned as Stable unCLIP conditions its own."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from torch import nn

from ..hosts.pictures.feature_autoencoder import FeatureAutoencoder
from .draw_conditions import blend_with_concept, class_labels, embedding_noise_schedule, fit_normalizer, mean_by_concept
from .draw_decoder import to_pixels
from .draw_pack import Pack

WIDTH, LAYERS = 256, 3  # of the one level; transformer layers behind each of its three residual blocks
NOISE_SHIFT = 1.6  # of noise over signal beside the cosine schedule's: features hold more than pixels do
TIMESTEPS = 1000
TEXT_WIDTH = 64  # of the states of prompts, which are zeros
NOISED_SHARE = 0.5  # share of samples whose embedding is noised, so that embeddings near a photo's also work
MAX_NOISE_LEVEL = 600  # of 1000
BLENDED_SHARE = 0.5  # share of samples whose embedding is drawn towards the mean of its kind: what a sound gives
CONDITION_DROP = 0.12  # share of samples without condition, for guidance
GUIDANCE, SAMPLING_STEPS = 3.0, 25
DRAWN_AT_ONCE = 128


def build_generator(latent_channels: int, latent_size: int, embed_dim: int) -> UNet2DConditionModel:
    """Untrained; 20.5 million parameters for 112 channels and embeddings of 256."""
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(WIDTH,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None,
        layers_per_block=1,
        transformer_layers_per_block=LAYERS,
        attention_head_dim=4,  # as diffusers has it, how many heads
        cross_attention_dim=TEXT_WIDTH,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * embed_dim,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def noise_schedule() -> DDPMScheduler:
    """The cosine schedule (arXiv 2102.09672) with :data:`NOISE_SHIFT` as arXiv 2301.11093 shifts it."""
    angle = torch.linspace(0, math.pi / 2, TIMESTEPS + 1, dtype=torch.float64)[:-1]  # its end is the last step's own
    signal = 1 / (1 + (NOISE_SHIFT * angle.tan()).square())
    betas = 1 - signal[1:] / signal[:-1]
    return DDPMScheduler(
        trained_betas=[*betas.tolist(), 0.999],
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def sampler() -> DPMSolverMultistepScheduler:
    """For drawing along :func:`noise_schedule`; fresh noise at every step mends what went wrong at an earlier one."""
    return DPMSolverMultistepScheduler.from_config(noise_schedule().config, algorithm_type="sde-dpmsolver++")


class Conditions(nn.Module):
    """Class labels of the UNet: noised image embeddings and their noise levels.

    Args:
        pack: whose photos are drawn.
    """

    def __init__(self, pack: Pack) -> None:
        super().__init__()
        size = math.sqrt(pack.embeds.shape[1])
        embeds = size * F.normalize(pack.embeds, dim=1)
        means = mean_by_concept(embeds[torch.from_numpy(pack.typical)], pack.names[pack.typical])  # what sounds become
        self.normalizer = fit_normalizer(embeds[torch.from_numpy(~pack.held_out)])
        self.register_buffer("embeds", embeds)
        self.register_buffer("means", size * F.normalize(torch.stack([means[kind] for kind in pack.kinds]), dim=1))
        self.register_buffer("kind", torch.from_numpy(pack.kind))
        self.schedule = embedding_noise_schedule()

    def drawn(self, chosen: torch.Tensor) -> torch.Tensor:
        """(B, 2D) for training on the photos of these numbers (B,): some noised, near a mean, or empty."""
        count, at = len(chosen), chosen.device
        embeds = blend_with_concept(self.embeds[chosen], self.means[self.kind[chosen]], BLENDED_SHARE)
        level = torch.randint(0, MAX_NOISE_LEVEL, (count,), device=at)
        labels = self.of(embeds, level * (torch.rand(count, device=at) < NOISED_SHARE))
        return labels * (torch.rand(count, 1, device=at) >= CONDITION_DROP)

    def of(self, embeds: torch.Tensor, level: torch.Tensor | None = None) -> torch.Tensor:
        """(B, 2D) of embeddings (B, D) of norm sqrt(D), not noised where no level is given."""
        level = torch.zeros(len(embeds), dtype=torch.long, device=embeds.device) if level is None else level
        return class_labels(embeds, level, self.normalizer, self.schedule)


def predicted(
    unet: UNet2DConditionModel, latents: torch.Tensor, timesteps: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The UNet's velocity; it is told nothing by text."""
    states = torch.zeros(len(latents), 1, unet.config.cross_attention_dim, device=latents.device)
    return unet(latents, timesteps, encoder_hidden_states=states, class_labels=labels).sample.float()


def generator_loss(
    unet: UNet2DConditionModel, schedule: DDPMScheduler, latents: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of the velocity at random levels of noise."""
    timesteps, noise = torch.randint(TIMESTEPS, (len(latents),), device=latents.device), torch.randn_like(latents)
    found = predicted(unet, schedule.add_noise(latents, noise, timesteps), timesteps, labels)
    return F.mse_loss(found, schedule.get_velocity(latents, noise, timesteps))


@torch.no_grad()
def sample(unet: UNet2DConditionModel, labels: torch.Tensor, guidance: float = GUIDANCE, seed: int = 0) -> torch.Tensor:
    """Latents (N, C, H, W) for class labels (N, 2D), in :data:`SAMPLING_STEPS` steps."""
    scheduler = sampler()
    scheduler.set_timesteps(SAMPLING_STEPS)
    draw, side = torch.Generator(labels.device).manual_seed(seed), unet.config.sample_size
    shape = (len(labels), unet.config.in_channels, side, side)
    latents = torch.randn(shape, generator=draw, device=labels.device) * scheduler.init_noise_sigma
    both = torch.cat([torch.zeros_like(labels), labels])
    for step in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([latents, latents]), step)
        empty, asked = predicted(unet, scaled, step.to(labels.device).expand(len(both)), both).chunk(2)
        latents = scheduler.step(empty + guidance * (asked - empty), step, latents, generator=draw).prev_sample
    return latents


@torch.no_grad()
def draw(
    unet: UNet2DConditionModel, autoencoder: FeatureAutoencoder, labels: torch.Tensor, seed: int = 0
) -> np.ndarray:
    """Pictures (N, S, S, 3) uint8 for class labels (N, 2D), :data:`DRAWN_AT_ONCE` at a time."""
    made = []
    for number, part in enumerate(labels.split(DRAWN_AT_ONCE)):
        made.append(to_pixels(autoencoder.decode(sample(unet, part, seed=seed + 1000 * number)).sample))
    return np.concatenate(made)
