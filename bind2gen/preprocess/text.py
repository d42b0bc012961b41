"""Sentences to token ids: CLIP's byte-pair encoding with start and end tokens (facebookresearch/ImageBind, data.py).

Or whole words with an end token, for towers that begin with a table of words.
"""

from __future__ import annotations

import gzip
import os
import warnings
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from ..errors import Bind2GenWarning, EmptyInputError, InputError, ShapeError, TooLargeError, UnreadableError
from .settings import Settings
from .sources import one_line
from .words import WordTokenizer, split_words

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CONTEXT_LENGTH = 77  # tokens
MIN_CONTEXT_LENGTH = 2  # start and end
UNITS = ("pairs", "words")
LARGEST_TABLE = 1 << 25  # characters; CLIP's has 3 million


@dataclass(frozen=True)
class TextSettings(Settings):
    """How text becomes model input. Defaults are imagebind_huge's.

    Attributes:
        context_length: tokens, start and end included; longer texts are cut, the end token kept at the last place.
        vocabulary: path of the table: of byte pairs (gzip, one merge a line after a header line), where None is CLIP's
            own, which comes with open_clip; or of words (gzip, one a line).
        units: what the table holds, ``"pairs"`` or ``"words"``.
    """

    context_length: int = CONTEXT_LENGTH
    vocabulary: str | None = None
    units: str = "pairs"

    def __post_init__(self) -> None:
        self.require_positive("context_length")
        self.require_choice("units", UNITS)
        if self.units == "words" and self.vocabulary is None:
            raise InputError("TextSettings: wanted the vocabulary that units='words' reads, got None")
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

    Texts are mended (ftfy), unescaped twice, lower-cased, and their whitespace collapsed (of words: and punctuation and
    accents taken away). Of what is longer than the context, a warning says which words were lost.

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
    encoder = tokenizer(settings)
    for text in texts:
        if len(text.encode()) <= settings.context_length - MIN_CONTEXT_LENGTH:  # a token is a byte at least
            continue
        if isinstance(encoder, WordTokenizer):
            beyond = encoder.words(text)[settings.context_length - 1 :]
            lost = " ".join(beyond)
        else:
            beyond = encoder.encode(text)[settings.context_length - MIN_CONTEXT_LENGTH :]
            lost = encoder.decode(beyond)
        if beyond:
            words = f"text: the model reads {settings.context_length} tokens, this one has {len(beyond)} more"
            warnings.warn(f"{words}; lost: {one_line(lost, 200)!r}", Bind2GenWarning, stacklevel=3)


def vocabulary_size(settings: TextSettings) -> int:
    """Number of token ids; the end token is the largest, on which the text tower relies."""
    return tokenizer(settings).vocab_size


def tokenizer(settings: TextSettings) -> SimpleTokenizer | WordTokenizer:
    """The tokenizer of these settings, made once per vocabulary file."""
    if settings.vocabulary is None:
        return _byte_pairs(None, 0)
    try:
        changed = os.stat(settings.vocabulary).st_mtime_ns
    except OSError as error:
        reason = one_line(error.strerror)
        raise UnreadableError(f"{settings.vocabulary}: cannot read the vocabulary ({reason})") from None
    return (_words if settings.units == "words" else _byte_pairs)(settings.vocabulary, changed)


@lru_cache(maxsize=8)
def _byte_pairs(vocabulary: str | None, changed: int) -> SimpleTokenizer:
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


@lru_cache(maxsize=8)
def _words(vocabulary: str, changed: int) -> WordTokenizer:
    """As :func:`_byte_pairs`, of whole words."""
    words = _lines(vocabulary, "words")
    if len(set(words)) < len(words) or any(split_words(word) != [word] for word in words):
        raise UnreadableError(f"{vocabulary}: wanted one word a line, each once, in lower case and without accents")
    return WordTokenizer(words)


def _lines(path: str, what: str) -> list[str]:
    """Lines of a gzip table, without the empty one after the last line's end."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            text = file.read(LARGEST_TABLE + 1)
            if len(text) > LARGEST_TABLE:
                raise TooLargeError(f"{path}: a table of {what} that unpacks to more than {LARGEST_TABLE:,} letters")
            return text.removesuffix("\n").split("\n")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UnreadableError(f"{path}: wanted a gzip table of {what} ({one_line(error)})") from None


def _check_vocabulary(path: str) -> None:
    merges = _lines(path, "byte pairs")[1:]
    if not any(merges) or any(line and len(line.split()) != 2 for line in merges):
        raise UnreadableError(f"{path}: wanted a table of byte pairs, two words a line after the first line")
