"""The exception tree: every error that a user can cause derives from :class:`Bind2GenError`. And what was meant.

Messages say what was wanted, what came and what to do. The command line prints them as one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

BREAKS = re.compile(r"[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")


def printable(text: str) -> str:
    """A text on one line, without control characters; half characters stay, names of files may hold them."""
    text = BREAKS.sub(" ", text)
    return "".join(c if c.isprintable() or "\ud800" <= c <= "\udfff" else "?" for c in text)


LONGEST = 1500  # characters of a message


class Bind2GenError(Exception):
    """Base class of everything that bind2gen raises on purpose.

    A message may quote what a file holds, or another library; it is made one line of printable characters here.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(_short(printable(part)) if isinstance(part, str) else part for part in args))


def _short(text: str) -> str:
    """Of a message that quotes a whole file the beginning and the end, which says what to do."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 302]} … {text[-299:]}"


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


class StoreError(Bind2GenError, ValueError):
    """A store of embeddings is missing, another model's or another version's, or cannot be read or written."""


class DependencyError(Bind2GenError, ImportError):
    """An optional package is missing or broken; the message names the command that mends it."""


class Bind2GenWarning(UserWarning):
    """Something was repaired or assumed (padding of a short sound, a silent sound); the result may be weak."""


# ---- what was meant ----

ALIKE = 0.8  # of difflib's ratio, 0..1: one letter more, less or swapped in a word of five
SYNONYMS = {  # other words for names of ours, the best first
    "sound": ("audio",), "sounds": ("audio",), "wav": ("audio",), "music": ("audio",), "speech": ("audio",),
    "image": ("like",), "picture": ("image", "like"), "photo": ("image", "like"), "img": ("image", "like"),
    "caption": ("text",), "words": ("text",), "sentence": ("text",), "prompt": ("text",),
    "film": ("video",), "movie": ("video",), "infrared": ("thermal",), "motion": ("imu",),
    "output": ("out",), "lr": ("learning-rate",), "confidence": ("threshold",), "score": ("threshold",),
}  # fmt: skip


def did_you_mean(name: str, known: Iterable[str], form: str = "{}") -> str:
    """The end of a message, like ``; did you mean audio=?``; empty where nothing known is near.

    Args:
        name: unknown, like ``image_input``.
        known: names that there are.
        form: how they are written, like ``{}=``.
    """
    names = {one.lower(): one for one in known}
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    meant = [one for word in words for one in (word, word.removesuffix("s"), *SYNONYMS.get(word, ())) if one in names]
    meant = meant or get_close_matches(name.lower().strip("-"), names, n=1)
    return f"; did you mean {form.format(names[meant[0]])}?" if meant else ""


def misspelt(text: str, known: Iterable[str]) -> str:
    """The same for words as people write them, "a helicoptr", by spelling alone."""
    names = {_bare(one): one for one in known}
    close = get_close_matches(_bare(text), names, n=1, cutoff=ALIKE)
    return f"; did you mean {names[close[0]]!r}?" if close and _bare(text) not in names else ""


def _bare(text: str) -> str:
    return re.sub(r"^(a|an|the) ", "", text.strip().lower())
