"""Stable Video Diffusion and its first frame; FLUX.1, its two guidances, and the file of its IP-Adapter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.models.embeddings import MultiIPAdapterImageProjection
from PIL import Image
from safetensors.torch import load_file, save_file

from bind2gen.errors import CheckpointError, HostError, InputError, ShapeError
from bind2gen.hosts.pictures.contract import host_of
from bind2gen.hosts.pictures.flux import Flux, read_adapter
from bind2gen.hosts.pictures.stable_video import StableVideo
from bind2gen.pipelines.film import draw_film

PICTURES = [Image.new("RGB", (16, 16), colour) for colour in ("red", "white")]
CLOSE = 1e-4


@pytest.fixture(scope="module")
def filming(make_loaded, in_front):
    return in_front(make_loaded("svd"))


@pytest.fixture(scope="module")
def flux(make_loaded, in_front):
    return in_front(make_loaded("flux"))


# ---- Stable Video Diffusion ----


def test_films_of_several_first_frames_are_as_each_alone(filming, draw, vectors):
    """Also several of each, which the pipeline orders in two ways."""
    batch = draw(filming, vectors[:2], pictures=4, num_images_per_prompt=2, host={"image": PICTURES})
    assert batch.shape == (4, 3, 16, 16, 3)
    for i, picture in enumerate(PICTURES):
        alone = draw(filming, vectors[i : i + 1], first=2 * i, pictures=2, num_images_per_prompt=2,
                     host={"image": picture})  # fmt: skip
        assert abs(alone - batch[2 * i : 2 * i + 2]).max() < CLOSE
    other = draw(filming, vectors[:1], pictures=2, num_images_per_prompt=2, host={"image": PICTURES[1]})
    assert abs(other - batch[:2]).max() > 1e-3


def test_what_the_unet_reads_is_zeros_and_then_the_embedding(filming, draw, vectors):
    seen = []
    hook = filming.pipe.unet.register_forward_pre_hook(
        lambda module, given, named: seen.append(named["encoder_hidden_states"]), with_kwargs=True
    )
    try:
        draw(filming, vectors[:1], rescale_embeds=False)
        draw(filming, vectors[:1], rescale_embeds=False, negative=vectors[1:2])
        draw(filming, vectors[:1], rescale_embeds=False, guidance_scale=1.0)
    finally:
        hook.remove()
    zeros = torch.zeros(1, 32)
    for states, halves in zip(
        seen[::2], ([zeros, vectors[:1]], [vectors[1:2], vectors[:1]], [vectors[:1]]), strict=True
    ):
        assert torch.equal(states[:, 0], torch.cat(halves))


def test_a_film_goes_on_from_its_last_frame(filming, small, vectors):
    own = {key: value for key, value in small["Stable Video Diffusion"].items() if key != "host"}
    begun = []
    before = filming.pipe._encode_vae_image
    filming.pipe._encode_vae_image = lambda image, **given: begun.append(image) or before(image, **given)
    try:
        options = {"num_inference_steps": 1, "noise_aug_strength": 0.0, **own}
        frames = draw_film(filming, vectors[[0] * 3 + [1] * 2], seed=0, host={"image": PICTURES[0]}, **options)
    finally:
        del filming.pipe._encode_vae_image
    assert len(frames) == 5 and len(begun) == 2  # of 3 frames that it draws at a time
    last = torch.from_numpy(np.asarray(frames[2]).astype(np.float32)).permute(2, 0, 1) / 127.5 - 1
    assert abs(begun[1][0] - last).max() < 1e-5


def test_a_film_without_a_first_frame_or_of_several_embeddings_is_refused(filming, vectors):
    with pytest.raises(InputError, match="image: StableVideoDiffusionPipeline begins with one of its own: host="):
        filming(image_embeds=vectors[:1])
    with pytest.raises(ShapeError, match="wanted one embedding a film"):
        filming(image_embeds=vectors[None], host={"image": PICTURES[0]})
    with pytest.raises(InputError, match="strength: wanted constant"):
        draw_film(filming, vectors, seed=0, scales=torch.ones(3), host={"image": PICTURES[0]})


def test_an_image_encoder_is_not_looked_for(filming, tmp_path):
    """A folder whose index names one that is not there, as where it was not downloaded."""
    StableVideo().save(filming.pipe, tmp_path)
    index = (tmp_path / "model_index.json").read_text()
    parts = {"image_encoder": "CLIPVisionModelWithProjection", "feature_extractor": "CLIPImageProcessor"}
    for name, kind in parts.items():
        assert f'"{name}": [\n    null,\n    null\n  ]' in index
        index = index.replace(f'"{name}": [\n    null,\n    null\n  ]', f'"{name}": ["transformers", "{kind}"]')
    (tmp_path / "model_index.json").write_text(index)
    assert StableVideo().load(tmp_path, embed_dim=32).image_encoder is None
    with pytest.raises(HostError, match="embeddings of width 1024, found 32"):
        StableVideo().load(tmp_path, embed_dim=1024)


# ---- FLUX.1 ----


def test_the_scale_of_an_adapter_is_a_number_or_one_a_block(flux, draw, vectors):
    one, none, first = (draw(flux, vectors[:1], scale=scale) for scale in (1.0, 0.0, [1.0, 0.0]))
    assert min(abs(one - none).max(), abs(one - first).max(), abs(first - none).max()) > 1e-3
    assert np.array_equal(draw(flux, vectors[:1]), one)  # which it has again
    assert abs(draw(flux, vectors[1:2], scale=0.0) - none).max() == 0
    with pytest.raises(InputError, match="scale: wanted one number, or 2, one a block, got 3"):
        draw(flux, vectors[:1], scale=[1.0, 1.0, 1.0])


def test_true_guidance_has_a_negative_half_and_the_distilled_one_has_none(flux, draw, vectors):
    plain, call = draw(flux, vectors[:1], prompt="a"), {"prompt": "a", "true_cfg_scale": 3.0}
    guided = draw(flux, vectors[:1], **call)
    words = draw(flux, vectors[:1], **call, negative_prompt="b")
    away = draw(flux, vectors[:1], **call, negative=vectors[1:2])
    assert min(abs(guided - plain).max(), abs(words - guided).max(), abs(away - guided).max()) > 1e-4
    itself = draw(flux, vectors[:1], **call, negative=vectors[:1], negative_prompt="a")
    assert abs(itself - plain).max() < CLOSE
    batch = draw(flux, vectors[:2], prompt=["a", "b"], true_cfg_scale=3.0, negative_prompt=["b", "c"],
                 negative=vectors[1:])  # fmt: skip
    alone = draw(flux, vectors[1:2], first=1, prompt="b", true_cfg_scale=3.0, negative_prompt="c", negative=vectors[2:])
    assert abs(batch[1] - alone[0]).max() < CLOSE
    for given in ({"negative": vectors[:1]}, {"negative_prompt": "b"}):
        with pytest.raises(InputError, match="negative: .*true_cfg_scale is 1 or less"):
            draw(flux, vectors[:1], **given)


def test_several_embeddings_of_one_picture_all_count(flux, draw, vectors):
    both, turned = (draw(flux, rows, pictures=1) for rows in (vectors[None, :2], vectors[None, [1, 0]]))
    assert abs(both - turned).max() < CLOSE < 1e-3 < abs(both - draw(flux, vectors[:1])).max()


def test_files_and_pipelines_that_do_not_fit_are_refused_in_words(make_loaded, tmp_path):
    pipe = make_loaded("flux")
    Flux().save(pipe, tmp_path)
    layers = load_file(tmp_path / "ip_adapter.safetensors")
    assert {"ip_adapter_proj_model.norm.bias", "double_blocks.1.processor.ip_adapter_double_stream_v_proj.bias"} < set(
        layers
    )
    for part in ("vae", "transformer"):  # reading weights would be another error
        for file in (tmp_path / part).glob("*.safetensors"):
            file.unlink()
    with pytest.raises(HostError, match="wanted a host for embeddings of width 1024, found 32"):
        Flux().load(tmp_path, embed_dim=1024)
    save_file({"image_proj.proj.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(HostError, match="other.safetensors: wanted an IP-Adapter of FLUX.1"):
        read_adapter(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError):
        Flux().load(tmp_path, file=tmp_path / "none.safetensors")
    layer = pipe.transformer.encoder_hid_proj.image_projection_layers[0]
    pipe.transformer.encoder_hid_proj = MultiIPAdapterImageProjection([layer, layer])
    with pytest.raises(HostError, match="FluxPipeline: wanted one IP-Adapter .*, found 2"):
        host_of(pipe)
    bare = FluxPipeline(**pipe.components)
    bare.transformer.encoder_hid_proj = None
    with pytest.raises(HostError, match="found none"):
        host_of(bare)
