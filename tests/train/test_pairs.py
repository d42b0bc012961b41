"""The csv form: which rows become pairs, and what is said of those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from bind2gen.errors import Bind2GenWarning, EmptyInputError, InputError, UnreadableError
from bind2gen.train.pairs import CsvPairs
from bind2gen.train.shards import ShardPairs, open_pairs


def test_rows_become_pairs_of_paths(csv_folder):
    folder = csv_folder(6, held_out=2)
    pairs = CsvPairs(folder / "pairs.csv", "thermal", "image")
    assert len(pairs) == 4  # rows without a split are training rows, those of the test split are not
    item = pairs.read(3)
    assert (item.input, item.anchor, item.group) == (folder / "3_ir.png", folder / "3.png", 3)
    assert "pairs.csv line 5" in item.name and "3_ir.png" in item.name
    held_out = CsvPairs(folder / "pairs.csv", "thermal", "image", split="test")
    assert [held_out.read(i).anchor.name for i in range(2)] == ["4.png", "5.png"]
    assert sorted(pairs.order(np.random.default_rng(0))) == [0, 1, 2, 3]


def test_concepts_make_groups_that_processes_agree_on(csv_folder):
    pairs = CsvPairs(csv_folder(4) / "pairs.csv", "thermal", "image", by_concept=True)
    groups = [pairs.read(i).group for i in range(4)]
    assert groups[0] == groups[2] != groups[1] == groups[3]
    assert groups[0] == 7709891395017415182 and max(groups) < 2**63  # by content, not by the process's hash seed


def test_captions_and_settings_of_a_row(tmp_path):
    table = 'text,depth,depth.sensor,depth.fx\n"a chair, and a desk",d.png,kinect_v2,\na lamp,e.png,,520.5\n'
    (tmp_path / "pairs.csv").write_text(table)
    pairs = open_pairs(tmp_path, "depth", "text", split="train", by_concept=False, buffer=1)
    first, second = pairs.read(0), pairs.read(1)
    assert first.anchor == "a chair, and a desk" and first.settings == {"depth": {"sensor": "kinect_v2"}}
    assert second.anchor == "a lamp" and second.settings == {"depth": {"fx": 520.5}}


def test_rows_with_an_empty_cell_are_counted_aloud(tmp_path):
    (tmp_path / "pairs.csv").write_text("image,audio\na.jpg,a.wav\nb.jpg,\n,c.wav\n")
    with pytest.warns(Bind2GenWarning, match="2 rows without image or audio are left out, 1 are taken"):
        assert len(CsvPairs(tmp_path / "pairs.csv", "audio", "image")) == 1


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        ("image,sound\na,b\n", InputError, "missing are audio, there are image, sound"),
        ("", InputError, "missing are image, audio|missing are audio, image"),
        ("image,audio\na,b,c\n", InputError, "wanted 2 cells in every row, line 2"),
        ("image,audio\na\n", InputError, "wanted 2 cells in every row, line 2"),
        ("image,audio,split\na,b,test\n", EmptyInputError, "1 of other splits, 0 with an empty cell"),
        ("image,audio,smell.size\na,b,3\n", InputError, "pairs.csv line 2: smell.size: wanted MODALITY.SETTING"),
        (b"image,audio\n\xff\xfe,b\n", UnreadableError, "wanted a csv in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path, table, error, words):
    (tmp_path / "pairs.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(error, match=words):
        CsvPairs(tmp_path / "pairs.csv", "audio", "image")


def test_a_missing_concept_is_named(tmp_path):
    (tmp_path / "pairs.csv").write_text("image,audio,concept\na.jpg,a.wav,\n")
    with pytest.raises(InputError, match='line 2: wanted a concept.*positives = "pair"'):
        CsvPairs(tmp_path / "pairs.csv", "audio", "image", by_concept=True)


def test_a_folder_says_by_its_files_which_form_it_has(tmp_path, csv_folder, shard_folder):
    options = {"split": "train", "by_concept": False, "buffer": 4}
    assert isinstance(open_pairs(csv_folder(), "thermal", "image", **options), CsvPairs)
    assert isinstance(open_pairs(shard_folder(), "thermal", "image", **options), ShardPairs)
    with pytest.raises(UnreadableError, match="wanted a folder with pairs.csv .columns image and thermal"):
        open_pairs(tmp_path / "nowhere", "thermal", "image", **options)
