from __future__ import annotations

import gzip
import warnings

import open_clip.tokenizer
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from bind2gen.errors import Bind2GenWarning, InputError, UnreadableError
from bind2gen.preprocess import text
from bind2gen.preprocess.text import TextSettings

START, END = 49_406, 49_407


@pytest.fixture(scope="module")
def short_vocabulary(tmp_path_factory):
    """CLIP's first thousand merges, in CLIP's file format."""
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[:1001]
    path = tmp_path_factory.mktemp("vocabulary") / "short.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return str(path)


@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")  # some are longer
@pytest.mark.parametrize(
    "sentence", ["a dog", "  TWO\n\tDogs ", "don't &amp;amp; won't", "Ünï’cødé ﬁ", "🐕🎧", "a" * 500, ""]
)
@pytest.mark.parametrize("context", [77, 32, 8])
def test_equals_open_clip(sentence, context):
    expected = open_clip.tokenizer.SimpleTokenizer()(sentence, context_length=context)[0]
    assert torch.equal(text.transform(sentence, TextSettings(context_length=context)), expected)


@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")  # many are longer
@limits(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_every_text_starts_ends_and_is_read_out_at_its_end(sentence):
    ids = text.transform(sentence, TextSettings(context_length=16))
    assert ids[0] == START and (ids == END).sum() == 1
    assert int(ids.argmax()) == int((ids == END).nonzero())
    assert (ids[int(ids.argmax()) + 1 :] == 0).all()


def test_written_special_tokens_are_plain_text():
    ids = text.transform("a <end_of_text> dog <start_of_text>")
    assert (ids == END).sum() == 1 and (ids == START).sum() == 1


def test_own_vocabulary_is_smaller_and_says_so(short_vocabulary):
    short = TextSettings(context_length=32, vocabulary=short_vocabulary)
    assert text.vocabulary_size(short) == 512 + 1000 + 2
    assert text.vocabulary_size(TextSettings()) == 49_408
    ids = text.transform(["a dog", "antidisestablishmentarianism " * 9], short)
    assert ids.shape == (2, 32) and ids.max() == text.vocabulary_size(short) - 1
    end = int(ids[0].argmax())
    assert text.tokenizer(short).decode(ids[0, 1:end].tolist()) == "a dog "


def test_broken_vocabularies_are_refused(tmp_path):
    for name, content in {
        "plain.gz": b"no gzip",
        "prose.gz": gzip.compress(b"header\nthree words here\n"),
        "none.gz": gzip.compress(b""),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableError, match=name):
            text.transform("a dog", TextSettings(vocabulary=str(tmp_path / name)))
    with pytest.raises(UnreadableError, match="missing.gz"):
        text.transform("a dog", TextSettings(vocabulary=str(tmp_path / "missing.gz")))


def test_words_beyond_the_context_are_named():
    with pytest.warns(Bind2GenWarning, match="reads 8 tokens, this one has 2 more; lost: 'red hat'"):
        text.transform(["a dog", "A photo of  a big dog red HAT"], TextSettings(context_length=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text.transform(["a photo of a big dog", "extraordinarily uncharacteristic"], TextSettings(context_length=8))


WORDS = ["a", "dog", "black", "don't", "cafe", "footed"]
UNKNOWN, LAST = 7, 8  # after the words, whose ids begin at 1


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> TextSettings:
    path = tmp_path_factory.mktemp("words") / "words.txt.gz"
    path.write_bytes(gzip.compress(("\n".join(WORDS) + "\n").encode()))
    return TextSettings(context_length=8, vocabulary=str(path), units="words")


@pytest.mark.parametrize(
    ("sentence", "ids"),
    [
        ("A  black-footed\nDOG!", [1, 3, 6, 2]),
        ("Don\u2019t &amp;amp; CAFÉ", [4, 5]),
        ("a xqzt dog", [1, UNKNOWN, 2]),
        ("🐕", []),
        ("", []),
    ],
)
def test_whole_words_have_ids_and_others_one_of_their_own(sentence, ids, words):
    row = text.transform(sentence, words)
    assert row.tolist() == ids + [LAST] + [0] * (7 - len(ids))
    assert text.vocabulary_size(words) == LAST + 1


@limits(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_every_text_of_words_is_read_out_at_its_end(words, sentence):
    ids = text.transform(sentence + " dog" * 3, words)
    assert (ids == LAST).sum() == 1 and ids.max() == LAST and (ids[int(ids.argmax()) + 1 :] == 0).all()


def test_long_texts_of_words_keep_their_end(words):
    with pytest.warns(Bind2GenWarning, match="reads 8 tokens, this one has 2 more; lost: 'xqzt cafe'"):
        assert text.transform("dog " * 7 + "xqzt Café", words).tolist() == [2] * 7 + [LAST]


@pytest.mark.parametrize("content", ["dog\ndog\n", "Dog\n", "hot dog\n", "dog\n\ncat\n", ""])
def test_tables_that_no_text_would_meet_are_refused(tmp_path, content):
    path = tmp_path / "odd.gz"
    path.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(UnreadableError, match="odd.gz: wanted one word a line"):
        text.transform("a dog", TextSettings(vocabulary=str(path), units="words"))


def test_words_want_their_table():
    with pytest.raises(InputError, match="units='words'"):
        TextSettings(units="words")
    with pytest.raises(InputError, match="one of pairs, words"):
        TextSettings(units="letters")
