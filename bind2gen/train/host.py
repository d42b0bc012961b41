"""Training an unCLIP host: a latent UNet conditioned on noised image embeddings, and a small text encoder beside it.

The parts and their conditioning are those of Stable unCLIP as diffusers runs it, so that the result loads there.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .autoencoder import LATENT_CHANNELS
from .conditions import Conditions, Draws, concept_means, drawn_for
from .data import ImageSet
from .loop import LoopConfig, train
from .towers import captions

LATENT_SIZE = 8
TEXT_WIDTH = 64
TEXT_TOKENS = 16
EMBED_DROP = 0.1  # share of samples without image embedding: the unconditional half of classifier-free guidance
PROMPT_SHARE = 0.25  # share of samples that also get a caption; all others get the empty prompt
NOISED_SHARE = 0.5  # share of samples whose embedding is noised, so that embeddings near a photo's also work
MAX_NOISE_LEVEL = 600  # of 1000
BLENDED_SHARE = 0.5  # share of samples whose embedding is drawn towards the mean of its concept: what a sound gives
# Logarithm of noise over signal: mean and deviation of its draws (the form is EDM's, arXiv 2206.00364). From latents
# with as much noise as signal the network sees the whole picture, so shapes are decided before that: most of a small
# budget goes there. With EDM's own mean it goes to texture.
LEVEL_MEAN, LEVEL_DEVIATION = 0.9, 1.0
EVEN_LEVELS = 0.15  # share of draws that are even over the schedule's steps instead


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
    """Training schedule of the latents: Stable Diffusion's, ending in pure noise (arXiv 2305.08891).

    Latents are not pixels: they reach far beyond -1..1, where DDIM and DDPM clip them unless told otherwise. Told here,
    it is kept by every scheduler that is made of this one's settings.
    """
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
    )


def embedding_noise_schedule() -> DDPMScheduler:
    """Schedule of the noise on image embeddings: the one that Stable unCLIP publishes."""
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False)


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


def blend_with_concept(image_embeds: torch.Tensor, means: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Move a random share of embeddings (B, D) a random part of the way to their concept's mean (B, D), norm kept.

    An embedding that comes from a sound says which concept, and little more: the host must know such ones too.

    Args:
        share: (B,) probability of each to be moved.
    """
    part, whether = torch.rand(2, len(image_embeds), 1, device=image_embeds.device)
    part = part * (whether < share[:, None])
    blended = torch.lerp(image_embeds, means, part)
    return blended * image_embeds.norm(dim=1, keepdim=True) / blended.norm(dim=1, keepdim=True)


def level_weights(schedule: DDPMScheduler) -> torch.Tensor:
    """Probability of each of the schedule's steps to be drawn in training, (T,)."""
    signal = schedule.alphas_cumprod.double()
    level = 0.5 * torch.log((1 - signal) / signal.clamp(min=1e-12))
    density = torch.exp(-0.5 * ((level - LEVEL_MEAN) / LEVEL_DEVIATION).square()) * torch.gradient(level)[0]
    density[signal < 1e-6] = 0  # pure noise: the logarithm has no end there
    return ((1 - EVEN_LEVELS) * density / density.sum() + EVEN_LEVELS / len(density)).float()


def train_unet(
    images: ImageSet,
    conditions: Conditions,
    tokenizer: CLIPTokenizer,
    templates: tuple[str, ...],
    normalizer: StableUnCLIPImageNormalizer,
    config: LoopConfig,
    folder: Path,
    start: dict[str, torch.Tensor] | None = None,
) -> nn.ModuleDict:
    """UNet and text encoder together; returns ``{"unet", "text_encoder"}`` (moving averages).

    Args:
        start: state dict of an earlier run to go on from.
    """
    model = nn.ModuleDict(
        {"unet": build_unet(conditions.image_embeds.shape[-1]), "text_encoder": build_text_encoder(tokenizer)}
    )
    if start is not None:
        model.load_state_dict(start)
    schedule, embed_schedule = noise_schedule(), embedding_noise_schedule()
    levels, draws = level_weights(schedule), Draws(conditions, images.concepts())
    photo_embeds, concepts, typical = conditions.of_photos(), images.concepts(), conditions.typical.numpy()
    found = concept_means(photo_embeds, concepts, typical)
    means = math.sqrt(photo_embeds.shape[-1]) * F.normalize(torch.stack([found[name] for name in concepts]), dim=-1)
    blended = BLENDED_SHARE * torch.from_numpy(drawn_for(concepts, typical)).float()

    def step_loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        count = config.batch_size
        chosen, pictures = draws.draw(count, rng)
        side = torch.from_numpy(rng.integers(2, size=count))
        latents = conditions.latents[pictures, side]
        timesteps = torch.multinomial(levels, count, replacement=True)
        noise = torch.randn_like(latents)
        level = torch.randint(0, MAX_NOISE_LEVEL, (count,)) * (torch.rand(count) < NOISED_SHARE)
        embeds = blend_with_concept(conditions.image_embeds[pictures, side], means[chosen], blended[chosen])
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
        return F.mse_loss(predicted.float(), target), {}

    return train(model, step_loss, config, folder)
