"""Fewer steps for a loaded pipeline, by a solver that needs no more."""

from __future__ import annotations

from typing import Any

from diffusers import DPMSolverMultistepScheduler

from ...errors import HostError
from . import FAST_STEPS

SOLVER = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2, "final_sigmas_type": "zero"}


def few_steps(pipe: Any) -> dict[str, int]:
    """Give a pipeline DPM-Solver++ with noise (SDE, arXiv 2211.01095), for a third of the steps or fewer.

    The bundled model draws by it already. Its solver without noise, UniPC and others were worse at as few steps: what
    was measured is in tests/bench/RESULTS.md, of the bundled model alone. The noise schedule stays the host's own.

    Args:
        pipe: any pipeline of diffusers, ours, or one that :func:`bind2gen.bind` gives; changed.

    Returns:
        How many steps to call it with: ``pipe(audio=..., **few_steps(pipe))``.

    Raises:
        HostError: its scheduler cannot be replaced so.
    """
    host = getattr(pipe, "pipe", pipe)
    own = getattr(host, "scheduler", None)
    if own is None or DPMSolverMultistepScheduler not in own.compatibles:
        raise HostError(f"fast: {type(host).__name__} draws by {type(own).__name__}, which no quicker solver follows")
    host.scheduler = DPMSolverMultistepScheduler.from_config(own.config, **SOLVER)
    return {"num_inference_steps": FAST_STEPS}
