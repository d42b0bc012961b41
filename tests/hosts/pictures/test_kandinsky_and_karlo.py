"""Hosts of other spaces: an adapter with a map leads to them; depth hints, pictures to begin with, what they miss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import KandinskyV22ControlnetImg2ImgPipeline, KandinskyV22ControlnetPipeline
from PIL import Image

from bind2gen import bind
from bind2gen.errors import HostError, InputError, ShapeError
from bind2gen.hosts.pictures.contract import saved_host
from bind2gen.hosts.pictures.kandinsky import Kandinsky
from bind2gen.hosts.pictures.karlo import Karlo

RAMP = Image.fromarray(np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)).convert("RGB")
NORM = 4.0  # of in_front
CLOSE = 1e-4  # DDPM draws with a learned variance, of which rounding moves the logarithm


@pytest.fixture(scope="module")
def kandinsky(make_loaded, in_front):
    return in_front(make_loaded("kandinsky"))


# ---- the map to another space ----


def mapped(adapter, width: int, **others):
    """The adapter with a random map to a space of that width."""
    draw = torch.Generator().manual_seed(4)
    parts = {"source_mean": torch.randn(32, generator=draw), "target_mean": torch.randn(width, generator=draw)}
    return adapter.with_map(torch.randn(32, width, generator=draw), **parts, norm=7.0, space="vit-bigg", **others)


def test_a_map_leads_from_the_encoders_space_to_the_slots(make_kandinsky, tiny_pipeline, draw, vectors):
    pipe = make_kandinsky("kandinsky", width=48)
    parts = {"imagebind": tiny_pipeline.imagebind, "processor": tiny_pipeline.processor}
    adapter = mapped(tiny_pipeline.adapter, 48, negative=torch.ones(48))
    sounding = bind(pipe, **parts, adapter=adapter)
    rows = sounding.condition({"image": vectors[:1] / vectors[:1].norm()})
    image = vectors[0] / vectors[0].norm()
    wanted = adapter.target_mean + (image - adapter.target_source) @ adapter.target_matrix
    assert torch.allclose(rows[0], 7 * wanted / wanted.norm(), atol=1e-5)
    made = draw(sounding, rows, rescale_embeds=False)
    assert abs(made - draw(sounding, -rows, rescale_embeds=False)).max() > 1e-3
    with pytest.raises(HostError, match="wanted a host for embeddings of width 32, found 48.*fit-map"):
        bind(pipe, **parts)
    with pytest.raises(ShapeError, match=r"\(B, 48\), got \(1, 32\)"):
        draw(sounding, vectors[:1])


def test_an_adapter_keeps_its_map_in_its_folder(tiny_pipeline, vectors, tmp_path):
    adapter, unit = mapped(tiny_pipeline.adapter, 48), torch.nn.functional.normalize(vectors)
    adapter.save_pretrained(tmp_path)
    again = type(adapter).from_pretrained(tmp_path)
    assert (again.width, again.config.norm, again.config.target_space) == (48, 7.0, "vit-bigg")
    assert again.negative is None and torch.equal(again({"audio": unit}), adapter({"audio": unit}))
    # What was understood is told in the encoder's own space.
    plain = tiny_pipeline.adapter({"audio": unit})
    assert torch.equal(again({"audio": unit}, anchored=False), plain)
    with pytest.raises(ShapeError, match="target_mean"):
        adapter.with_map(torch.eye(32), source_mean=torch.ones(32), target_mean=torch.ones(31), norm=1.0, space="")


def test_a_map_to_another_space_of_that_width_is_refused(make_kandinsky, tiny_pipeline):
    own = {"source_mean": torch.zeros(32), "target_mean": torch.zeros(1280), "norm": 1.0, "space": "dino"}
    adapter = tiny_pipeline.adapter.with_map(torch.ones(32, 1280), **own)
    parts = {"imagebind": tiny_pipeline.imagebind, "processor": tiny_pipeline.processor}
    with pytest.raises(HostError, match="leads to dino, embeddings of Kandinsky 2.2 are of vit-bigg"):
        bind(make_kandinsky("kandinsky", width=1280), **parts, adapter=adapter)


# ---- what is guided away from ----


def test_the_vector_that_is_guided_away_from_is_the_adapters(kandinsky, draw, vectors):
    own = draw(kandinsky, vectors[:1])
    scaled = NORM * torch.nn.functional.normalize(vectors[:1])
    same = draw(kandinsky, scaled, negative=torch.ones(1, 32), rescale_embeds=False)
    other = draw(kandinsky, scaled, negative=-torch.ones(1, 32), rescale_embeds=False)
    assert abs(same - own).max() < CLOSE < 1e-3 < abs(other - own).max()
    before = kandinsky.adapter
    try:
        kandinsky.adapter = mapped(before, 32)
        with pytest.raises(HostError, match="wanted a vector to be guided away from.*fit-map"):
            draw(kandinsky, vectors[:1])
        draw(kandinsky, vectors[:1], guidance_scale=1.0)
    finally:
        kandinsky.adapter = before


def test_karlo_has_a_negative_half_of_its_own_and_needs_two_steps(make_loaded, in_front, draw, vectors):
    sounding = in_front(make_loaded("karlo"))
    with pytest.raises(HostError, match="Karlo: wanted no negative embedding"):
        draw(sounding, vectors[:1], negative=vectors[:1])
    with pytest.raises(InputError, match="num_inference_steps: wanted 2 or more"):
        draw(sounding, vectors[:1], num_inference_steps=1)
    assert abs(draw(sounding, vectors[:1]) - draw(sounding, vectors[:1], guidance_scale=1.0)).max() > 1e-3
    sounding.pipe.to(torch.bfloat16)
    with pytest.raises(HostError, match="wanted float32 on a CPU, got torch.bfloat16"):
        draw(sounding, vectors[:1])


# ---- what is begun with ----


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_depth_hint_counts_and_is_repeated_over_a_batch(make_loaded, in_front, draw, vectors, guidance):
    sounding = in_front(make_loaded("kandinsky-hint"))
    call = {"guidance_scale": guidance, "hint": RAMP}
    batch = draw(sounding, vectors[:2], pictures=4, num_images_per_prompt=2, **call)
    alone = draw(sounding, vectors[1:2], first=2, pictures=2, num_images_per_prompt=2, **call)
    assert abs(batch[2:] - alone).max() < CLOSE < 1e-3 < abs(batch[0] - batch[2]).max()
    turned = draw(sounding, vectors[1:2], first=2, **call | {"hint": RAMP.rotate(90)})
    assert abs(turned - alone[:1]).max() > 1e-3
    with pytest.raises(InputError, match="hint: KandinskyV22ControlnetPipeline begins with one of its own"):
        draw(sounding, vectors[:1])
    with pytest.raises(ShapeError, match=r"hint: wanted a picture, or a tensor \(1, 3, 64, 64\)"):
        draw(sounding, vectors[:1], hint=torch.ones(1, 3, 8, 8))


def test_a_hint_and_a_picture_to_begin_with_go_together(make_loaded, in_front, draw, vectors):
    bare = make_loaded("kandinsky-hint")
    pipe = KandinskyV22ControlnetImg2ImgPipeline(**bare.components)
    pipe.set_progress_bar_config(disable=True)
    sounding, call = in_front(pipe), {"strength": 0.9, "num_inference_steps": 4}
    both = draw(sounding, vectors[:2], host={"image": RAMP, "hint": RAMP}, **call)
    alone = draw(sounding, vectors[1:2], first=1, host={"image": RAMP, "hint": RAMP}, **call)
    assert abs(both[1] - alone[0]).max() < CLOSE
    for other in ({"image": RAMP.rotate(90), "hint": RAMP}, {"image": RAMP, "hint": RAMP.rotate(90)}):
        assert abs(draw(sounding, vectors[1:2], first=1, host=other, **call) - alone).max() > 1e-3


def test_img2img_begins_with_one_picture_or_one_an_embedding(make_loaded, in_front, draw, vectors):
    sounding = in_front(make_loaded("kandinsky-img2img"))
    call = {"strength": 0.9, "num_inference_steps": 4}
    starts = [RAMP, RAMP.rotate(90)]
    batch = draw(sounding, vectors[:2], host={"image": starts}, **call)
    for i, start in enumerate(starts):
        alone = draw(sounding, vectors[i : i + 1], first=i, host={"image": start}, **call)
        assert abs(alone[0] - batch[i]).max() < CLOSE
    shared = draw(sounding, vectors[:2], host={"image": RAMP}, **call)
    assert abs(shared[0] - batch[0]).max() < CLOSE < 1e-3 < abs(shared[1] - batch[1]).max()
    with pytest.raises(InputError, match="image: wanted one, or 2, got 3"):
        draw(sounding, vectors[:2], host={"image": [RAMP] * 3}, **call)


def test_inpainting_leaves_what_the_mask_leaves(make_loaded, in_front, draw, vectors):
    sounding, mask = in_front(make_loaded("kandinsky-inpaint")), np.zeros((64, 64), np.float32)
    mask[:, 40:] = 1
    own = {"image": RAMP, "mask_image": mask}
    batch = draw(sounding, vectors[:2], host=own, output_type="latent")
    alone = draw(sounding, vectors[1:2], first=1, host=own, output_type="latent")
    assert abs(batch[1] - alone[0]).max() < CLOSE
    kept, drawn = (abs(batch[0] - batch[1])[..., part].max() for part in (slice(0, 4), slice(5, 8)))
    assert kept == 0 and drawn > 1e-3
    with pytest.raises(InputError, match="mask_image: .* begins with one of its own"):
        draw(sounding, vectors[:1], host={"image": RAMP})
    with pytest.raises(InputError, match="image: wanted one, got 2"):
        draw(sounding, vectors[:2], host=own | {"image": [RAMP, RAMP]})


def test_pictures_that_a_pipeline_does_not_take_are_named(kandinsky, draw, vectors):
    with pytest.raises(InputError, match="hint: KandinskyV22Pipeline takes no such argument"):
        draw(kandinsky, vectors[:1], hint=RAMP)
    with pytest.raises(ShapeError, match="wanted one embedding a picture"):
        draw(kandinsky, vectors[None, :2])


# ---- folders ----


def test_a_folder_says_what_it_is_and_how_wide_before_weights_are_read(make_kandinsky, tmp_path):
    pipe = make_kandinsky("kandinsky-hint", width=48)
    pipe.save_config(tmp_path)
    pipe.unet.save_config(tmp_path / "unet")  # and no weights: reading them would be another error
    host = saved_host(tmp_path)
    assert isinstance(host, Kandinsky) and host.takes(KandinskyV22ControlnetPipeline)
    with pytest.raises(HostError, match="wanted a host for embeddings of width 1024, found 48"):
        host.load(tmp_path, embed_dim=1024)
    (tmp_path / "text_proj").mkdir()
    (tmp_path / "text_proj" / "config.json").write_text(json.dumps({"clip_embeddings_dim": 768}))
    with pytest.raises(HostError, match="width 1024, found 768; this is the CLIP ViT-L/14 variant; or give an adapter"):
        Karlo().load(tmp_path, embed_dim=1024)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DDIMPipeline"}))
    with pytest.raises(HostError, match="DDIMPipeline.*: wanted a pipeline with a slot .*Kandinsky.*Karlo"):
        saved_host(tmp_path)


def test_the_index_of_the_published_karlo_is_read_though_a_part_moved(make_loaded, in_front, draw, vectors, tmp_path):
    pipe = make_loaded("karlo")
    Karlo().save(pipe, tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["text_proj"] = ["unclip", "UnCLIPTextProjModel"]  # as in the hub's
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    again = Karlo().load(tmp_path, embed_dim=32)
    again.set_progress_bar_config(disable=True)
    assert abs(draw(in_front(again), vectors[:1]) - draw(in_front(pipe), vectors[:1])).max() < 5e-3
