"""The exception tree. Every error that a user can cause derives from :class:`Bind2GenError`.

Messages say what was wanted, what came and what to do. The command line prints them as one line.
"""

from __future__ import annotations


class Bind2GenError(Exception):
    """Base class of everything that bind2gen raises on purpose."""


class InputError(Bind2GenError, ValueError):
    """An input cannot be used: unreadable, empty, of the wrong rank, dtype or range."""


class UnreadableError(InputError):
    """A file (or bytes) could not be opened or decoded as what it was given for."""


class EmptyInputError(InputError):
    """An input holds no samples, no pixels or no characters."""


class NonFiniteError(InputError):
    """An input, or the loss of a training step, holds NaN or infinite values."""


class ShapeError(InputError):
    """An array or tensor has the wrong rank, the wrong sizes or the wrong dtype."""


class TooLargeError(InputError):
    """An input is larger than the limit that protects memory (decompression bombs, absurd lengths)."""


class CheckpointError(Bind2GenError, ValueError):
    """A weight file is truncated, of another model, or misses parameters."""


class ModalityError(Bind2GenError, ValueError):
    """A modality is unknown, or the model at hand was built without its tower."""


class HostError(Bind2GenError, ValueError):
    """A generation or detection host does not fit: wrong component, wrong embedding width."""


class DependencyError(Bind2GenError, ImportError):
    """An optional package is missing or broken; the message names the command that mends it."""


class Bind2GenWarning(UserWarning):
    """Something was repaired or assumed (padding of a short sound, a silent sound); the result may be weak."""
