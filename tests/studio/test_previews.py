"""Previews while denoising: what the picture will be, with every scheduler, and never a flicker."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch

from bind2gen.hosts.pictures.unclip import decode
from bind2gen.hosts.pictures.unclip_arguments import DRAWING
from bind2gen.hosts.pictures.unclip_steps import ESTIMATE, clean_estimate
from bind2gen.studio import denoising

STEPS = 12
KNOWN = 3 * torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(7))  # latents of all pictures there are


def perfect(scheduler):
    """What a network answers that knows the noise schedule and all pictures there are (Bayes' rule)."""

    def answer(seen, t, *_, **__):
        a = scheduler.alphas_cumprod[round(float(t))]
        signal, noise = a.sqrt(), (1 - a).sqrt()
        far = (seen[:, None] - signal * KNOWN).flatten(2).square().sum(2)
        picture = torch.einsum("nk,kchw->nchw", (-far / (2 * noise**2)).softmax(1), KNOWN)
        rest = (seen - signal * picture) / noise
        kinds = {"v_prediction": signal * rest - noise * picture, "epsilon": rest, "sample": picture}
        return (kinds[scheduler.config.prediction_type],)

    return answer


@pytest.fixture
def draw(tiny_pipeline, monkeypatch):
    """Draw with a scheduler and its perfect network; the steps' previews, and the pictures."""
    monkeypatch.setattr(denoising, "PAUSE", 0)
    monkeypatch.setattr(denoising, "PREVIEWS", STEPS)

    def drawn(name, **options):
        kind = getattr(diffusers, f"{name}Scheduler")
        scheduler = kind.from_config(tiny_pipeline.scheduler.config, clip_sample=False, **options)
        monkeypatch.setattr(tiny_pipeline, "scheduler", scheduler)
        monkeypatch.setattr(tiny_pipeline.unet, "forward", perfect(scheduler))
        news, stop = [], threading.Event()
        pictures, _ = denoising.draw(
            tiny_pipeline, torch.eye(2, 32), (0, 1), steps=STEPS, guidance=3.0, batch_size=2, report=news.append,
            stop=stop,
        )  # fmt: skip
        return [item.pictures for item in news], pictures

    return drawn


def apart(some, others):
    """Mean difference of pictures, 0..255."""
    return abs(np.stack(some).astype(float) - np.stack(others)).mean()


OFFERED = [(name, {}) for name in DRAWING] + [
    ("DPMSolverMultistep", {"algorithm_type": "sde-dpmsolver++", "timestep_spacing": "trailing"}),
    ("DDIM", {"prediction_type": "epsilon"}),
    ("DDIM", {"prediction_type": "sample"}),
]


@pytest.mark.parametrize(("name", "options"), OFFERED)
def test_at_two_thirds_of_the_steps_the_preview_is_the_picture_nearly(draw, tiny_pipeline, name, options):
    previews, pictures = draw(name, **options)
    known = decode(tiny_pipeline, KNOWN, "pil")
    different = apart(known, known[1:] + known[:1])
    assert different > 10
    assert apart(previews[len(previews) * 2 // 3 - 1], pictures) < different / 10


def test_an_estimate_of_a_perfect_network_is_the_picture_itself():
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for t in (20, 500, 990):
        a = scheduler.alphas_cumprod[t]
        seen = a.sqrt() * KNOWN[:1] + (1 - a).sqrt() * noise
        velocity = a.sqrt() * noise - (1 - a).sqrt() * KNOWN[:1]
        assert torch.allclose(clean_estimate(scheduler, seen, torch.tensor(t), velocity), KNOWN[:1], atol=1e-5)


def test_no_more_than_three_previews_come_in_a_second(tiny_pipeline):
    """Steps of 50 ms, as of a small model; each step's preview would flash at 20 Hz."""
    now, news = [0.0], []
    watch = denoising.Watch(news.append, threading.Event(), tiny_pipeline, batches=1, clock=lambda: now[0])
    pipe = SimpleNamespace(scheduler=SimpleNamespace(timesteps=range(100)))
    shown = []
    for step in range(100):
        now[0] += 0.05
        watch(pipe, step, 0, {ESTIMATE: KNOWN[:1]})
        shown += [now[0]] if news[-1].pictures else []
    assert 5 < len(shown) < 16 and min(np.diff(shown)) >= 1 / 3


def test_who_stops_gets_what_was_expected_of_the_picture(tiny_pipeline):
    watch = denoising.Watch(lambda _: None, threading.Event(), tiny_pipeline, batches=1)
    watch.stop.set()
    pipe = SimpleNamespace(scheduler=SimpleNamespace(timesteps=range(9)))
    watch(pipe, 0, 0, {ESTIMATE: KNOWN[:2]})
    assert pipe._interrupt and watch.stopped
    assert apart(watch.previews, decode(tiny_pipeline, KNOWN[:2], "pil")) == 0
