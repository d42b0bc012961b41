"""What the processes of one run tell each other: weights at the start, gradients, the loss and Ctrl-C at every step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator

AT_ONCE = 1.0  # s


def share_weights(model: torch.nn.Module, accelerator: Accelerator) -> None:
    """Start from the first process's weights everywhere."""
    if accelerator.num_processes > 1:
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                torch.distributed.broadcast(value, src=0)


def averaged(loss: torch.Tensor, model: torch.nn.Module, accelerator: Accelerator) -> torch.Tensor:
    """Mean over processes of every gradient, and of the loss, which is given back: one that is not finite is so in all.

    All processes take part for every trained parameter, used or not.
    """
    if accelerator.num_processes == 1:
        return loss
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    flat = torch.cat([loss.reshape(1), *(p.grad.flatten() for p in trained)])  # one message instead of hundreds
    torch.distributed.all_reduce(flat)
    loss, *means = (flat / accelerator.num_processes).split([1, *(p.numel() for p in trained)])
    for p, grad in zip(trained, means, strict=True):
        p.grad.copy_(grad.view_as(p))
    return loss


@contextmanager
def interruptible(accelerator: Accelerator) -> Iterator[None]:
    """Within the block: the first Ctrl-C or SIGTERM sets the trigger that the loop looks at, a later one is as ever.

    One that comes at once is the same again: a terminal tells a launcher and its processes, and that tells them too.

    Where the block ends by an exception after that, it ends as by the signal: a worker that was told to end as well,
    and had no batch any more, is no fault.
    """
    # Signals come to the main thread only; what a shell started in the background ignores Ctrl-C.
    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if here}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    came: list[tuple[int, float]] = []  # signal, s

    def as_ever() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, _: object) -> None:
        if not came:
            came.append((number, time.monotonic()))
            accelerator.set_trigger()
        elif time.monotonic() - came[0][1] > AT_ONCE:
            as_ever()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        as_ever()
        if came:
            signal.raise_signal(came[0][0])
            raise KeyboardInterrupt from error
        raise
    finally:
        as_ever()
