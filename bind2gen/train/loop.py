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

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from ..errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Settings of one training stage.

    Attributes:
        steps: optimiser steps.
        batch_size: samples a step (per process).
        learning_rate: peak of the cosine schedule, reached after ``warmup_steps``.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps none.
        precision: ``"no"`` or ``"bf16"`` (autocast; weights stay float32).
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
    seed: int = 0
    log_every: int = 50
    save_every: int = 500


StepLoss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]


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

    Args:
        model: holds every trained parameter; ``step_loss`` closes over it.
        step_loss: ``(step, rng) -> (scalar loss, metrics)``; must draw all randomness from ``rng`` or from torch's
            global generator, which is seeded by ``(seed, step)`` before the call.
        folder: checkpoints, ``metrics.jsonl`` and ``loop.json`` go here; an existing checkpoint is resumed.
        evaluate: called with the module to judge every ``evaluate_every`` steps and at the end.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="no")  # a process-wide setting; autocast below is per stage
    half = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=config.precision == "bf16")
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, config.beta2)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, config))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)) if config.ema_decay else None
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    if average is not None:
        accelerator.register_for_checkpointing(average)
    first = _resume(accelerator, folder)
    (folder / "loop.json").write_text(json.dumps(asdict(config), indent=1))
    judged = average.module if average is not None else model
    started, seen = time.monotonic(), 0
    with open(folder / "metrics.jsonl", "a") as log:
        for step in tqdm(
            range(first, config.steps), initial=first, total=config.steps, desc=folder.name, mininterval=5
        ):
            rng = np.random.default_rng([config.seed, step, accelerator.process_index])
            torch.manual_seed(int(rng.integers(2**31)))
            model.train()
            with half:
                loss, metrics = step_loss(step, rng)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if average is not None:
                average.update_parameters(accelerator.unwrap_model(model))
            seen += config.batch_size
            last = step + 1 == config.steps
            if step % config.log_every == 0 or last:
                row = {"step": step, "loss": loss.item(), "grad_norm": float(norm), "lr": schedule.get_last_lr()[0]}
                row |= metrics | {"samples_per_s": round(seen / (time.monotonic() - started), 2)}
                log.write(json.dumps(row) + "\n")
                log.flush()
            if evaluate is not None and (last or (evaluate_every and (step + 1) % evaluate_every == 0)):
                judged.eval()
                with torch.no_grad(), half:
                    row = {"step": step, "eval": evaluate(judged)}
                log.write(json.dumps(row) + "\n")
                log.flush()
            if last or (step + 1) % config.save_every == 0:
                _save(accelerator, folder, step + 1)
    return judged.eval()


def _save(accelerator: Accelerator, folder: Path, step: int) -> None:
    """Write a checkpoint beside the old one, then swap by renaming: a kill at any moment leaves one whole."""
    fresh, current, old = folder / "checkpoint.new", folder / "checkpoint", folder / "checkpoint.old"
    accelerator.save_state(str(fresh))
    if not accelerator.is_main_process:
        return
    (fresh / "step.json").write_text(json.dumps({"step": step}))
    if old.exists():
        shutil.rmtree(old)
    if current.exists():
        os.rename(current, old)
    os.rename(fresh, current)


def _resume(accelerator: Accelerator, folder: Path) -> int:
    """Load the newest whole checkpoint; returns the step to go on from."""
    for name in ("checkpoint", "checkpoint.old"):
        marker = folder / name / "step.json"
        if marker.exists():
            accelerator.load_state(str(folder / name))
            step = json.loads(marker.read_text())["step"]
            logger.info("resumed %s at step %d", folder, step)
            return step
    return 0


def weights_of(folder: str | Path) -> dict[str, torch.Tensor]:
    """State dict of a stage's newest checkpoint: the moving average where one was kept, else the trained weights.

    Raises:
        InputError: the stage has not been trained yet.
    """
    for name in ("checkpoint", "checkpoint.old"):
        checkpoint = Path(folder) / name
        if not (checkpoint / "step.json").exists():
            continue
        average = checkpoint / "custom_checkpoint_0.pkl"
        if average.exists():
            state = torch.load(average, map_location="cpu", weights_only=True)
            return {key.removeprefix("module."): value for key, value in state.items() if key.startswith("module.")}
        return load_file(checkpoint / "model.safetensors")
    raise InputError(f"{folder}: wanted a trained stage, found no checkpoint; run that stage first")
