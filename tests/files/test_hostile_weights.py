"""Weights of people who mean harm, or of disks that do: refused by name, before memory is taken or code runs."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bind2gen.cli import main
from bind2gen.errors import CheckpointError
from bind2gen.files.weights import open_tensors
from bind2gen.hosts.boxes.loading import load_detector
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from fuzz.refusal import NETWORKS, altered, refused

# ---- files of weights ----


class Runs:
    def __reduce__(self):
        return (print, ("code ran",))


def packed(folder: Path) -> Path:
    """As torch.save has it, but packed: a gigabyte of zeros in a megabyte."""
    plain, path = folder / "plain.pth", folder / "w.pth"
    torch.save({"a": torch.zeros(1)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            with target.open(name, "w") as member:
                member.write(source.read(name))
                for _ in range(16 if name.endswith("/0") else 0):
                    member.write(bytes(1 << 20))
    return path


def shown_often(folder: Path) -> Path:
    """One number that says it is 10^12."""
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, folder / "w.pth")
    return folder / "w.pth"


def itself(folder: Path) -> Path:
    """A dict within itself, which never ends."""
    values: dict[str, Any] = {}
    values["a"] = values
    torch.save(values, folder / "w.pth")
    return folder / "w.pth"


def tensors(folder: Path, header: Any, data: bytes = bytes(64), length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


def running(folder: Path, form: str) -> Path:
    content = {"a": torch.zeros(2), "b": Runs()}
    path = folder / "w.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    return path


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "code in a zip": (lambda f: running(f, "zip"), "could run code"),
    "code in an old file": (lambda f: running(f, "old"), "could run code|damaged"),
    "code in a bare pickle": (lambda f: running(f, "bare"), "could run code|damaged"),
    "packed": (packed, "not written by torch.save: what is in it is packed"),
    "one number shown often": (shown_often, r"bytes say that they are tensors of 4,000,000,000,000"),
    "a dict in itself": (itself, "flat state dict"),
    "offsets beyond the end": (lambda f: tensors(f, {"a": entry([10**6], 0, 4 * 10**6)}), "truncated or damaged"),
    "overlapping offsets": (lambda f: tensors(f, {"a": entry([16], 0, 64), "b": entry([8], 0, 32)}), "damaged"),
    "negative shape": (lambda f: tensors(f, {"a": entry([-16], 0, 64)}), "truncated or damaged"),
    "shape beyond 64 bits": (lambda f: tensors(f, {"a": entry([2**40, 2**40], 0, 64)}), "truncated or damaged"),
    "shape of other bytes": (lambda f: tensors(f, {"a": entry([10**12], 0, 64)}), "truncated or damaged"),
    "header of exabytes": (lambda f: tensors(f, {}, length=2**62), "not a weight file"),
    "header of half a file more": (lambda f: tensors(f, {}, length=90_000_000), "truncated or damaged"),
    "header that nests": (lambda f: tensors(f, json.loads("[" * 900 + "]" * 900)), "not a weight file|damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_hostile_files_are_refused(name, tmp_path, capsys):
    make, words = FILES[name]
    path = make(tmp_path)
    assert re.search(words, refused(lambda: open_tensors(path), CheckpointError))
    assert main(["embed", "--text", "x", "--imagebind", str(path), "--out", str(tmp_path / "x.npz"), "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("bind2gen: error: ") and err.count("\n") == 1 and "w." in err and "unexpected" not in err
    assert "code ran" not in out + err


def test_a_header_whose_length_begins_as_a_pickle_does_is_a_header(tmp_path):
    """Of 8-byte lengths one in 32 does."""
    for padding in range(8, 264, 8):
        save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors", metadata={"x": "x" * padding})
        if (tmp_path / "w.safetensors").read_bytes()[0] == 0x80:
            break
    assert (tmp_path / "w.safetensors").read_bytes()[0] == 0x80
    assert type(open_tensors(tmp_path / "w.safetensors")).__name__ == "_Safetensors"


def test_what_torch_saves_is_read_however_it_shares_its_numbers(tmp_path):
    shared = torch.randn(5, 3)
    torch.save({"a": shared, "b": shared, "c": shared.T}, tmp_path / "w.pth")
    assert torch.equal(open_tensors(tmp_path / "w.pth")["c"], shared.T)


def test_an_array_in_a_detectors_file_cannot_claim_memory(tmp_path):
    """Of NumPy's pickles arrays are let through; their shapes are no more than what lies there."""
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    torch.save({"model": {"backbone.x": np.zeros(3, np.float32)}}, tmp_path / "w.pth")
    assert "another model" in refused(lambda: load_detector(tmp_path / "w.pth"))


# ---- configs ----

ABSURD = [10**9, -1, "many", float("nan"), 1e308, None, [], {}, 2**70]
CONFIGS: dict[str, list[tuple[str, ...]]] = {  # places in config.json that say how large something is
    "encoders": [("embed_dim",), ("towers", "audio", "depth"), ("towers", "audio", "width"),
                 ("towers", "imu", "kernel")],
    "adapters": [("embed_dim",), ("num_anchors",), ("target_dim",)],
    "classifiers": [("embed_dim",), ("labels",)],
    "class maps": [("source_dim",), ("target_dim",)],
    "yolo": [("widths",), ("embed_dim",), ("answers",), ("context",)],
    "detic": [("depths",), ("widths",), ("fpn_width",), ("fc_width",), ("embed_dim",)],
    "owl": [("text_config", "num_hidden_layers"), ("text_config", "vocab_size"), ("vision_config", "hidden_size")],
}  # fmt: skip


def put(path: Path, place: tuple[str, ...], value: Any) -> None:
    values = json.loads(path.read_text())
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    assert place[-1] in inner, place
    inner[place[-1]] = value
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("family", CONFIGS)
def test_absurd_sizes_are_refused_before_anything_of_the_size_is_built(family, copy):
    folder = copy(family)
    before = (folder / "config.json").read_text()
    NETWORKS[family](folder)
    for place in CONFIGS[family]:
        held = json.loads(before)
        for key in place:
            held = held[key]
        for value in ABSURD:
            odd = [value, *held[1:]] if isinstance(held, list) and not isinstance(value, list | dict) else value
            put(folder / "config.json", place, odd)
            if odd is None and place == ("target_dim",) or odd == ["many", "cat"]:
                continue  # values that it may have
            refused(lambda: NETWORKS[family](folder))
            (folder / "config.json").write_text(before)


@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        ("unet", "layers_per_block", 10**9, "far more parameters .* layers_per_block = 1e.09"),
        ("unet", "layers_per_block", 10**4, "far more parameters"),
        ("unet", "cross_attention_dim", 10**12, "far more parameters"),
        ("text_encoder", "num_hidden_layers", 10**9, "far more"),
        ("text_encoder", "max_position_embeddings", 10**9, "far more .* max_position_embeddings"),
        ("image_normalizer", "embedding_dim", 10**12, "far more"),
        ("vae", "layers_per_block", 10**6, "far more"),
        ("scheduler", "num_train_timesteps", 10**12, "num_train_timesteps of 1 to 1,000,000"),
        ("image_noising_scheduler", "num_train_timesteps", -3, "num_train_timesteps"),
        ("adapter", "embed_dim", 10**9, "wanted shape"),
        ("imagebind", "embed_dim", 10**9, "wanted shape"),
    ],
)
def test_parts_of_a_pipeline_are_held_against_their_weights(copy, part, key, value, words):
    folder = copy("pipelines")
    name = "scheduler_config.json" if "scheduler" in part else "config.json"
    put(folder / part / name, (key,), value)
    assert re.search(words, refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder), CheckpointError))
    if part != "imagebind":
        with pytest.raises(CheckpointError):
            ImageBindUnCLIPPipeline.from_host(folder, imagebind=folder / "imagebind")


# ---- values ----


@pytest.mark.parametrize("family", NETWORKS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
def test_a_weight_that_is_no_number_is_named(family, value, copy):
    folder = copy(family)
    part = folder / "unet" if family == "pipelines" else folder
    with altered(part, lambda state, key: state[key].view(-1).__setitem__(-1, value)) as key:
        said = refused(lambda: NETWORKS[family](folder), CheckpointError)
    assert f"{key} holds NaN or infinite values" in said


# ---- the same by hub id ----

ON_HUB = {  # a place in config.json that says how large something is; pipelines are downloaded as folders first
    "encoders": ("towers", "audio", "depth"), "adapters": ("embed_dim",), "classifiers": ("embed_dim",),
    "class maps": ("source_dim",), "yolo": ("embed_dim",), "detic": ("fpn_width",),
    "owl": ("text_config", "num_hidden_layers"),
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The folder of ``someone/model`` in a hub's cache, out of whose reach the hub is."""
    place = tmp_path / "hub" / "models--someone--model"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots").mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path / "hub")  # where no folder is called so
    return place / "snapshots" / ("0" * 40)


@pytest.mark.parametrize("family", ON_HUB)
def test_what_comes_from_the_hub_is_held_to_the_same(family, copy, hub):
    folder, load = copy(family).rename(hub), NETWORKS[family]
    assert load("someone/model") is not None
    before = (folder / "config.json").read_text()
    put(folder / "config.json", ON_HUB[family], 10**9)
    said = refused(lambda: load("someone/model"), CheckpointError)
    assert said.startswith("someone/model: ") and re.search("1e.09|1000000000|1,000,000,000", said), said
    (folder / "config.json").write_text(before)
    with altered(folder, lambda state, key: state[key].view(-1).__setitem__(-1, float("nan"))) as key:
        assert f"{key} holds NaN or infinite values" in refused(lambda: load("someone/model"), CheckpointError)
