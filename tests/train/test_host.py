from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, StableUnCLIPImg2ImgPipeline
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from bind2gen.hosts.patch_autoencoder import PatchAutoencoder
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train import host
from bind2gen.train.autoencoder import (
    FeatureLoss,
    fit_autoencoder,
    peak_signal_to_noise,
    reconstruction_loss,
    to_unit_range,
    train_decoder,
)
from bind2gen.train.conditions import Conditions, conditions_of
from bind2gen.train.data import ImageSet, Sample
from bind2gen.train.loop import LoopConfig
from bind2gen.train.mini_package import SAMPLER
from bind2gen.train.mini_recipe import TEMPLATES, mini_config, write_vocabulary

LOOP = LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5, save_every=10)


def photos(count: int = 12) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return ImageSet(pixels, [Sample(f"{i}.png", "dog" if i % 2 else "cat", {"label": "pug"}) for i in range(count)])


def test_class_labels_are_those_of_the_pipeline():
    embeds = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    normalizer = host.fit_normalizer(torch.randn(50, 256, generator=torch.Generator().manual_seed(1)) * 2 + 1)
    schedule = host.embedding_noise_schedule()
    pipeline = object.__new__(StableUnCLIPImg2ImgPipeline)
    object.__setattr__(pipeline, "image_normalizer", normalizer)
    object.__setattr__(pipeline, "image_noising_scheduler", schedule)
    for level in (0, 250):
        torch.manual_seed(7)
        noise = torch.randn_like(embeds)
        wanted = StableUnCLIPImg2ImgPipeline.noise_image_embeddings(pipeline, embeds, noise_level=level, noise=noise)
        torch.manual_seed(7)
        got = host.class_labels(embeds, torch.full((3,), level), normalizer, schedule)
        assert torch.allclose(got, wanted, atol=1e-5)


def test_the_normalizer_standardises_what_it_was_fitted_on():
    embeds = torch.randn(500, 16, generator=torch.Generator().manual_seed(0)) * 3 + 5
    standard = host.fit_normalizer(embeds).scale(embeds)
    assert standard.mean(0).abs().max() < 1e-4 and (standard.std(0) - 1).abs().max() < 1e-4


def prepared(images: ImageSet, typical: np.ndarray) -> tuple[Conditions, PatchAutoencoder, ImageBindModel]:
    torch.manual_seed(0)
    imagebind = ImageBindModel(mini_config(), modalities=["image"]).eval()
    autoencoder = fit_autoencoder(images).eval()
    return conditions_of(images, typical, autoencoder, imagebind, cuts=2), autoencoder, imagebind


def tokenizer_in(folder) -> CLIPTokenizer:
    bpe = SimpleTokenizer(str(write_vocabulary(folder)))
    return host.build_tokenizer(bpe.encoder, list(bpe.bpe_ranks))


def test_unet_training_moves_both_parts_and_goes_on_from_an_earlier_run(tmp_path):
    images, typical = photos(), np.arange(12) < 4
    conditions, *_ = prepared(images, typical)
    tokenizer, normalizer = tokenizer_in(tmp_path), host.fit_normalizer(conditions.of_photos())
    torch.manual_seed(0)
    fresh = torch.nn.ModuleDict({"unet": host.build_unet(256), "text_encoder": host.build_text_encoder(tokenizer)})
    start = {name: value.clone() for name, value in fresh.state_dict().items()}
    arguments = (images, conditions, tokenizer, TEMPLATES, normalizer)
    host.train_unet(*arguments, LOOP, tmp_path / "first", start)
    trained = load_file(tmp_path / "first" / "checkpoint" / "model.safetensors")
    assert trained.keys() == start.keys()
    moved = [name for name in start if not torch.equal(trained[name], start[name])]
    assert any(name.startswith("unet.") for name in moved) and any(name.startswith("text_encoder.") for name in moved)
    # A learning rate of next to nothing keeps what it started from.
    still = replace(LOOP, learning_rate=1e-12, precision="no")
    host.train_unet(*arguments, still, tmp_path / "second", trained)
    kept = load_file(tmp_path / "second" / "checkpoint" / "model.safetensors")
    assert all(torch.allclose(kept[name], trained[name], atol=1e-6) for name in trained)


def test_most_training_steps_are_drawn_where_shapes_are_decided():
    schedule = host.noise_schedule()
    weights = host.level_weights(schedule)
    signal = schedule.alphas_cumprod
    level = 0.5 * torch.log((1 - signal) / signal.clamp(min=1e-12))
    assert weights.sum() == pytest.approx(1, abs=1e-5) and weights.min() > 0
    middle = (level - host.LEVEL_MEAN).abs() < host.LEVEL_DEVIATION
    assert 0.6 < weights[middle].sum() < 0.75 and weights[-1] < 3e-4


def test_other_schedulers_made_of_the_packaged_one_do_not_clip_latents():
    """Clipped to -1..1, as DDIM and DDPM do by default, pictures turn grey."""
    packaged = DPMSolverMultistepScheduler.from_config(host.noise_schedule().config, algorithm_type=SAMPLER)
    for kind in (DDIMScheduler, DDPMScheduler):
        assert kind.from_config(packaged.config).config.clip_sample is False


def test_the_shortened_tokenizer_agrees_with_the_encoders(tmp_path):
    bpe = SimpleTokenizer(str(write_vocabulary(tmp_path)))
    tokenizer = tokenizer_in(tmp_path)
    for text in ("a photo of a helicopter", "police van", "an unheard-of wombat"):
        ids = tokenizer(text).input_ids
        assert ids[1:-1] == bpe.encode(text) and ids[-1] == bpe.eot_token_id == max(bpe.encoder.values())


def test_reconstruction_loss_is_zero_only_for_equal_pictures():
    target = to_unit_range(photos(3).pixels)
    assert reconstruction_loss(target, target) == 0
    assert reconstruction_loss(target * 0.9, target) > 0


def test_the_fit_beats_any_other_32_numbers_a_patch_and_mending_keeps_the_latents(tmp_path):
    images, torch_seed = photos(), torch.manual_seed(0)
    model, vision = fit_autoencoder(images), ImageBindModel(mini_config(), modalities=["image"]).towers["vision"]
    weights = {name: value.clone() for name, value in vision.state_dict().items()}
    x = to_unit_range(images.pixels[:2])
    before, rough = model.encode(x).latent_dist.mean.detach(), model(x).sample.detach()
    other = copy.deepcopy(model)
    turned = torch.linalg.qr(torch.randn(192, 32, generator=torch_seed))[0].T.reshape(32, 3, 8, 8)
    other.components.weight.data.copy_(turned)
    other.patches.weight.data.copy_(turned)
    with torch.no_grad():
        assert peak_signal_to_noise(model, images) > peak_signal_to_noise(other, images)

    train_decoder(model, images, photos(4), vision, LOOP, tmp_path)
    assert torch.equal(model.encode(x).latent_dist.mean, before)
    assert not torch.equal(model(x).sample, rough)
    assert all(torch.equal(value, weights[name]) for name, value in vision.state_dict().items())


def test_feature_loss_sees_blur_that_pixels_hardly_show():
    torch.manual_seed(0)
    loss = FeatureLoss(ImageBindModel(mini_config(), modalities=["image"]).towers["vision"])
    sharp = to_unit_range(photos(4).pixels)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    faint = sharp * 0.9
    assert loss(sharp, sharp) == 0
    assert loss(blurred, sharp) > 5 * loss(faint, sharp)
    loss(sharp.requires_grad_(), blurred).backward()
    assert sharp.grad.abs().max() > 0  # it can be trained on


def test_embeddings_move_towards_their_concept_and_keep_their_length():
    torch.manual_seed(0)
    embeds = torch.nn.functional.normalize(torch.randn(60, 16), dim=1) * 4
    means = torch.nn.functional.normalize(torch.randn(1, 16), dim=1).expand(60, 16) * 4
    blended = host.blend_with_concept(embeds, means, torch.full((60,), 0.5))
    assert torch.allclose(blended.norm(dim=1), torch.full((60,), 4.0), atol=1e-4)
    nearer = (blended * means).sum(1) - (embeds * means).sum(1)
    assert nearer.min() > -1e-3 and 0.2 < (nearer > 1e-3).float().mean() < 0.8
    some = torch.arange(60) % 3 == 0
    kept = host.blend_with_concept(embeds, means, some.float())
    assert torch.allclose(kept[~some], embeds[~some], atol=1e-5)
    assert not torch.isclose(kept[some], embeds[some], atol=1e-3).all(1).any()
