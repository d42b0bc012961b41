"""How fast files became embeddings, and what that was bound by: reading them or encoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from .processes import processors


@dataclass
class Pace:
    """Of one run.

    Attributes:
        device: where the encoder computes.
        workers: processes that read files.
        inputs: files and texts done.
        decoding: s, of all workers together; beside an encoder on the same processors, s of processor time.
        encoding: s.
        seconds: from the beginning to the end, when that has come.
    """

    device: torch.device
    workers: int = 0
    inputs: int = 0
    decoding: float = 0.0
    encoding: float = 0.0
    seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    def begin(self, workers: int) -> None:
        """Set out with so many workers."""
        self.workers, self._started = workers, time.perf_counter()

    def end(self) -> None:
        """Arrive."""
        self.seconds = time.perf_counter() - self._started

    @property
    def apart(self) -> bool:
        """Whether the encoder has a processor of its own."""
        return self.device.type != "cpu"

    def timed(self, encode: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Begin to encode; the result, on the CPU, when it is asked for."""
        if self.device.type != "cuda":
            started = time.perf_counter()
            vectors = encode().cpu()
            self.encoding += time.perf_counter() - started
            return lambda: vectors
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        vectors = encode().to("cpu", non_blocking=True)
        last.record()

        def fetched() -> torch.Tensor:
            last.synchronize()
            self.encoding += first.elapsed_time(last) / 1000
            return vectors

        return fetched

    def figures(self) -> dict[str, Any]:
        """Inputs a second of the run, and of each stage if it alone had all processors that it can use."""
        at_once = max(1, self.workers if self.apart else min(self.workers, processors()))
        decoding = at_once * self.inputs / max(self.decoding, 1e-9)
        encoder = self.inputs / max(self.encoding, 1e-9)
        return {
            "inputs": self.inputs,
            "seconds": round(self.seconds, 2),
            "per_second": round(self.inputs / max(self.seconds, 1e-9), 1),
            "workers": self.workers,
            "decoding_per_second": round(decoding, 1),
            "encoder_per_second": round(encoder, 1),
            "binds": "decoding" if decoding < encoder else "encoder",
        }


def in_words(found: dict[str, Any], what: str) -> str:
    """Figures of :class:`Pace` on one line.

    Args:
        what: that was done.
    """
    took = f"{what}: {found['inputs']} in {found['seconds']:.1f} s, {found['per_second']:.4g} a second"
    where = f"in {found['workers']} processes" if found["workers"] else "in this process"
    stages = f"decoding {found['decoding_per_second']:.4g} a second {where}, encoder {found['encoder_per_second']:.4g}"
    return f"{took} ({stages}: {'decoding' if found['binds'] == 'decoding' else 'the encoder'} binds)"
