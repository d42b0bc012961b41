"""Sentences to token ids: CLIP's byte-pair encoding with start and end tokens (facebookresearch/ImageBind, data.py)."""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from ..errors import Bind2GenWarning, EmptyInputError, InputError, ShapeError, UnreadableError
from .settings import Settings
from .sources import one_line

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CONTEXT_LENGTH = 77  # tokens
MIN_CONTEXT_LENGTH = 2  # start and end


@dataclass(frozen=True)
class TextSettings(Settings):
    """How text becomes model input. Defaults are imagebind_huge's.

    Attributes:
        context_length: tokens, start and end included; longer texts are cut, the end token kept at the last place.
        vocabulary: path of a table of byte pairs (gzip, one merge a line after a header line); None is CLIP's own,
            which comes with open_clip.
    """

    context_length: int = CONTEXT_LENGTH
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        self.require_positive("context_length")
        if self.context_length < MIN_CONTEXT_LENGTH:
            raise InputError(f"TextSettings: wanted context_length of at least 2, got {self.context_length}")
        if self.vocabulary is not None:
            object.__setattr__(self, "vocabulary", os.fspath(self.vocabulary))


def load(source: Any) -> str:
    """Check one text; an empty string is allowed and means "nothing said".

    Raises:
        ShapeError: not a string.
        InputError: characters that no encoding has (lone surrogates).
    """
    if not isinstance(source, str):
        hint = "; decode it" if isinstance(source, bytes) else ""
        raise ShapeError(f"text: wanted a string, got {type(source).__name__}{hint}")
    try:
        source.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f"text: {one_line(ascii(source), 60)} holds half a character (a lone surrogate)") from None
    return source


def transform(texts: str | list[str], settings: TextSettings = TextSettings()) -> torch.Tensor:
    """Token ids of one text, (context,), or of a list, (B, context): int64, zero after the end token.

    Texts are mended (ftfy), unescaped twice, lower-cased, and their whitespace collapsed. Of what is longer than the
    context, a warning says which words were lost.

    Raises:
        EmptyInputError: an empty list.
        ShapeError, InputError: see :func:`load`.
        UnreadableError: the vocabulary cannot be read.
    """
    if isinstance(texts, str):
        return transform([texts], settings)[0]
    if not texts:
        raise EmptyInputError("text: wanted at least one string, got an empty list")
    checked = [load(text) for text in texts]
    _warn_of_lost_words(checked, settings)
    return tokenizer(settings)(checked, context_length=settings.context_length)


def _warn_of_lost_words(texts: list[str], settings: TextSettings) -> None:
    encoder, kept = tokenizer(settings), settings.context_length - MIN_CONTEXT_LENGTH
    for text in texts:
        if len(text.encode()) <= kept:  # a token is a byte at least
            continue
        tokens = encoder.encode(text)
        if len(tokens) > kept:
            lost = one_line(encoder.decode(tokens[kept:]), 200)
            words = f"text: the model reads {settings.context_length} tokens, this one has {len(tokens) - kept} more"
            warnings.warn(f"{words}; lost: {lost!r}", Bind2GenWarning, stacklevel=3)


def vocabulary_size(settings: TextSettings) -> int:
    """Number of token ids; the end token is the largest, on which the text tower relies."""
    return tokenizer(settings).vocab_size


def tokenizer(settings: TextSettings) -> SimpleTokenizer:
    """The tokenizer of these settings, made once per vocabulary file."""
    if settings.vocabulary is None:
        return _tokenizer(None, 0)
    try:
        changed = os.stat(settings.vocabulary).st_mtime_ns
    except OSError as error:
        reason = one_line(error.strerror)
        raise UnreadableError(f"{settings.vocabulary}: cannot read the vocabulary ({reason})") from None
    return _tokenizer(settings.vocabulary, changed)


@lru_cache(maxsize=8)
def _tokenizer(vocabulary: str | None, changed: int) -> SimpleTokenizer:
    """``changed`` is the file's time stamp: a rewritten vocabulary is read anew."""
    import regex
    from open_clip.tokenizer import SimpleTokenizer

    if vocabulary is not None:
        _check_vocabulary(vocabulary)
    made = SimpleTokenizer() if vocabulary is None else SimpleTokenizer(bpe_path=vocabulary)
    # open_clip would turn a written "<end_of_text>" into the real end token and cut the text there.
    specials = "<start_of_text>|<end_of_text>|"
    made.pat = regex.compile(made.pat.pattern.removeprefix(specials), regex.IGNORECASE)
    return made


def _check_vocabulary(path: str) -> None:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            merges = file.read().split("\n")[1:]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UnreadableError(f"{path}: wanted a gzip table of byte pairs ({one_line(error)})") from None
    if not any(merges) or any(line and len(line.split()) != 2 for line in merges):
        raise UnreadableError(f"{path}: wanted a table of byte pairs, two words a line after the first line")
