"""The denoising loop of a Stable unCLIP host, with the callbacks that today's pipelines have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from ...errors import ShapeError

ESTIMATE = "pred_original_sample"  # as diffusers' schedulers call it; a callback may look at it, not change it
CALLBACK_TENSORS = ("latents", "prompt_embeds", "class_labels", ESTIMATE)

StepCallback = Callable[[Any, int, int, dict[str, torch.Tensor]], dict[str, torch.Tensor] | None]


class SteppedMixin:
    """What a callback may read and change of the call that runs, by the names that diffusers' own pipelines have.

    It reads the properties and sets the attributes behind them: ``pipe._guidance_scale = 0.0`` goes on without
    guidance, ``pipe._interrupt = True`` stops. Between calls they are those of the last one; before the first, the
    defaults.
    """

    _guidance_scale: float | None = None
    _guidance_rescale: float | None = None
    _clip_skip: int | None = None
    _cross_attention_kwargs: dict[str, Any] | None = None
    _num_timesteps: int = 0
    _interrupt: bool = False

    def _default(self, name: str) -> float:
        return self.config[name]

    def _start(
        self,
        guidance_scale: float | None,
        guidance_rescale: float | None,
        clip_skip: int | None,
        cross_attention_kwargs: dict[str, Any] | None,
    ) -> None:
        """Take what a call was given; guidance that it was not given is the default."""
        self._guidance_scale = self._default("guidance_scale") if guidance_scale is None else guidance_scale
        self._guidance_rescale = self._default("guidance_rescale") if guidance_rescale is None else guidance_rescale
        self._clip_skip, self._cross_attention_kwargs = clip_skip, cross_attention_kwargs
        self._interrupt = False

    @property
    def guidance_scale(self) -> float:
        """How far predictions are pushed from those without a condition."""
        return self._default("guidance_scale") if self._guidance_scale is None else self._guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """0..1, how far overexposure by guidance is taken back."""
        return self._default("guidance_rescale") if self._guidance_rescale is None else self._guidance_rescale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a step predicts twice, with the condition and without."""
        return self.guidance_scale > 1

    @property
    def clip_skip(self) -> int | None:
        """Layers left out at the end of the text encoder."""
        return self._clip_skip

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """Passed on to the UNet's attention."""
        return self._cross_attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """Steps of the call; schedulers of second order take more than were asked for."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the call stops after this step and decodes what is there."""
        return self._interrupt


# ---- the loop ----


def callback_inputs(callback: Any, asked: Sequence[str] | None) -> list[str]:
    """Names of the tensors that a callback gets; diffusers' own kind says so itself."""
    if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
        return list(callback.tensor_inputs)
    return ["latents"] if asked is None else list(asked)


def denoise(
    host: Any,
    latents: torch.Tensor,
    prompt_embeds: torch.Tensor,
    class_labels: torch.Tensor,
    *,
    step_options: dict[str, Any],
    callback: StepCallback | None = None,
    inputs_of_callback: Sequence[str] = ("latents",),
) -> torch.Tensor:
    """The host's denoising loop over ``host.scheduler.timesteps``, with the callback that today's pipelines have.

    The host itself only has the old callback, which can neither change a tensor nor stop the loop. Guidance and the
    rest of :class:`SteppedMixin` are read anew at every step.

    Args:
        latents: (N, C, h, w).
        prompt_embeds, class_labels: (N, ...), or (2 N, ...) with the negative half first where the call is guided.

    Returns:
        (N, C, h, w).

    Raises:
        ShapeError: a callback left rows that fit no picture.
    """
    tensors = {"latents": latents, "prompt_embeds": prompt_embeds, "class_labels": class_labels}
    pictures = len(latents)
    host._num_timesteps = len(host.scheduler.timesteps)
    for i, t in enumerate(host.progress_bar(host.scheduler.timesteps)):
        if host.interrupt:
            continue  # the progress bar still runs to its end
        guided, latents = host.do_classifier_free_guidance, tensors["latents"]
        conditions = {name: _rows(name, tensors[name], pictures, guided) for name in ("prompt_embeds", "class_labels")}
        seen = host.scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
        predicted = host.unet(
            seen,
            t,
            encoder_hidden_states=conditions["prompt_embeds"],
            class_labels=conditions["class_labels"],
            cross_attention_kwargs=host.cross_attention_kwargs,
            return_dict=False,
        )[0]
        if guided:
            without, conditioned = predicted.chunk(2)
            predicted = without + host.guidance_scale * (conditioned - without)
            if host.guidance_rescale > 0:
                predicted = rescale_noise_cfg(predicted, conditioned, host.guidance_rescale)
        tensors["latents"] = host.scheduler.step(predicted, t, latents, **step_options, return_dict=False)[0]
        if callback is not None:
            known = tensors
            if ESTIMATE in inputs_of_callback:
                known = tensors | {ESTIMATE: clean_estimate(host.scheduler, seen[-pictures:], t, predicted)}
            changed = callback(host, i, t, {name: known[name] for name in inputs_of_callback}) or {}
            for name in tensors.keys() & changed.keys():
                tensors[name] = _each_its_own(tensors[name], changed[name], pictures)
    return tensors["latents"]


def clean_estimate(scheduler: Any, seen: torch.Tensor, t: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """The clean latents that a prediction points at; the same for all schedulers, whatever they make of it.

    Args:
        seen: (N, C, h, w) what the network saw: ``sqrt(a) * latents + sqrt(1 - a) * noise``.
        predicted: (N, C, h, w) of it, at timestep ``t``.
    """
    a = scheduler.alphas_cumprod[round(float(t))].to(seen)
    signal, noise, kind = a.sqrt(), (1 - a).sqrt(), scheduler.config.prediction_type
    if kind == "sample":
        return predicted
    return signal * seen - noise * predicted if kind == "v_prediction" else (seen - noise * predicted) / signal


def _rows(name: str, rows: torch.Tensor, pictures: int, guided: bool) -> torch.Tensor:
    """The rows of a condition that a step takes: without guidance, a negative half that is still there is left out."""
    if not guided and len(rows) == 2 * pictures:
        return rows[pictures:]
    if not guided and len(rows) == 1:
        return rows.expand(pictures, *rows.shape[1:])
    wanted = 2 * pictures if guided else pictures
    if len(rows) != wanted:
        how = "guided: a negative half first" if guided else "not guided"
        advice = "; guidance can be switched off on the way, and on again only if the negative half was kept"
        raise ShapeError(f"{name}: wanted {wanted} rows ({pictures} pictures, {how}), got {len(rows)}{advice}")
    return rows


def _each_its_own(before: torch.Tensor, after: torch.Tensor, pictures: int) -> torch.Tensor:
    """diffusers' SDCFGCutoffCallback keeps the last row, right for one picture; of several, each keeps its own."""
    if len(after) == 1 < len(before) and torch.equal(after[0], before[-1]):
        return before[-pictures:]
    return after
