"""A small resumable training loop on accelerate.

Every random draw of step ``k`` comes from generators seeded by ``(seed, k)``, so a run that was
killed and resumed sees the same batches, augmentations and noise as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from ..errors import InputError, NonFiniteError
from ..files.atomic import swap_in, written_whole
from ..imagebind.fused import fast_bfloat16
from .curves import LOG, forget, plot_curves
from .processes import averaged, interruptible, share_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Settings of one training stage.

    Attributes:
        steps: optimiser steps.
        batch_size: samples a step (per process).
        learning_rate: peak of the cosine schedule, reached after ``warmup_steps``.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps none.
        precision: ``"no"`` or ``"bf16"`` (autocast, where the processor has it; weights stay float32).
        gradient_checkpointing: compute transformer blocks again in the backward pass instead of keeping their
            activations: about a third more work for a fraction of the memory.
        save_every: steps between checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 200
    final_lr_fraction: float = 0.02
    weight_decay: float = 0.05
    beta2: float = 0.98
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    seed: int = 0
    log_every: int = 50
    save_every: int = 500


StepLoss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]


def half_precision(device: str = "cpu", *, wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 where that is fast: processors that only emulate it take seven times as long."""
    fast = device != "cpu" or bool(fast_bfloat16())
    return torch.autocast(device, torch.bfloat16, enabled=wanted and fast)


def learning_rate_factor(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then cosine decay to ``final_lr_fraction``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_lr_fraction + (1 - config.final_lr_fraction) * cosine


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay on matrices and kernels only, as CLIP does: not on biases, norms, scales or single rows."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.squeeze().ndim >= 2]
    plain = [p for p in trained if p.squeeze().ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def train(
    model: torch.nn.Module,
    step_loss: StepLoss,
    config: LoopConfig,
    folder: str | Path,
    *,
    evaluate: Callable[[torch.nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 0,
) -> torch.nn.Module:
    """Train ``model`` in place and return the module to use afterwards (the moving average if one is kept).

    Under ``accelerate launch`` every process draws its own batch, gradients are averaged, and the first process writes.

    Args:
        model: holds every trained parameter; ``step_loss`` closes over it.
        step_loss: ``(step, rng) -> (scalar loss, metrics)``; must draw all randomness from ``rng`` or from torch's
            global generator, which is seeded by ``(seed, step)`` before the call.
        folder: checkpoints, ``metrics.jsonl``, ``loop.json`` and ``curves.png`` go here; an existing checkpoint
            is resumed.
        evaluate: called with the module to judge every ``evaluate_every`` steps and at the end.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the step that it fell in has been saved; a second one ends at once.
            SIGTERM is minded likewise, and then comes again, to whoever minds it.
        NonFiniteError: the loss or its gradient is NaN or infinite, in every process at once. Neither the weights nor
            the checkpoints have taken it in.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(model, config, folder)
    accelerator = run.accelerator
    first = step_of(folder)
    if first:
        accelerator.load_state(str(_newest(folder)))
        logger.info("resumed %s at step %d", folder, first)
    main = accelerator.is_main_process
    if main:
        with written_whole(folder / "loop.json") as temporary:
            temporary.write_text(json.dumps(asdict(config), indent=1))
        forget(folder / LOG, first)
    started, seen = time.monotonic(), 0
    with open(folder / LOG if main else os.devnull, "a") as log, interruptible(accelerator):
        steps = range(first, config.steps)
        quiet = None if main else True  # None: where stderr is no terminal
        for step in tqdm(steps, initial=first, total=config.steps, desc=folder.name, mininterval=5, disable=quiet):
            row = run.step(step, step_loss)
            seen += config.batch_size * accelerator.num_processes
            last = step + 1 == config.steps
            if step % config.log_every == 0 or last:
                speed = round(seen / (time.monotonic() - started), 2)
                _log(log, row | {"samples_per_s": speed})
            due = last or (evaluate_every and (step + 1) % evaluate_every == 0)
            if evaluate is not None and main and due:
                _log(log, {"step": step, "eval": run.judged_by(evaluate)})
            interrupted = accelerator.check_trigger()  # by any of the processes
            if last or interrupted or (step + 1) % config.save_every == 0:
                _save(accelerator, folder, step + 1)
            if interrupted and not last:
                raise KeyboardInterrupt
    if main:
        plot_curves(folder)
    return run.result.eval()


class _Run:
    """The model in training, with its optimiser, schedule and moving average."""

    def __init__(self, model: torch.nn.Module, config: LoopConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        # Precision is a process-wide setting there; autocast is per stage. Its scheduler would go one step a process.
        self.accelerator = Accelerator(mixed_precision="no", step_scheduler_with_optimizer=False)
        device = self.accelerator.device
        self.half = half_precision(device.type, wanted=config.precision == "bf16")
        if config.gradient_checkpointing:
            _checkpoint_blocks(model)
        # Not wrapped for data parallelism: step losses call parts of the model, past a wrapper's forward.
        self.model = self.accelerator.prepare_model(model, evaluation_mode=True)
        optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, config.beta2)
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))
        self.optimizer, self.schedule = self.accelerator.prepare(optimizer, schedule)
        share_weights(self.model, self.accelerator)
        self.average = None
        if config.ema_decay:
            self.average = AveragedModel(model, multi_avg_fn=averaging(config.ema_decay))
            self.accelerator.register_for_checkpointing(self.average)
        self.result = self.model if self.average is None else self.average.module

    def step(self, step: int, step_loss: StepLoss) -> dict[str, float]:
        """One step of the optimiser; gives its row for the log."""
        rng = np.random.default_rng([self.config.seed, step, self.accelerator.process_index])
        torch.manual_seed(int(rng.integers(2**31)))
        self.model.train()
        with self.half:
            loss, metrics = step_loss(step, rng)
        self.accelerator.backward(loss)
        loss = averaged(loss.detach().float(), self.model, self.accelerator)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        row = {"step": step, "loss": loss.item(), "grad_norm": float(norm)}
        if not all(map(math.isfinite, row.values())):
            raise NonFiniteError(
                f"{self.folder}: stopped at step {step}: the loss is {row['loss']}, the norm of its gradient "
                f"{row['grad_norm']}; the checkpoint of step {step_of(self.folder)} is as it was. Look for extreme "
                'inputs, or begin another run with a lower learning_rate or with precision = "no"'
            )
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.accelerator.unwrap_model(self.model))
        return row | {"lr": self.schedule.get_last_lr()[0]} | metrics

    def judged_by(self, evaluate: Callable[[torch.nn.Module], dict[str, float]]) -> dict[str, float]:
        self.result.eval()
        with torch.no_grad(), self.half:
            return evaluate(self.result)


def _log(log: TextIO, row: dict) -> None:
    log.write(json.dumps(_told(row), allow_nan=False) + "\n")
    log.flush()


def _told(value: Any) -> Any:
    """JSON has no NaN: a score that cannot be told (the mean of nothing) becomes null."""
    if isinstance(value, dict):
        return {key: _told(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def averaging(decay: float) -> Callable[..., None]:
    """A moving average that is shorter at first, so that the untrained weights do not linger in it.

    Step n has the decay min(decay, (1 + n) / (10 + n)), as TensorFlow's moving average and diffusers' EMAModel have it.
    """

    @torch.no_grad()
    def update(averages: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor | int) -> None:
        get_ema_multi_avg_fn(min(decay, (1 + int(count)) / (10 + int(count))))(averages, current, count)

    return update


def _checkpoint_blocks(model: torch.nn.Module) -> None:
    """Switch gradient checkpointing on in every part that has it."""
    switched = [part for part in model.modules() if getattr(part, "supports_gradient_checkpointing", False)]
    if not switched:
        raise InputError(f"gradient_checkpointing: {type(model).__name__} has no part that supports it")
    for part in switched:
        part.gradient_checkpointing_enable()


def _save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Write a checkpoint beside the old one, then swap by renaming: a kill at any moment leaves one whole."""
    fresh = folder / "checkpoint.new"
    if accelerator.is_main_process:
        shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed while it wrote
    accelerator.wait_for_everyone()
    accelerator.save_state(str(fresh))
    accelerator.wait_for_everyone()  # each process writes its own random state
    if accelerator.is_main_process:
        (fresh / "step.json").write_text(json.dumps({"step": step}))
        swap_in(fresh, folder / "checkpoint")
    accelerator.wait_for_everyone()


def _newest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a stage."""
    found = (folder / name for name in ("checkpoint", "checkpoint.old"))
    return next((checkpoint for checkpoint in found if (checkpoint / "step.json").exists()), None)


def step_of(folder: str | Path) -> int:
    """The step that a run in this folder goes on from: steps of its newest checkpoint, 0 where there is none."""
    checkpoint = _newest(Path(folder))
    return 0 if checkpoint is None else json.loads((checkpoint / "step.json").read_text())["step"]


def weights_of(folder: str | Path) -> dict[str, torch.Tensor]:
    """State dict of a stage's newest checkpoint: the moving average where one was kept, else the trained weights.

    Raises:
        InputError: the stage has not been trained yet.
    """
    checkpoint = _newest(Path(folder))
    if checkpoint is None:
        raise InputError(f"{folder}: wanted a trained stage, found no checkpoint; run that stage first")
    average = checkpoint / "custom_checkpoint_0.pkl"
    if not average.exists():
        return load_file(checkpoint / "model.safetensors")
    state = torch.load(average, map_location="cpu", weights_only=True)
    return {key.removeprefix("module."): value for key, value in state.items() if key.startswith("module.")}
