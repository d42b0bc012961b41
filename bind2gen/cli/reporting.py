"""What users see: progress bars, one-line messages, and silence from the libraries below."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

from ..errors import Bind2GenWarning, printable

if TYPE_CHECKING:
    import argparse

    from tqdm import tqdm

    from ..imagebind.pace import Pace

MAX_MESSAGE = 600  # characters
FAILED = 1  # exit code where an input, a model or the machine cannot do it


def one_line(message: object) -> str:
    """A message on one line, without control characters."""
    text = printable(" ".join(str(message).split()))
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A table for people: each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(map(str.rstrip, padded))


def progress(name: str, *, total: int | None, quiet: bool) -> tqdm:
    """A bar on stderr, if that is a terminal; it goes when it is done, so that messages stand on lines of their own."""
    from tqdm import tqdm

    return tqdm(desc=name, total=total, disable=quiet or None, leave=False, file=sys.stderr, dynamic_ncols=True)


def tell_pace(paces: Mapping[str, Pace], args: argparse.Namespace) -> None:
    """One line for each kind of input that there was much of: how fast it went, and what that was bound by."""
    from ..imagebind.pace import in_words
    from ..imagebind.processes import FEW

    for what, pace in paces.items():
        if pace.inputs >= FEW or (args.verbose and pace.inputs):
            say(f"bind2gen: {in_words(pace.figures(), what)}")


def step_counter(bar: tqdm, batches: int) -> Callable[..., dict[str, Any]]:
    """A callback of pipelines that counts the steps of all ``batches``."""

    def count(pipe: Any, step: int, timestep: int, tensors: dict[str, Any]) -> dict[str, Any]:
        bar.total = batches * len(pipe.scheduler.timesteps)  # schedulers may take more steps than asked for
        bar.update()
        return {}

    return count


class _OwnLines(logging.Handler):
    """Warnings that bind2gen logs (the licence of the official weights) as single lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(f"bind2gen: note: {one_line(record.getMessage())}")


def say(line: str) -> None:
    """One line on stderr that does not tear a progress bar."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)


@contextmanager
def quiet_libraries(*, verbose: bool = False) -> Iterator[None]:
    """Within the block: bind2gen's warnings and log lines as single lines, everybody else's not at all.

    Args:
        verbose: everybody's, and bind2gen's log down to INFO.
    """
    root, own = logging.getLogger(), logging.getLogger("bind2gen")
    silent, lines = logging.NullHandler(), _OwnLines(logging.INFO if verbose else logging.WARNING)
    root.addHandler(silent)  # without any handler Python prints warnings of loggers on stderr
    own.addHandler(lines)
    level = own.level
    own.setLevel(lines.level)
    with warnings.catch_warnings():
        warnings.simplefilter("default" if verbose else "ignore")
        warnings.simplefilter("always", Bind2GenWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            root.removeHandler(silent)
            own.removeHandler(lines)
            own.setLevel(level)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    kind = "" if issubclass(category, Bind2GenWarning) else f"{category.__name__}: "  # of a library, with --verbose
    say(f"bind2gen: warning: {kind}{one_line(message)}")


@contextmanager
def only_ours(*, on: bool) -> Iterator[None]:
    """Within the block, if ``on``: on stderr what is written to Python's, nothing on stdout.

    For a library that prints whatever it is told: Ray does, from C++ on stderr and from a thread on stdout.
    """
    if not on:
        yield
        return
    own, kept = sys.stderr, os.dup(2)
    own.flush()
    try:
        shared = own.fileno() == 2
    except (OSError, ValueError):  # it goes elsewhere, as in tests and notebooks
        shared = False
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            os.dup2(nowhere.fileno(), 2)
            if shared:
                sys.stderr = os.fdopen(kept, "w", 1, own.encoding, own.errors, closefd=False)
            yield
            sys.stderr.flush()
    finally:
        sys.stderr = own
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def quiet_hub(*, quiet: bool) -> Iterator[None]:
    """Within the block: no log lines of the hub's client; its download bars stay unless ``quiet``."""
    from huggingface_hub import logging as hub_logging
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    level, downloads = hub_logging.get_verbosity(), not are_progress_bars_disabled()
    hub_logging.set_verbosity(logging.CRITICAL)
    (disable_progress_bars if quiet else enable_progress_bars)()
    try:
        yield
    finally:
        hub_logging.set_verbosity(level)
        (enable_progress_bars if downloads else disable_progress_bars)()


@contextmanager
def quiet_models(*, quiet: bool, drawing: bool = True) -> Iterator[None]:
    """Within the block: no bars and no advice from diffusers and transformers, and the hub as in :func:`quiet_hub`.

    Args:
        drawing: diffusers is used; importing it takes a second.
    """
    from transformers.utils import logging as transformers_logging

    libraries = [transformers_logging]
    if drawing:
        from diffusers.utils import logging as diffusers_logging

        libraries.append(diffusers_logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)
        library.disable_progress_bar()  # that of transformers switches the hub's bars off, so the hub's turn is next
    try:
        with quiet_hub(quiet=quiet):
            yield
    finally:
        for library, level, bar in before:
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
