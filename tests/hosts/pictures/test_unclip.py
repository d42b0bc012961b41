"""The host's quirks: our own loop equals the host's pipeline, and noise depends on each picture's generator alone."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableUnCLIPImg2ImgPipeline
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from bind2gen.errors import HostError, InputError, ShapeError
from bind2gen.hosts.pictures import unclip
from bind2gen.hosts.pictures.unclip_files import PARTS, load_host
from bind2gen.space.arithmetic import match_norm


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeds(count: int) -> torch.Tensor:
    return torch.randn(count, 32, generator=seeded(9))


@pytest.mark.parametrize("noise_level", [0, 300])
def test_noised_embeddings_are_the_hosts_own(tiny_pipeline, noise_level):
    theirs = StableUnCLIPImg2ImgPipeline.noise_image_embeddings
    wanted = theirs(tiny_pipeline, embeds(2), noise_level, generator=seeded(0))
    got = unclip.noised_embeddings(tiny_pipeline, embeds(2), noise_level, 1, seeded(0))
    assert torch.allclose(got, wanted, atol=1e-5)


def test_with_a_list_of_generators_neighbours_do_not_matter(tiny_pipeline):
    together = unclip.noised_embeddings(tiny_pipeline, embeds(2), 200, 2, [seeded(s) for s in range(4)])
    alone = unclip.noised_embeddings(tiny_pipeline, embeds(2)[1:], 200, 1, [seeded(3)])
    assert torch.equal(together[3:], alone)
    assert not torch.equal(together[2], together[3])


def test_the_norm_is_that_of_vectors_drawn_from_the_normalizers_statistics(tiny_pipeline):
    normalizer = tiny_pipeline.image_normalizer
    drawn = torch.randn(20_000, 32, generator=seeded(0)) * normalizer.std + normalizer.mean
    assert unclip.host_norm(tiny_pipeline) == pytest.approx(drawn.square().sum(1).mean().sqrt().item(), rel=0.01)


def test_the_negative_half_is_zero_noise_level_included_or_an_embedding(tiny_pipeline):
    labels = unclip.noised_embeddings(tiny_pipeline, embeds(2), 200, 2, [seeded(0)] * 4)
    zeros = unclip.with_negative_half(tiny_pipeline, labels, None, 200, 2)
    assert torch.equal(zeros, torch.cat([torch.zeros(4, 64), labels]))
    own = unclip.with_negative_half(tiny_pipeline, labels, embeds(2), 200, 2)
    assert own.shape == (8, 64) and torch.equal(own[4:], labels) and torch.equal(own[0], own[1])
    again = unclip.noised_embeddings(tiny_pipeline, embeds(2), 200, 1, [seeded(0), seeded(0)])
    assert torch.equal(own[:4:2], again)  # whatever the pictures' generators are
    with pytest.raises(ShapeError, match="negative: wanted"):
        unclip.with_negative_half(tiny_pipeline, labels, embeds(3), 200, 2)


def test_prompts_are_counted():
    assert unclip.prompts_for("a", 3) == ["a"] * 3 and unclip.prompts_for(None, 2) == ["", ""]
    assert unclip.prompts_for(["a", "b"], 2) == ["a", "b"]
    with pytest.raises(HostError, match="3 embeddings, got 2"):
        unclip.prompts_for(["a", "b"], 3)
    with pytest.raises(InputError, match="negative_prompt.*3"):
        unclip.prompts_for(3, 1, "negative_prompt")


def test_a_folder_that_is_no_unclip_host_is_refused(tmp_path):
    with pytest.raises(HostError, match="model_index.json"):
        load_host(tmp_path)
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(HostError, match="StableDiffusionPipeline without image_normalizer"):
        load_host(tmp_path)
    for content in ("{", "[1]"):
        index.write_text(content)
        with pytest.raises(HostError, match="JSON"):
            load_host(tmp_path)


def test_a_damaged_host_is_refused_naming_it(tmp_path, make_host):
    for part in ("unet", "text_encoder"):  # diffusers reads the one, transformers the other
        folder = tmp_path / part
        make_host().save_pretrained(folder)
        weights = next((folder / part).glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(HostError, match=str(folder)):
            load_host(folder)


def test_the_image_encoder_stays_on_disk(tmp_path, make_host):
    host = make_host()
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = CLIPVisionConfig(**size, image_size=14, patch_size=14, projection_dim=32)
    host.register_modules(image_encoder=CLIPVisionModelWithProjection(vision), feature_extractor=CLIPImageProcessor())
    host.save_pretrained(tmp_path)
    assert (tmp_path / "image_encoder" / "model.safetensors").is_file()
    loaded = load_host(tmp_path, dtype=torch.bfloat16)
    assert loaded.image_encoder is None and loaded.unet.dtype == torch.bfloat16


def test_hosts_that_cannot_take_embeddings_are_refused(make_host):
    host = make_host()
    host.image_normalizer = make_host(24).image_normalizer
    with pytest.raises(HostError, match="width 32, its image_normalizer 24"):
        unclip.host_width(host)
    host.unet.register_to_config(class_embed_type=None)
    with pytest.raises(HostError, match="unCLIP"):
        unclip.host_width(host)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_our_loop_equals_the_hosts_pipeline(tiny_pipeline, guidance):
    """Same conditioning, same seed, same scheduler: the pictures are those of StableUnCLIPImg2ImgPipeline."""
    parts = {name: getattr(tiny_pipeline, name) for name in PARTS}
    # The host reads a dtype off its image encoder even when embeddings are given; any loaded network will do.
    parts["image_encoder"] = parts["text_encoder"]
    parts["scheduler"] = DDIMScheduler.from_config(tiny_pipeline.scheduler.config)
    host = StableUnCLIPImg2ImgPipeline(**parts)
    host.set_progress_bar_config(disable=True)
    raw = match_norm(embeds(1), unclip.host_norm(host))
    options = {"num_inference_steps": 3, "output_type": "np", "prompt": "abc", "noise_level": 100}
    options |= {"guidance_scale": guidance, "negative_prompt": "h"}
    wanted = host(image_embeds=raw, generator=seeded(5), **options).images
    got = tiny_pipeline(image_embeds=embeds(1), generator=seeded(5), **options).images
    assert abs(wanted - got).max() < 1e-5
