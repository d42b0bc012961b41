"""Training an unCLIP host: a latent UNet conditioned on noised image embeddings, and a small text encoder beside it.

The parts and their conditioning are those of Stable unCLIP as diffusers runs it, so that the result loads there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..hosts.patch_autoencoder import PatchAutoencoder
from ..imagebind.model import ImageBindModel
from .autoencoder import LATENT_CHANNELS, to_unit_range
from .data import ImageSet
from .loop import LoopConfig, train
from .towers import balanced_weights, captions, embed_photos

LATENT_SIZE = 8
TEXT_WIDTH = 64
TEXT_TOKENS = 16
EMBED_DROP = 0.1  # share of samples without image embedding: the unconditional half of classifier-free guidance
PROMPT_SHARE = 0.25  # share of samples that also get a caption; all others get the empty prompt
NOISED_SHARE = 0.5  # share of samples whose embedding is noised, so that embeddings near a photo's also work
MAX_NOISE_LEVEL = 600  # of 1000
BLENDED_SHARE = 0.5  # share of samples whose embedding is drawn towards the mean of its concept: what a sound gives
# Loss weight min(1, 1 / SNR) on the velocity: most of a small budget goes to the noisy steps, where the shape of the
# whole picture is decided. With min-SNR weights (arXiv 2303.09556) it went to texture.
BALANCE = 0.7  # concepts are drawn in proportion to count ** 0.7


@dataclass(frozen=True)
class Conditions:
    """Everything the UNet learns from, computed once.

    Attributes:
        latents: (N, 2, C, 8, 8) of each photo and its mirror image, scaled to unit deviation.
        image_embeds: (N, 2, D), norm sqrt(D).
        scaling_factor: that the latents were multiplied by; goes into the autoencoder's config.
    """

    latents: torch.Tensor
    image_embeds: torch.Tensor
    scaling_factor: float


def build_unet(embed_dim: int) -> UNet2DConditionModel:
    """Untrained UNet on an 8x8 latent grid; class embeddings are projected as in Stable unCLIP."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(192, 256),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type=None,  # two stages on an 8x8 grid: it would cost a fifth of the parameters and of the time
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * embed_dim,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def build_tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """CLIP's tokenizer over a shortened merge table."""
    # open_clip and transformers spell the two special tokens differently.
    spelling = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {spelling.get(token, token): number for token, number in vocabulary.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_TOKENS)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Untrained one-layer text encoder for prompts."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TEXT_TOKENS,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def noise_schedule() -> DDPMScheduler:
    """Training schedule of the latents: Stable Diffusion's, ending in pure noise (arXiv 2305.08891)."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def embedding_noise_schedule() -> DDPMScheduler:
    """Schedule of the noise on image embeddings: the one that Stable unCLIP publishes."""
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)


@torch.no_grad()
def conditions_of(images: ImageSet, autoencoder: PatchAutoencoder, imagebind: ImageBindModel) -> Conditions:
    """Latents and image embeddings of every photo and its mirror image."""
    both_latents, both_embeds = [], []
    for pixels in (images.pixels, np.ascontiguousarray(images.pixels[:, :, ::-1])):
        parts = [to_unit_range(pixels[i : i + 256]) for i in range(0, len(pixels), 256)]
        both_latents.append(torch.cat([autoencoder.encode(part).latent_dist.mode() for part in parts]))
        with torch.autocast("cpu", torch.bfloat16):
            both_embeds.append(embed_photos(imagebind, pixels))
    latents, embeds = torch.stack(both_latents, 1), torch.stack(both_embeds, 1)
    factor = 1 / latents.std().item()
    return Conditions((factor * latents).contiguous(), (math.sqrt(embeds.shape[-1]) * embeds).contiguous(), factor)


def fit_normalizer(image_embeds: torch.Tensor) -> StableUnCLIPImageNormalizer:
    """The host's image normaliser: mean and deviation of the embeddings (N, D) that it is trained on."""
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=image_embeds.shape[-1])
    with torch.no_grad():
        normalizer.mean.copy_(image_embeds.mean(0, keepdim=True))
        normalizer.std.copy_(image_embeds.std(0, keepdim=True))
    return normalizer.requires_grad_(False)


def class_labels(
    image_embeds: torch.Tensor,
    noise_level: torch.Tensor,
    normalizer: StableUnCLIPImageNormalizer,
    schedule: DDPMScheduler,
) -> torch.Tensor:
    """Noised embedding and its noise level, (B, 2D), as StableUnCLIPImg2ImgPipeline makes them."""
    standard = normalizer.scale(image_embeds)
    noised = normalizer.unscale(schedule.add_noise(standard, torch.randn_like(standard), noise_level))
    level = get_timestep_embedding(noise_level, image_embeds.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0)
    return torch.cat([noised, level], dim=1)


def blend_with_concept(image_embeds: torch.Tensor, means: torch.Tensor, share: float) -> torch.Tensor:
    """Move a random share of embeddings (B, D) a random part of the way to their concept's mean (B, D), norm kept.

    An embedding that comes from a sound says which concept, and little more: the host must know such ones too.
    """
    part = torch.rand(len(image_embeds), 1) * (torch.rand(len(image_embeds), 1) < share)
    blended = torch.lerp(image_embeds, means, part)
    return blended * image_embeds.norm(dim=1, keepdim=True) / blended.norm(dim=1, keepdim=True)


def concept_means(image_embeds: torch.Tensor, concepts: np.ndarray) -> torch.Tensor:
    """(N, D) -> (N, D): each row's concept mean, of the rows' own norm."""
    _, index = np.unique(concepts, return_inverse=True)
    index = torch.from_numpy(index)
    sums = torch.zeros(int(index.max()) + 1, image_embeds.shape[1]).index_add(0, index, image_embeds)
    return F.normalize(sums[index], dim=1) * image_embeds.norm(dim=1, keepdim=True)


def train_unet(
    images: ImageSet,
    conditions: Conditions,
    tokenizer: CLIPTokenizer,
    templates: tuple[str, ...],
    normalizer: StableUnCLIPImageNormalizer,
    config: LoopConfig,
    folder: Path,
) -> nn.ModuleDict:
    """UNet and text encoder together; returns ``{"unet", "text_encoder"}`` (moving averages)."""
    model = nn.ModuleDict(
        {"unet": build_unet(conditions.image_embeds.shape[-1]), "text_encoder": build_text_encoder(tokenizer)}
    )
    schedule, embed_schedule = noise_schedule(), embedding_noise_schedule()
    signal = schedule.alphas_cumprod
    loss_weights = ((1 - signal) / signal.clamp(min=1e-8)).clamp(max=1.0)
    weights = balanced_weights(images.concepts(), BALANCE)
    means = concept_means(conditions.image_embeds[:, 0], images.concepts())

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        count = config.batch_size
        chosen = rng.choice(len(weights), count, p=weights)
        side = torch.from_numpy(rng.integers(2, size=count))
        latents = conditions.latents[chosen, side]
        timesteps = torch.randint(0, len(signal), (count,))
        noise = torch.randn_like(latents)
        level = torch.randint(0, MAX_NOISE_LEVEL, (count,)) * (torch.rand(count) < NOISED_SHARE)
        embeds = blend_with_concept(conditions.image_embeds[chosen, side], means[chosen], BLENDED_SHARE)
        labels = class_labels(embeds, level, normalizer, embed_schedule)
        labels = labels * (torch.rand(count, 1) >= EMBED_DROP)
        texts, _ = captions(images, chosen, templates, rng)
        prompts = [text if rng.random() < PROMPT_SHARE else "" for text in texts]
        ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        predicted = model["unet"](
            schedule.add_noise(latents, noise, timesteps),
            timesteps,
            encoder_hidden_states=model["text_encoder"](ids)[0],
            class_labels=labels,
        ).sample
        target = schedule.get_velocity(latents, noise, timesteps)
        error = F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)
        return (loss_weights[timesteps] * error).mean(), {"velocity_mse": error.mean().item()}

    return train(model, step_loss, config, folder)
