"""Configs that do not fit the weights beside them: refused in words before anything of their size is built."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from bind2gen.errors import Bind2GenError, CheckpointError
from bind2gen.hosts.pictures.feature_autoencoder import FeatureAutoencoder
from bind2gen.imagebind.agreement import at_most
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.loading import load_imagebind
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.class_map import ClassMap

WIDTH = 8


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A folder each of an encoder, an adapter, a class map and an autoencoder."""
    folder = tmp_path_factory.mktemp("models")
    ImageBindModel(TINY(["audio", "imu"])).save_pretrained(folder / "imagebind")
    means = {"image": torch.ones(WIDTH), "audio": torch.zeros(WIDTH)}
    anchors = (torch.eye(3, WIDTH), torch.eye(3, WIDTH))
    adapter = EmbeddingAdapter.from_means(means, maps={"audio": torch.eye(WIDTH)}, anchors=anchors)
    adapter.save_pretrained(folder / "adapter")
    made = ClassMap.from_fit(torch.eye(WIDTH, 4), text_mean=torch.zeros(WIDTH), target_mean=torch.ones(4))
    made.save_pretrained(folder / "map")
    FeatureAutoencoder(block_out_channels=(12, 8, 8, 16, 16)).save_pretrained(folder / "vae")
    return folder


def changed(saved: Path, tmp_path: Path, name: str, place: tuple[str, ...], value: Any) -> Path:
    """A copy whose config has another value in one place."""
    values = json.loads((saved / name / "config.json").read_text())
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    for path in (saved / name).iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(values))
    return tmp_path


DEPTH, HUGE, STEM = ("towers", "audio", "depth"), ("towers", "audio", "width"), ("towers", "audio", "stem_channels")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (
            DEPTH,
            10**6,
            r"far more parameters than the \d+ tensors .* its largest number is towers.audio.depth = 1e\+06",
        ),
        (
            DEPTH,
            3,
            "parameters missing: towers.audio.blocks.2.* and 9 more; config.json does not belong to these weights",
        ),
        (DEPTH, 1, "keys that the model has no place for: towers.audio.blocks.1"),  # half the layers, without a word
        (DEPTH, 2.5, "wanted depth as int, got 2.5"),
        (DEPTH, "two", "wanted depth as int, got 'two'"),
        (("towers", "audio", "stem"), "prose", "wanted stem as .*patches.*, got 'prose'"),
        (("towers", "audio", "kernel"), [16, "16"], r"wanted kernel as tuple\[int, ...\], got \[16, '16'\]"),
        (("towers", "audio", "bias_kv"), 1, "wanted bias_kv as bool, got 1"),
        (("towers", "audio", "logit_scale"), 1e300, r"wanted logit_scale as float \| None, got 1e.300"),
        (("towers", "audio", "network_args"), {"act_layer": 3}, r"wanted network_args as dict\[str, str\]"),
        (HUGE, 0, r"config.json describes no network .*would hold nothing: its shape is \(0, "),
        (("towers", "audio", "frames"), 0, r"config.json describes no network .*its shape is \(24, 1, 0, 16, 16\)"),
        (HUGE, 10**7, r"wanted shape \(.*10000000.*\), got .*config.json does not belong to these weights"),
        (HUGE, 10**30, "wanted width as int"),
        (STEM, [4] * 10**4, "far more parameters"),
        (("towers", "imu", "stride"), [0], "config.json describes no network .ZeroDivisionError"),
        (("embed_dim",), 10**7, r"wanted shape \(10000000, 24\), got \(32, 24\)"),
        (("towers", "audio"), [], "config.json is of no ImageBind encoder"),
    ],
)
def test_an_encoder_is_held_against_its_weights(saved, tmp_path, place, value, words):
    source = changed(saved, tmp_path, "imagebind", place, value)
    for load in (ImageBindModel.from_pretrained, load_imagebind):
        with pytest.raises(CheckpointError, match=words) as caught:
            load(source)
        assert str(source) in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_is_held_against_its_own_weights_only(saved, tmp_path):
    source = changed(saved, tmp_path, "imagebind", DEPTH, 1)
    assert set(ImageBindModel.from_pretrained(source, modalities=["imu"]).towers) == {"imu"}
    whole = ImageBindModel.from_pretrained(saved, subfolder="imagebind")
    assert set(whole.towers) == {"audio", "imu"}


@pytest.mark.parametrize(
    ("kind", "name", "place", "value", "words"),
    [
        (
            EmbeddingAdapter,
            "adapter",
            "embed_dim",
            10**7,
            r"means: wanted shape \(2, 10000000\), got \(2, 8\)",
        ),
        (EmbeddingAdapter, "adapter", "num_anchors", 10**12, r"anchor_keys: wanted shape \(1000000000000, 8\)"),
        (EmbeddingAdapter, "adapter", "num_anchors", 0, "keys that the model has no place for: anchor_keys, anchors"),
        (EmbeddingAdapter, "adapter", "modalities", 3, r"config.json: wanted modalities as list\[str\]"),
        (ClassMap, "map", "source_dim", 10**9, "wanted shape"),
        (
            FeatureAutoencoder,
            "vae",
            "layers_per_block",
            10**6,
            "far more parameters .* largest number is layers_per_block",
        ),
        (FeatureAutoencoder, "vae", "layers_per_block", 0, "no place for: decoder.up_blocks"),
        (FeatureAutoencoder, "vae", "latent_channels", 10**7, "wanted shape"),
    ],
)
def test_parts_of_pipelines_are_held_against_their_weights(saved, tmp_path, kind, name, place, value, words):
    with pytest.raises(Bind2GenError, match=words) as caught:
        kind.from_pretrained(changed(saved, tmp_path, name, (place,), value))
    assert "\n" not in str(caught.value)
    assert kind.from_pretrained(saved, subfolder=name).config[place] != value


def test_other_threads_may_build_what_they_like_meanwhile():
    built = []
    with at_most(0):
        thread = threading.Thread(target=lambda: built.append(torch.nn.Linear(1, 1)))
        thread.start()
        thread.join()
    assert built
