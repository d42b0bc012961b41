"""Pipelines without a slot, steered: nearer to what was wanted, with any scheduler, and as they were afterwards."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

from bind2gen import bind
from bind2gen.errors import HostError, InputError, ModalityError
from bind2gen.hosts.pictures import steering

STEPS = 4
SCHEDULERS = {
    "epsilon": DDIMScheduler(clip_sample=False),
    "v": DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
    "sample": DDIMScheduler(clip_sample=False, prediction_type="sample"),
    "euler": EulerDiscreteScheduler(),
    "plms": PNDMScheduler(skip_prk_steps=True),
    "second order": DPMSolverMultistepScheduler(),
    "flow": FlowMatchEulerDiscreteScheduler(),
}


@pytest.fixture(scope="module", params=[False, True], ids=["sd15", "sdxl"])
def pipe(request, make_diffusion):
    return make_diffusion(request.param)


@pytest.fixture(scope="module")
def steered(pipe, tiny_pipeline):
    return bind(pipe, imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor,
                adapter=tiny_pipeline.adapter, steer=True)  # fmt: skip


def drawn(steered, rows, **options) -> tuple[np.ndarray, torch.Tensor]:
    """Pictures (N, H, W, 3), and how like each is to its row."""
    given = {"num_inference_steps": STEPS, "output_type": "pt", "guidance_scale": 1.0, "prompt": "a"} | options
    seeds = [torch.Generator().manual_seed(i) for i in range(len(rows))]
    pictures = steered(image_embeds=rows, generator=seeds, **given).images
    with torch.no_grad():
        return pictures, (steered.look(pictures.float()) * torch.nn.functional.normalize(rows)).sum(1)


def test_a_steered_picture_is_nearer_to_what_is_wanted_and_away_from_what_is_not(steered, vectors):
    plain, before = drawn(steered, vectors, strength=0.0)
    _, after = drawn(steered, vectors, strength=0.3, start=0.0)
    assert bool((after > before + 0.01).all())
    other, _ = drawn(steered, vectors, strength=0.3, start=0.0, negative=vectors.flip(0))
    assert (other - plain).abs().max() > 1e-3
    with torch.no_grad():
        unlike = (steered.look(other) * torch.nn.functional.normalize(vectors.flip(0))).sum(1)
        assert unlike[0] < (steered.look(plain) * torch.nn.functional.normalize(vectors.flip(0))).sum(1)[0]


def test_nothing_moves_at_no_strength_and_the_pipeline_is_as_it_was(pipe, steered, vectors):
    frozen = [p.requires_grad for p in (*pipe.vae.parameters(), *steered.imagebind.parameters())]
    plain, _ = drawn(steered, vectors[:1], strength=0.0)
    options = {"num_inference_steps": STEPS, "output_type": "pt", "guidance_scale": 1.0}
    own = pipe(prompt="a", generator=torch.Generator().manual_seed(0), **options).images
    assert torch.allclose(plain, own, atol=1e-5)
    assert "step" not in vars(pipe.scheduler) and not pipe.vae.is_gradient_checkpointing
    assert frozen == [p.requires_grad for p in (*pipe.vae.parameters(), *steered.imagebind.parameters())]


def test_a_picture_is_the_same_alone_and_in_a_batch(steered, vectors):
    options = {"guidance_scale": 3.0, "strength": 0.3}
    together, _ = drawn(steered, vectors, prompt=["a", "b", "c"], **options)
    alone, _ = drawn(steered, vectors[:1], **options)
    assert (together[0] - alone[0]).abs().max() < 1e-4


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_clean_latents_are_known_whatever_the_scheduler(kind):
    """Of latents that are made of known clean ones and noise, and of the prediction that is exactly right of them."""
    scheduler, draw = SCHEDULERS[kind], torch.Generator().manual_seed(0)
    scheduler.set_timesteps(STEPS)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=draw)
    for place, t in enumerate(scheduler.timesteps[1:], 1):
        scheduler.set_timesteps(STEPS)  # and no step is remembered
        if kind == "flow":
            sigma = scheduler.sigmas[place]
            sample, predicted = (1 - sigma) * clean + sigma * noise, noise - clean
        else:
            a = scheduler.alphas_cumprod[round(float(t))]
            seen = a.sqrt() * clean + (1 - a).sqrt() * noise
            v = a.sqrt() * noise - (1 - a).sqrt() * clean
            predicted = {"v": v, "sample": clean}.get(kind, noise)
            sample = seen / a.sqrt() if kind == "euler" else seen
        found, slope = steering._clean(scheduler, place, t, sample, predicted)
        assert torch.allclose(found, clean, atol=1e-3)
        again, _ = steering._clean(scheduler, place, t, sample, predicted + 0.1 * noise / slope)
        assert torch.allclose(again, clean + 0.1 * noise, atol=1e-3)


@pytest.mark.parametrize("kind", ["euler", "plms", "second order"])
def test_other_schedulers_steer_too(kind, make_diffusion, tiny_pipeline, vectors):
    pipe = make_diffusion(False)
    pipe.scheduler = type(SCHEDULERS[kind]).from_config(SCHEDULERS[kind].config)
    own = {"processor": tiny_pipeline.processor, "adapter": tiny_pipeline.adapter}
    steered = bind(pipe, imagebind=tiny_pipeline.imagebind, **own, steer=True)
    _, before = drawn(steered, vectors[:1], strength=0.0)
    _, after = drawn(steered, vectors[:1], strength=1.0, start=0.0)
    assert after > before + 0.01


def test_what_is_seen_is_what_is_embedded(steered):
    picture = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(steered.look(picture), steered.embed(image=picture[0])["image"], atol=1e-6)


def test_sounds_are_drawn_by_it_and_what_cannot_be_is_refused(pipe, steered, make_loaded, tiny_pipeline, vectors):
    sound = (np.sin(np.arange(16_000) / 7).astype(np.float32), 16_000)
    made = steered(audio=sound, num_inference_steps=2, best_of=2)
    assert len(made.images) == 1 and -1 <= made.roundtrip[0] <= 1
    assert set(inspect.signature(pipe.scheduler.step).parameters) >= {"model_output", "timestep", "sample"}
    with pytest.raises(InputError, match="strength, rounds, start, end: wanted"):
        steered(image_embeds=vectors, strength=-1.0)
    own = {"imagebind": tiny_pipeline.imagebind, "processor": tiny_pipeline.processor, "steer": True}
    with pytest.raises(HostError, match="FluxPipeline: wanted a pipeline of latents"):
        bind(make_loaded("flux"), **own)
    before, pipe.scheduler = pipe.scheduler, EDMEulerScheduler()
    try:
        with pytest.raises(HostError, match="EDMEulerScheduler does not say how noisy a step is"):
            bind(pipe, **own)
    finally:
        pipe.scheduler = before


def test_an_encoder_without_eyes_is_refused(pipe, tiny_folder):
    with pytest.raises(ModalityError, match="vision"):
        bind(pipe, imagebind=tiny_folder / "imagebind", modalities=["audio"], steer=True).imagebind.tower("text")
