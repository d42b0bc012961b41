"""What the settings of all modalities share: frozen numbers that go to JSON and come back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import InputError


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
            InputError: a name is unknown, or a value is out of range.
        """
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"{cls.__name__}: unknown settings {unknown}; known are {', '.join(known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def require_positive(self, *names: str) -> None:
        """Refuse numbers that are not above zero (NaN and infinity included) and things that are no numbers."""
        for name in names:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < float("inf"):
                raise InputError(f"{type(self).__name__}: wanted {name} above zero, got {value!r}")

    def require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a word that is not one of ``choices``."""
        if getattr(self, name) not in choices:
            value = getattr(self, name)
            raise InputError(f"{type(self).__name__}: wanted {name} to be one of {', '.join(choices)}, got {value!r}")
