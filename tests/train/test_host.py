from __future__ import annotations

import numpy as np
import torch
from diffusers import StableUnCLIPImg2ImgPipeline
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file

from bind2gen.imagebind.model import ImageBindModel
from bind2gen.train import host
from bind2gen.train.autoencoder import build_autoencoder, reconstruction_loss, to_unit_range, train_autoencoder
from bind2gen.train.data import ImageSet, Sample
from bind2gen.train.loop import LoopConfig
from bind2gen.train.mini import TEMPLATES, mini_config, write_vocabulary

LOOP = LoopConfig(steps=2, batch_size=4, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5, save_every=10)


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


def test_unet_training_moves_both_parts_and_keeps_the_conditions_of_mirror_images(tmp_path):
    images = photos()
    torch.manual_seed(0)
    imagebind = ImageBindModel(mini_config(), modalities=["image"]).eval()
    autoencoder = build_autoencoder().eval()
    conditions = host.conditions_of(images, autoencoder, imagebind)
    assert torch.allclose(conditions.image_embeds.norm(dim=-1), torch.full((12, 2), 16.0), atol=1e-3)
    mirrored = ImageSet(np.ascontiguousarray(images.pixels[:, :, ::-1]), images.samples)
    swapped = host.conditions_of(mirrored, autoencoder, imagebind)
    assert torch.allclose(swapped.latents[:, 0], conditions.latents[:, 1], atol=1e-4)

    bpe = SimpleTokenizer(str(write_vocabulary(tmp_path)))
    tokenizer = host.build_tokenizer(bpe.encoder, list(bpe.bpe_ranks))
    normalizer = host.fit_normalizer(conditions.image_embeds[:, 0])
    host.train_unet(images, conditions, tokenizer, TEMPLATES, normalizer, LOOP, tmp_path / "unet")
    trained = load_file(tmp_path / "unet" / "checkpoint" / "model.safetensors")
    torch.manual_seed(0)
    fresh = torch.nn.ModuleDict({"unet": host.build_unet(256), "text_encoder": host.build_text_encoder(tokenizer)})
    assert trained.keys() == fresh.state_dict().keys()


def test_the_shortened_tokenizer_agrees_with_the_encoders(tmp_path):
    bpe = SimpleTokenizer(str(write_vocabulary(tmp_path)))
    tokenizer = host.build_tokenizer(bpe.encoder, list(bpe.bpe_ranks))
    for text in ("a photo of a helicopter", "police van", "an unheard-of wombat"):
        ids = tokenizer(text).input_ids
        assert ids[1:-1] == bpe.encode(text) and ids[-1] == bpe.eot_token_id == max(bpe.encoder.values())


def test_reconstruction_loss_is_zero_only_for_equal_pictures():
    target = to_unit_range(photos(3).pixels)
    assert reconstruction_loss(target, target) == 0
    assert reconstruction_loss(target * 0.9, target) > 0


def test_training_the_decoder_alone_leaves_the_latents(tmp_path):
    torch.manual_seed(0)
    model = build_autoencoder()
    x = to_unit_range(photos(2).pixels)
    before, picture = model.encode(x).latent_dist.mean.detach(), model.decode(torch.zeros(1, 12, 8, 8)).sample.detach()
    train_autoencoder(model, photos(), photos(4), LOOP, tmp_path, decoder_only=True)
    assert torch.equal(model.encode(x).latent_dist.mean, before)
    assert not torch.equal(model.decode(torch.zeros(1, 12, 8, 8)).sample, picture)
