"""What tests of refusals share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bind2gen.errors import Bind2GenError

from .worker import forget_peak, status_of

LITTLE = 200 << 20  # bytes: more than a refusal takes, far less than what is claimed by what is refused


def refused(call: Callable[[], Any], error: type[Exception] = Bind2GenError) -> str:
    """What a call says, in one line and without having taken memory."""
    forget_peak()
    before = status_of("VmRSS")
    with pytest.raises(error) as caught:
        call()
    assert status_of("VmHWM") - before < LITTLE
    assert str(caught.value).isprintable()
    return str(caught.value)
