"""Sentences to ids of whole words: a table in which what is not known is known to be unknown."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

import ftfy
import torch

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")  # "don't" is one word, "black-footed" two
FIRST = 1  # id of the table's first word; 0 fills up


def split_words(text: str) -> list[str]:
    """Lower-case words of a text: accents are taken off, punctuation is left out."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    return WORD.findall("".join(c for c in plain if not unicodedata.combining(c)))


class WordTokenizer:
    """Ids by place in a list of words, then the id of every unknown word, then that of the end: the largest.

    Args:
        words: the table, as :func:`split_words` gives them.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.ids = {word: i for i, word in enumerate(words, FIRST)}
        self.unknown = FIRST + len(words)
        self.end = self.unknown + 1
        self.vocab_size = self.end + 1

    def words(self, text: str) -> list[str]:
        """The words of a text, mended (ftfy) and unescaped twice."""
        return split_words(html.unescape(html.unescape(ftfy.fix_text(text))))

    def encode(self, text: str) -> list[int]:
        """Ids of the words, without the end."""
        return [self.ids.get(word, self.unknown) for word in self.words(text)]

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        """(N, context) int64: words, the end, zeros; longer texts are cut, the end kept at the last place."""
        rows = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [*self.encode(text)[: context_length - 1], self.end]
            row[: len(ids)] = torch.tensor(ids)
        return rows
