"""What every host does, whatever its slot; a new one joins by its name in KINDS and in ``make_loaded``."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline

from bind2gen import ImageBindUnCLIPPipeline, bind
from bind2gen.errors import Bind2GenWarning, HostError, InputError, ShapeError
from bind2gen.hosts.pictures.contract import SPACES, check_width, host_of
from bind2gen.hosts.pictures.unclip import SLOT
from bind2gen.pipelines.parts import with_facts

KINDS = ("unclip", "sd15", "sdxl", "animatediff", "kandinsky", "karlo", "svd", "flux")
# DDPM draws with a learned variance, of which rounding moves the logarithm, Karlo thrice; SVD begins at 700 deviations.
TOLERANCE = {"Kandinsky 2.2": 1e-4, "Karlo": 5e-3, "Stable Video Diffusion": 1e-4}
SOUND = (np.sin(np.arange(16_000) / 7).astype(np.float32), 16_000)


@pytest.fixture(scope="module", params=KINDS)
def pipe(request, make_loaded):
    return make_loaded(request.param)


@pytest.fixture(scope="module")
def sounding(pipe, in_front):
    return in_front(pipe)


def test_another_embedding_gives_another_picture(sounding, draw, vectors):
    one, same, other = (draw(sounding, vectors[i : i + 1], prompt="a") for i in (0, 0, 1))
    assert np.array_equal(one, same) and abs(one - other).max() > 1e-3


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_picture_is_the_same_alone_and_in_a_batch(sounding, draw, vectors, guidance):
    num = 1 if sounding.slot.media == "video" else 2
    call = {"guidance_scale": guidance, "num_images_per_prompt": num}
    batch = draw(sounding, vectors, pictures=3 * num, prompt=["a", "b", "c"], **call)
    for i, prompt in enumerate("abc"):
        alone = draw(sounding, vectors[i : i + 1], first=num * i, pictures=num, prompt=prompt, **call)
        assert abs(alone - batch[num * i : num * i + num]).max() < TOLERANCE.get(sounding.slot.name, 1e-5)
    assert abs(batch[0] - batch[num]).max() > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card")
def test_cuda_in_float16_draws_what_the_processor_draws(pipe, sounding, in_front, draw, vectors):
    moved = copy.deepcopy(pipe).to("cuda", torch.float16)
    difference = abs(draw(in_front(moved), vectors[:1]) - draw(sounding, vectors[:1])).mean()
    far = abs(draw(sounding, vectors[1:2]) - draw(sounding, vectors[:1])).mean()
    assert difference < 0.2 * far  # bfloat16 on a processor, which is eight times as coarse: at most 0.09


def test_what_is_saved_and_loaded_draws_the_same(pipe, sounding, in_front, draw, vectors, tmp_path):
    host, slot = host_of(pipe)
    host.save(pipe, tmp_path)
    again = host.load(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert type(again) is type(pipe) and host_of(again)[1] == slot and slot.width == 32
    # Weights mapped from a file are aligned otherwise, which may round a sum otherwise.
    assert abs(draw(in_front(again), vectors[:1]) - draw(sounding, vectors[:1])).max() < 1e-5


def test_inputs_of_any_modality_draw_and_the_pipeline_stays_as_it_was(pipe, in_front, draw, small):
    with in_front(pipe) as sounding:
        seed = torch.Generator().manual_seed(0)
        both = {"audio": SOUND, "text": "a dog", "weights": {"text": 0.5}}
        given = {"num_inference_steps": 2, "output_type": "np", "generator": [seed]} | small.get(sounding.slot.name, {})
        made = sounding(**both, **given)
        made = made.frames if sounding.slot.media == "video" else made.images
        rows = sounding.condition(sounding.embed(audio=SOUND, text="a dog"), {"text": 0.5})
    call = {"guidance_scale": sounding.defaults["guidance_scale"], "rescale_embeds": False}
    assert np.array_equal(draw(sounding, rows, **call), made)
    assert torch.allclose(rows.norm(dim=1), torch.tensor(sounding.host_norm))
    assert not any(callable(value) for name, value in vars(pipe).items() if hasattr(type(pipe), name))


def test_of_several_pictures_the_one_is_kept_that_comes_back_nearest(sounding, draw, vectors, small):
    call = {"output_type": "pil", **small.get(sounding.slot.name, {})}
    if sounding.slot.media == "video":
        with pytest.raises(InputError, match="they look at pictures"):
            draw(sounding, vectors[:1], best_of=2, **call)
        return
    every = draw(sounding, vectors[:2], pictures=6, num_images_per_prompt=3, **call)
    rows = vectors[:2].repeat_interleave(3, dim=0)
    seen = sounding.adapter({"image": sounding.embed(image=every)["image"]})
    wanted = torch.cosine_similarity(seen, rows).view(2, 3).argmax(1).tolist()
    best = draw(sounding, vectors[:2], pictures=6, best_of=3, **call)
    for i, place in enumerate(wanted):
        assert abs(np.asarray(best[i], float) - np.asarray(every[3 * i + place], float)).max() <= 1


def test_arguments_that_nobody_takes_are_named(sounding, vectors):
    with pytest.raises(InputError, match="nois_level: .* takes no such argument"):
        sounding(image_embeds=vectors, nois_level=3)
    with pytest.raises(InputError, match="give inputs"):
        sounding(prompt="a")
    with pytest.raises(ShapeError, match=r"\(B, 32\), got \(3, 31\)"):
        sounding(image_embeds=vectors[:, :31])
    reads = sounding.slot.prompt
    error, words = (HostError, "wanted one, or one for") if reads else (InputError, ".* no such argument")
    with pytest.raises(error, match=f"prompt: {words}"):
        sounding(image_embeds=vectors, prompt=["a", "b"])


def test_a_bound_unclip_draws_what_our_own_pipeline_draws(make_loaded, in_front, draw, vectors, tiny_pipeline):
    pipe = make_loaded("unclip")
    own = ImageBindUnCLIPPipeline.from_host(
        pipe, imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor, adapter=tiny_pipeline.adapter
    )
    own.set_progress_bar_config(disable=True)
    call = {"prompt": "a", "negative_prompt": "b", "noise_level": 100, "num_images_per_prompt": 2}
    wanted = draw(own, vectors[:2], pictures=4, **call)
    assert abs(draw(in_front(pipe), vectors[:2], pictures=4, **call) - wanted).max() < 1e-5
    away = {"negative": vectors[2:], **call}
    other = draw(own, vectors[:2], pictures=4, **away)
    assert abs(draw(in_front(pipe), vectors[:2], pictures=4, **away) - other).max() < 1e-5
    assert abs(other - wanted).max() > 1e-3
    with pytest.raises(InputError, match="nothing is guided away from where guidance_scale is 1 or less"):
        draw(own, vectors[:1], negative=vectors[:1], guidance_scale=1.0)
    with pytest.raises(HostError, match="ImageBind in front already"):
        in_front(own)


def test_pipelines_without_a_slot_are_told_which_have_one(make_host, tiny_pipeline):
    pipe = DDIMPipeline(tiny_pipeline.unet, tiny_pipeline.scheduler)
    with pytest.raises(HostError, match="DDIMPipeline: .* known are: Stable unCLIP; .*IP-Adapter"):
        host_of(pipe)
    with pytest.raises(HostError, match="wanted a host for embeddings of width 32, found 24"):
        bind(make_host(24), imagebind=tiny_pipeline.imagebind)


def test_a_length_that_nobody_knows_is_guessed_with_a_warning(make_loaded, in_front, tiny_pipeline):
    embeds, pipe = {"image": torch.eye(1, 32)}, make_loaded("sd15")
    unmeasured = bind(
        pipe, imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor, adapter=tiny_pipeline.adapter
    )
    with pytest.warns(Bind2GenWarning, match=r"does not say how long .* 5\.7 stands in"):
        assert unmeasured.condition(embeds).norm().item() == pytest.approx(32**0.5)
    unmeasured.adapter = with_facts(tiny_pipeline.adapter, {"norm": 7.5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert unmeasured.condition(embeds).norm().item() == pytest.approx(7.5)


def test_a_host_of_another_width_is_refused_by_the_name_of_its_variant():
    check_width("host", 1024, SLOT)
    small = replace(SLOT, width=SPACES["vit-l"][0], space="vit-l")
    with pytest.raises(HostError, match="1024.*768.*ViT-L.*stable-diffusion-2-1-unclip"):
        check_width("stable-unclip-small", 1024, small)
    with pytest.raises(HostError, match="256.*1024"):
        check_width("host", 256, SLOT)
