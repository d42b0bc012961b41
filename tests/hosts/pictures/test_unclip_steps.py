"""Callbacks between steps do what they do to diffusers' own pipelines, and one pipeline serves several threads."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback, SDCFGCutoffCallback, SDXLCFGCutoffCallback

from bind2gen.errors import HostError, InputError, ShapeError

STEPS = 4
PROMPTS = ["abc", "hhh"]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(pipe, callback=None, prompts=PROMPTS, **call) -> torch.Tensor:
    call = {"guidance_scale": 4.0, "num_inference_steps": STEPS, "output_type": "latent"} | call
    embeds = torch.eye(32)[: len(prompts)]
    generators = seeded(*range(len(prompts)))
    call |= {"image_embeds": embeds, "prompt": prompts, "generator": generators, "callback_on_step_end": callback}
    return pipe(**call).images


@pytest.fixture
def batches(tiny_pipeline):
    """How many rows the UNet was given, step by step."""
    seen = []
    hook = tiny_pipeline.unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    yield seen
    hook.remove()


def documented(pipe, step, timestep, tensors):
    """As diffusers' guide to callbacks writes it."""
    if step == int(pipe.num_timesteps * 0.25):
        tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        pipe._guidance_scale = 0.0
    return tensors


def flag_alone(pipe, step, timestep, tensors):
    pipe._guidance_scale = 0.0 if step >= 1 else pipe._guidance_scale
    return tensors


CUTOFFS = {
    "official": (SDCFGCutoffCallback(cutoff_step_ratio=0.25), None),
    "by index": (SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1), ["latents"]),
    "several": (MultiPipelineCallbacks([SDCFGCutoffCallback(cutoff_step_ratio=0.25)]), None),
    "documented": (documented, ["prompt_embeds"]),
    "flag alone": (flag_alone, None),
}


@pytest.mark.parametrize("name", CUTOFFS)
def test_guidance_is_switched_off_on_the_way(tiny_pipeline, batches, name):
    def barely_guided(pipe, step, timestep, tensors):
        """The same in other words: the weight of the prediction without a condition is almost nothing."""
        pipe._guidance_scale = 1 + 1e-9 if step >= 1 else pipe._guidance_scale

    callback, inputs = CUTOFFS[name]
    cut = draw(tiny_pipeline, callback, callback_on_step_end_tensor_inputs=inputs)
    assert batches == [4, 4, 2, 2] and not tiny_pipeline.do_classifier_free_guidance
    assert torch.allclose(cut, draw(tiny_pipeline, barely_guided), atol=1e-4)
    assert abs(cut - draw(tiny_pipeline)).max() > 1e-3
    assert tiny_pipeline.guidance_scale == 4.0  # a new call starts anew


def test_guidance_may_change_and_come_back_while_its_half_is_there(tiny_pipeline, batches):
    def every_other(pipe, step, timestep, tensors):
        pipe._guidance_scale = 0.0 if step % 2 == 0 else 4.0

    draw(tiny_pipeline, every_other)
    assert batches == [4, 2, 4, 2]


def test_a_callback_reads_what_the_call_was_given(make_pipeline):
    pipe, seen = make_pipeline(), []
    pipe.set_progress_bar_config(disable=True)
    assert (pipe.guidance_scale, pipe.guidance_rescale) == (10.0, 0.0)  # the pipeline's own, before any call

    def read(pipe, step, timestep, tensors):
        seen.append((pipe.guidance_scale, pipe.guidance_rescale, pipe.do_classifier_free_guidance, pipe.num_timesteps))
        seen.append((pipe.clip_skip, pipe.cross_attention_kwargs, pipe.interrupt))
        pipe._interrupt = True

    draw(pipe, read, guidance_scale=2.5, guidance_rescale=0.5, clip_skip=1)
    draw(pipe, read, guidance_scale=None)
    assert seen == [(2.5, 0.5, True, STEPS), (1, None, False), (10.0, 0.0, True, STEPS), (None, None, False)]
    assert pipe.interrupt


def test_only_the_named_tensors_come_and_only_known_ones_count(tiny_pipeline):
    seen = []

    class Nosy(PipelineCallback):
        tensor_inputs = ["class_labels"]

        def callback_fn(self, pipeline, step, timestep, tensors):
            seen.append(set(tensors))
            return tensors | {"something": 1}

    changed = draw(tiny_pipeline, Nosy())
    assert seen == [{"class_labels"}] * STEPS
    assert torch.equal(changed, draw(tiny_pipeline))
    with pytest.raises(InputError, match="add_text_embeds.*not among latents, prompt_embeds, class_labels"):
        draw(tiny_pipeline, SDXLCFGCutoffCallback())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt_embeds": torch.zeros(3, 8, 32)}, "prompt_embeds: wanted 4 rows .2 pictures, guided.*got 3"),
        ({"class_labels": torch.zeros(2, 64)}, "class_labels: wanted 4 rows"),
    ],
)
def test_rows_that_fit_no_picture_are_named(tiny_pipeline, changes, words):
    with pytest.raises(ShapeError, match=words):
        draw(tiny_pipeline, lambda *step: changes)


def test_another_thread_waits_for_its_turn(tiny_pipeline):
    wanted, later, drawn = draw(tiny_pipeline), draw(tiny_pipeline, prompts=["b"]), []
    other = threading.Thread(target=lambda: drawn.append(draw(tiny_pipeline, prompts=["b"])))

    def start_other(pipe, step, timestep, tensors):
        if step == 1:
            other.start()
            other.join(0.3)  # s; were it not to wait, it would be done, and the steps counted here be wrong
            assert other.is_alive()

    assert torch.equal(draw(tiny_pipeline, start_other), wanted)
    other.join()
    assert torch.allclose(drawn[0], later, atol=1e-6)


def test_a_callback_that_calls_its_own_pipeline_is_told_of_another_way(tiny_pipeline):
    with pytest.raises(HostError, match=r"middle of the call.*copy\.deepcopy\(pipe\.scheduler\)"):
        draw(tiny_pipeline, lambda pipe, *step: draw(pipe))
    wanted, inner = draw(tiny_pipeline), []  # and it is free again

    def draw_with_another(pipe, step, timestep, tensors):
        second = type(pipe)(**pipe.components | {"scheduler": copy.deepcopy(pipe.scheduler)})
        inner.append(draw(second))

    assert torch.allclose(draw(tiny_pipeline, draw_with_another), wanted, atol=1e-6)
    assert len(inner) == STEPS and torch.allclose(inner[0], wanted, atol=1e-6)
