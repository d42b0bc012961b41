"""``bind2gen generate --profile``: where time and memory went."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .reporting import aligned, say

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

MIB = 2**20
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # macOS counts it in bytes, Linux in KiB


@dataclass
class Part:
    """What one part of a run took, all its turns together.

    Attributes:
        seconds, cpu_seconds: by the clock, and of all cores.
        times: how often it ran.
        peak_mib: the most memory that the process had held by its end.
        device_peak_mib: the most that torch had held on the GPU by then, where there is one.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    times: int = 0
    peak_mib: int = 0
    device_peak_mib: int | None = None


class Profile:
    """A clock that is told what just ended; one that is not ``on`` does nothing.

    Attributes:
        parts: by name, in the order in which they first ended.
    """

    def __init__(self, *, on: bool) -> None:
        self.on, self.parts = on, {}
        self._device: torch.device | None = None
        if on:
            import psutil

            self._now = (psutil.Process().create_time(), 0.0)  # what Python took to start counts
            self.lap("start")

    def use(self, device: torch.device) -> None:
        """Wait for this device's work at the end of each part."""
        self._device = device

    def lap(self, name: str) -> None:
        """All since the last call was ``name``."""
        if not self.on:
            return
        cuda = self._device is not None and self._device.type == "cuda"
        if cuda:
            import torch

            torch.cuda.synchronize(self._device)
        (wall, cpu), self._now = self._now, (time.time(), time.process_time())
        part = self.parts.setdefault(name, Part())
        part.seconds += self._now[0] - wall
        part.cpu_seconds += self._now[1] - cpu
        part.times += 1
        part.peak_mib = _peak() // MIB
        if cuda:
            part.device_peak_mib = torch.cuda.max_memory_allocated(self._device) // MIB

    def around(self, module: torch.nn.Module, before: str, name: str) -> None:
        """Each call of ``module`` is ``name``, and what comes before it is ``before``."""
        if self.on:
            module.register_forward_pre_hook(lambda *_: self.lap(before))
            module.register_forward_hook(lambda *_: self.lap(name))

    def told(self) -> dict[str, Any]:
        """For the JSON document: seconds, CPU seconds, times and memory in MiB by part; empty where it is off."""
        rows = {name: {k: v for k, v in asdict(part).items() if v is not None} for name, part in self.parts.items()}
        for row in rows.values():
            row |= {name: round(row[name], 4) for name in ("seconds", "cpu_seconds")}
        return {"profile": rows} if self.on else {}

    def show(self, *, quiet: bool) -> None:
        """The same as a table on stderr, unless it goes elsewhere."""
        if quiet or not self.on:
            return
        total = sum(part.seconds for part in self.parts.values())
        gpu = any(part.device_peak_mib is not None for part in self.parts.values())
        rows = [["part", "s", "share", "CPU s", "times", "s each", "peak MiB", *["GPU MiB"] * gpu]]
        for name, p in self.parts.items():
            share, each = f"{p.seconds / max(total, 1e-9):.0%}", f"{p.seconds / p.times:.3f}"
            device = [str(p.device_peak_mib or 0)] * gpu
            row = [name, f"{p.seconds:.2f}", share, f"{p.cpu_seconds:.2f}", str(p.times), each, str(p.peak_mib)]
            rows.append(row + device)
        cpu, peak = (
            f(getattr(p, k) for p in self.parts.values()) for f, k in ((sum, "cpu_seconds"), (max, "peak_mib"))
        )
        rows.append(["all", f"{total:.2f}", "", f"{cpu:.2f}", "", "", str(peak)])
        say(aligned([[*row, *[""] * (len(rows[0]) - len(row))] for row in rows]))


def _peak() -> int:
    """Bytes that this process ever held."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT


def timed_steps(profile: Profile, callback: Callable[..., Any]) -> Callable[..., Any]:
    """A pipeline's ``callback_on_step_end``, with the steps timed; the first one has the host's prompt before it."""

    def timed(pipe: Any, step: int, *others: Any) -> Any:
        profile.lap("step" if step else "first step")
        return callback(pipe, step, *others)

    return timed if profile.on else callback
