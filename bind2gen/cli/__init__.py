"""The command line: parse, call, print. Nothing here or in the argument parsers imports torch.

Exit codes: 0 done; 1 an input, a model or the machine cannot do it; 2 the command line itself is wrong; 130 Ctrl-C;
143 told to end (SIGTERM).
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress

from .. import __version__
from ..errors import Bind2GenError
from ..files.stopping import ended, told_by_signals
from . import (
    classify,
    convert,
    demo,
    detect,
    embed,
    evaluate,
    film,
    fit_class_map,
    fit_classifier,
    fit_gap,
    fit_map,
    generate,
    index,
    info,
    inspect,
    matrix,
    morph,
    search,
    train,
    verify,
)
from .arguments import Parser, UsageError
from .reporting import FAILED, one_line, quiet_libraries

USAGE = 2
DEBUG_VARIABLE = "BIND2GEN_DEBUG"
# Objects made between two searches for garbage. With Python's 700 a sixth of the time that torch, diffusers and
# transformers take to import goes into looking through what stays anyway.
SEARCH_EVERY = 50_000
logger = logging.getLogger(__name__)
COMMANDS = (
    generate, film, morph, detect, embed, index, search, classify, matrix, inspect, demo, evaluate, convert, verify,
    fit_gap, fit_map, fit_class_map, fit_classifier, train, info,
)  # fmt: skip


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="bind2gen",
        description="Sound, pictures, text, video, depth, infrared and motion into one embedding space, and pictures "
        "out of it.",
        epilog="Exit codes: 0 done; 1 an input, a model or the machine cannot do it; 2 wrong command line. "
        f"Set {DEBUG_VARIABLE}=1 for tracebacks.",
    )
    parser.add_argument("--version", action="version", version=f"bind2gen {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; default is those of the process.

    Returns:
        The exit code. Help, version and wrong command lines leave by :class:`SystemExit`, as argparse does.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # file names need not be valid in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    args, thresholds = argparse.Namespace(), gc.get_threshold()
    gc.set_threshold(SEARCH_EVERY, *thresholds[1:])
    try:
        with told_by_signals():
            args = build_parser().parse_args(argv)
            if getattr(args, "json", False) and not sys.stderr.isatty():
                args.quiet = True  # a machine reads: no bars in its log
            _check_working_folder()
            with quiet_libraries(verbose=getattr(args, "verbose", False)):
                started = time.monotonic()
                code = args.run(args) or 0
                sys.stdout.flush()
                logger.info("done in %.1f s", time.monotonic() - started)
        return code
    except UsageError as error:
        return _fail(args, error, USAGE)
    except Bind2GenError as error:
        return _fail(args, error, FAILED)
    except KeyboardInterrupt as stop:
        return _fail(args, *ended(stop))
    except BrokenPipeError:
        _give_up_stdout()  # its reader has gone
        return FAILED
    except OSError as error:  # names that no file can have, disks that fail
        where = f"{str(error.filename)[:200]}: " if error.filename is not None else ""
        return _fail(args, f"{where}{error.strerror or error}", FAILED)
    except MemoryError:
        return _fail(args, "out of memory; try a smaller --batch-size or fewer inputs", FAILED)
    except Exception as error:  # noqa: BLE001  (users get one line, never a traceback)
        kind = type(error).__name__
        if kind == "OutOfMemoryError":  # torch's, which need not be imported here
            return _fail(args, "the device is out of memory; try a smaller --batch-size or --device cpu", FAILED)
        advice = f"set {DEBUG_VARIABLE}=1 for the traceback"
        return _fail(args, f"unexpected {kind}: {one_line(error)}; {advice}", FAILED)
    finally:
        gc.set_threshold(*thresholds)


def _fail(args: object, message: object, code: int) -> int:
    """One line on stderr; with ``--json`` also a document on stdout, so that a machine always finds one."""
    if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
        traceback.print_exc()
    text = one_line(message)
    try:
        if getattr(args, "json", False):
            print(json.dumps({"error": text, "exit_code": code}))
        sys.stdout.flush()
    except OSError:  # a full disk, a reader that has gone
        _give_up_stdout()
    with suppress(OSError):
        print(f"bind2gen: error: {text}", file=sys.stderr)
    return code


def _give_up_stdout() -> None:
    """What is left in its buffer cannot be written; Python would complain of it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Give the null device the place of a stream that the caller closed, or the next file opened would get it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = open(os.devnull, "w" if number else "r")  # noqa: SIM115
            if null.fileno() != number:
                os.dup2(null.fileno(), number)
            setattr(sys, name, null)


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:  # libraries end the process where it is missing
        raise Bind2GenError("the working directory is there no more; change to one that is") from None
