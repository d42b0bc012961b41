"""What the settings of all modalities share: frozen numbers that go to JSON and come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from .sources import one_line

# The most that settings of these names may be: far beyond any use, and before memory or patience ends.
MOST = {
    "num_clips": 10_000, "num_frames": 1_000, "num_mel_bins": 10_000, "target_length": 100_000, "samples": 10_000_000,
    "context_length": 10_000, "sample_rate": 1e6, "sampling_rate": 1e5, "short_side": 20_000, "long_side": 20_000,
}  # fmt: skip
# Of numbers but zero: single precision holds their squares and quotients.
LEAST, LARGEST = 1e-15, 1e15
TOO_LONG = 2**63  # for a whole number of torch or numpy


@dataclass(frozen=True)
class Settings:
    """Base of ``TextSettings``, ``ImageSettings``, ``AudioSettings`` and ``VideoSettings``."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; tuples become lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from parsed JSON.

        Raises:
            InputError: a name is unknown, or a value is of the wrong type or out of range.
        """
        return cls(**checked(cls, values))

    def require_positive(self, *names: str) -> None:
        """Refuse numbers that are not above zero (NaN included) or absurdly large, and things that are no numbers."""
        for name in names:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not LEAST <= value < math.inf:
                raise InputError(f"{type(self).__name__}: wanted {name} above zero, got {value!r}")
            if value > (most := MOST.get(name, LARGEST)):
                raise InputError(f"{type(self).__name__}: wanted {name} of at most {most:,.0f}, got {value!r}")

    def require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a word that is not one of ``choices``."""
        if getattr(self, name) not in choices:
            value = getattr(self, name)
            raise InputError(f"{type(self).__name__}: wanted {name} to be one of {', '.join(choices)}, got {value!r}")


def checked(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Parsed JSON as the arguments of a dataclass: lists become tuples.

    Raises:
        InputError: a name is unknown, or a value is not of the type that its field is annotated with.
    """
    known = [f.name for f in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"{kind.__name__}: unknown settings {unknown}; known are {', '.join(known)}")
    if wrong := misfit(values, get_type_hints(kind)):
        raise InputError(f"{kind.__name__}: {wrong}")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def misfit(values: Mapping[str, Any], hints: Mapping[str, Any]) -> str | None:
    """What is wrong with the first value that is not of its annotated type; None if all are."""
    for name, value in values.items():
        if name in hints and not is_a(value, hints[name]):
            kind = hints[name] if get_args(hints[name]) else hints[name].__name__
            return f"wanted {name} as {kind}, got {one_line(repr(value), 80)}"
    return None


def is_a(value: Any, hint: Any) -> bool:
    """Whether parsed JSON is of an annotated type; a float is a number that single precision can reckon with."""
    if get_origin(hint) in (Union, UnionType):
        return any(is_a(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if not isinstance(value, list | tuple) or not (kinds[-1] is Ellipsis or len(value) == len(kinds)):
            return False
        return all(is_a(part, kinds[0]) for part in value)  # all of one kind here
    if get_origin(hint) is list:
        return isinstance(value, list) and all(is_a(part, get_args(hint)[0]) for part in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(is_a(part, get_args(hint)[1]) for part in value.values())
    if isinstance(value, int) and abs(value) >= TOO_LONG:
        return False
    if hint is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (value == 0 or LEAST <= abs(value) <= LARGEST)
    if hint in (int, bool, str, NoneType):
        return type(value) is hint
    return True
