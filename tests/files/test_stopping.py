"""Signals end a command wherever they fall."""

from __future__ import annotations

import ctypes
import signal
import sys
import time

import pytest

from bind2gen.files.stopping import Terminated, ended, told_by_signals

CALL = ctypes.CFUNCTYPE(None)  # from C, where exceptions end


@pytest.mark.parametrize(
    ("number", "kind", "words", "code"),
    [(signal.SIGTERM, Terminated, "terminated", 143), (signal.SIGINT, KeyboardInterrupt, "interrupted", 130)],
)
def test_a_signal_that_falls_into_a_call_from_c_comes_again(number, kind, words, code, capfd):
    before = sys.unraisablehook
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a script it is ignored
    try:
        with pytest.raises(KeyboardInterrupt) as caught, told_by_signals():
            CALL(lambda: signal.raise_signal(number))()
            time.sleep(20)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert type(caught.value) is kind and ended(caught.value) == (words, code)
    assert sys.unraisablehook is before and capfd.readouterr().err == ""


def test_other_faults_in_calls_from_c_are_told_as_ever(capfd):
    with told_by_signals():
        CALL(lambda: 1 / 0)()
    assert "ZeroDivisionError" in capfd.readouterr().err
