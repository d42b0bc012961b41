"""Tar shards: what belongs together, where it is read from, and how far a pass may carry a sample."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bind2gen.errors import EmptyInputError, UnreadableError
from bind2gen.train.shards import ShardPairs, role_of


def shards_of(folder):
    return sorted(folder.glob("*.tar"))


def test_samples_are_read_where_they_lie(shard_folder):
    folder = shard_folder((5, 3))
    pairs = ShardPairs(shards_of(folder), "thermal", "image")
    assert len(pairs) == 8
    for i in range(8):
        item = pairs.read(i)
        assert item.name == f"{'000' if i < 5 else '001'}.tar/{i:04}.thermal.png"
        assert item.anchor.name.endswith(f"/{i:04}.png") and item.anchor.read().startswith(b"\x89PNG")
        assert item.input.getvalue() != item.anchor.getvalue()


def test_every_pass_is_a_permutation_near_the_shards_own_order(shard_folder):
    pairs = ShardPairs(shards_of(shard_folder((20, 20, 20))), "thermal", "image", buffer=5)
    orders = [pairs.order(np.random.default_rng([7, k])) for k in range(8)]
    for order in orders:
        assert sorted(order) == list(range(60))
        shards = [order[i] // 20 for i in (10, 30, 50)]  # far from the seams a place holds its shard's samples
        expected = np.concatenate([np.arange(20) + 20 * s for s in shards])
        moved = np.abs(np.argsort(order)[expected] - np.arange(60))
        assert sorted(shards) == [0, 1, 2] and 0 < moved.max() < 5
    assert len({tuple(order) for order in orders}) == 8
    assert np.array_equal(orders[3], pairs.order(np.random.default_rng([7, 3])))


def test_groups_captions_splits_and_settings(write_shard):
    note = {"split": "test", "text": "a cup", "depth.fx": 500}
    members = {"x/1.depth.npy": b"1", "x/1.json": json.dumps(note).encode(), "x/1.cls": b"cup\n"}
    members |= {"x/2.depth.npy": b"2", "x/2.txt": b" a plate ", "x/2.cls": b"plate", "x/3.txt": b"no depth"}
    path = write_shard("a.tar", members)
    test = ShardPairs([path], "depth", "text", split="test", by_concept=True)
    train = ShardPairs([path], "depth", "text", by_concept=True)
    assert (len(test), len(train)) == (1, 1)
    assert test.read(0).anchor == "a cup" and test.read(0).settings == {"depth": {"fx": 500}}
    assert train.read(0).anchor == "a plate" and train.read(0).input.getvalue() == b"2"
    assert test.read(0).group != train.read(0).group
    assert list(train.groups()) == [train.read(0).group]


def test_counts_are_remembered_until_a_shard_changes(tmp_path, shard_folder, write_shard, monkeypatch):
    folder = shard_folder((3, 2))
    index = tmp_path / "index.json"
    ShardPairs(shards_of(folder), "thermal", "image", index=index)
    with monkeypatch.context() as patched:
        patched.setattr("bind2gen.train.shards.read_contents", lambda *_: pytest.fail("read through again"))
        assert len(ShardPairs(shards_of(folder), "thermal", "image", index=index)) == 5
    write_shard("001.tar", {"9.png": b"", "9.thermal.png": b""})
    assert len(ShardPairs(shards_of(folder), "thermal", "image", index=index)) == 4


def test_what_is_wrong_with_a_shard_is_named(tmp_path, shard_folder, write_shard):
    path = write_shard("a.tar", {"1.jpg": b"a", "1.png": b"b"})
    with pytest.raises(UnreadableError, match="1.jpg and 1.png both look like image.*1.depth.png"):
        ShardPairs([path], "depth", "image")
    with pytest.raises(EmptyInputError, match="wanted samples with image and audio of split 'train' in 1 shards"):
        ShardPairs([write_shard("b.tar", {"1.jpg": b"a", "2.wav": b"b"})], "audio", "image")
    whole = shard_folder((2,)) / "000.tar"
    packed, cut = tmp_path / "packed.tar", tmp_path / "cut.tar"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    with pytest.raises(UnreadableError, match="packed.tar: wanted a whole tar, not compressed"):
        ShardPairs([packed], "thermal", "image")
    # Cut after the tables of contents were read: the sample is unreadable, not garbage.
    cut.write_bytes(whole.read_bytes())
    pairs = ShardPairs([cut], "thermal", "image")
    pairs.read(1)
    cut.write_bytes(whole.read_bytes()[:600])
    with pytest.raises(UnreadableError, match="cut.tar/0001.* the shard ends within this file"):
        pairs.read(1)


@pytest.mark.parametrize(
    ("suffix", "modality", "role"),
    [
        ("jpg", "depth", "image"),
        ("depth.png", "depth", "depth"),
        ("WAV", "imu", "audio"),
        ("npy", "depth", "depth"),
        ("csv", "imu", "imu"),
        ("imu.txt", "imu", "imu"),
        ("txt", "imu", "text"),
        ("cls", "audio", "concept"),
        ("mp4", "imu", "video"),
        ("csv.gz", "imu", "imu"),
        ("npy", "audio", None),
        ("mask.png", "depth", None),
    ],
)
def test_names_say_what_members_are(suffix, modality, role):
    assert role_of(suffix, modality) == role


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_no_sample_is_lost_whatever_the_buffer(count, buffer, seed):
    pairs = ShardPairs.__new__(ShardPairs)
    pairs.shards, pairs.buffer, pairs._starts = ["a", "b"], buffer, np.array([0, count // 3, count])
    assert sorted(pairs.order(np.random.default_rng(seed))) == list(range(count))
