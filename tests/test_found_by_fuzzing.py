"""What damaged files once brought about, in its smallest form. More of the kind is made by tests/bench/fuzz."""

from __future__ import annotations

import io
import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.errors import (
    Bind2GenError,
    Bind2GenWarning,
    CheckpointError,
    DependencyError,
    InputError,
    NonFiniteError,
    StoreError,
    UnreadableError,
)
from bind2gen.files.arrays import read_arrays
from bind2gen.files.embeddings import load_embeddings
from bind2gen.files.weights import open_tensors, open_weights
from bind2gen.hosts.boxes.yolo.network import YoloConfig, YoloModel
from bind2gen.hosts.pictures.ip_adapter import read_adapter
from bind2gen.imagebind.config import TINY, TowerConfig
from bind2gen.imagebind.loading import load_config
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.pipelines.parts import load_adapter
from bind2gen.preprocess import imu
from bind2gen.preprocess.muted import muted
from bind2gen.preprocess.pillow import open_picture
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.class_map import ClassMap
from bind2gen.space.classifier import EmbeddingClassifier
from bind2gen.store.contents import recognise
from bind2gen.store.contract import Facts
from bind2gen.train.recipe import load_recipe
from bind2gen.train.run import _begun
from bind2gen.train.shards import _remembered


@pytest.fixture(scope="module")
def processor() -> ImageBindProcessor:
    return ImageBindProcessor.for_config(TINY(["image", "audio", "depth", "imu"]))


@pytest.fixture(autouse=True)
def nothing_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", Bind2GenWarning)
        yield


@pytest.mark.parametrize("kind", [Bind2GenError, InputError, DependencyError, StoreError])
def test_messages_are_one_line_whatever_they_quote(kind):
    said = str(kind("wanted columns a;\n  found \0\x1b[31m\u2028x\u200e  y"))
    assert said == "wanted columns a; found ??[31m x?  y"
    assert (
        str(kind("a" * 10**6 + "; save it again")).endswith("; save it again") and len(str(kind("a" * 10**6))) == 1500
    )
    assert str(kind("caf\udce9.wav")) == "caf\udce9.wav"  # a name that is not UTF-8 can still be found by it


# ---- what libraries below say ----


def test_libsndfile_is_not_given_what_it_prints_about(processor, tmp_path, capfd):
    """Of MIDI sample dumps it writes "Error A : 00" on stdout."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(400), 16_000, format="SDS", subtype="PCM_16")
    (tmp_path / "a.sds").write_bytes(file.getvalue()[:60] + b"\xff" * 200)
    with pytest.raises(UnreadableError):
        processor(audio=tmp_path / "a.sds")
    assert capfd.readouterr() == ("", "")


def saved(picture: Image.Image, form: str, **options: Any) -> bytearray:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return bytearray(file.getvalue())


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))


def test_pillow_and_libtiff_say_nothing_of_damaged_tags(processor, tmp_path, capfd):
    data = saved(NOISE, "TIFF", compression="tiff_lzw")
    place = int.from_bytes(data[4:8], "little")
    path, outcomes = tmp_path / "a.tiff", set()
    for cut in range(place + 2, len(data), 7):  # within the directory: Pillow warns of it
        path.write_bytes(data[:cut])
        for look in (lambda: processor(images=path), lambda: recognise(str(path))):
            try:
                outcomes.add(type(look()).__name__)
            except Bind2GenError:
                outcomes.add("refused")
    for number in range(int.from_bytes(data[place : place + 2], "little")):  # tags that libtiff does not know
        odd = bytearray(data)
        odd[place + 2 + 12 * number : place + 4 + 12 * number] = b"\xfa\x37"
        path.write_bytes(odd)
        try:
            processor(images=path)
        except Bind2GenError:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert capfd.readouterr() == ("", "")


def test_openexr_says_nothing_of_broken_data(processor, tmp_path, capfd):
    OpenEXR = pytest.importorskip("OpenEXR")
    path = tmp_path / "a.exr"
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"Y": np.random.default_rng(0).random((16, 16), np.float32)}).write(str(path))
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UnreadableError, match="cannot read it as EXR"):
        processor(depth=path)
    assert capfd.readouterr() == ("", "")


def test_what_others_write_on_stderr_meanwhile_comes_after(capfd):
    with muted("EXR") as heard:
        os.write(2, b"of another thread\nEXR broken\nmore of it\n")
    assert heard == ["EXR broken"]
    assert capfd.readouterr().err == "of another thread\nmore of it\n"


def test_no_picture_is_drawn_by_ghostscript(processor, tmp_path, monkeypatch):
    (tmp_path / "a.eps").write_bytes(saved(NOISE, "EPS"))
    with pytest.raises(UnreadableError):
        processor(images=tmp_path / "a.eps")
    with pytest.raises(Image.UnidentifiedImageError):
        open_picture(tmp_path / "a.eps")


# ---- motion and depth ----


def test_depth_beyond_single_precision_is_not_worth_a_warning_of_numpy(processor, tmp_path):
    stored = np.full((8, 8), 1e300)
    stored[0] = np.frombuffer(b"\1\0\0\0\0\0\xf0\x7f" * 8)  # a signalling NaN
    stored[1:] = 2.0
    np.save(tmp_path / "a.npy", stored)
    assert processor(depth=tmp_path / "a.npy")["depth_values"].isfinite().all()


def test_an_empty_file_of_uci_har_and_lists_of_unequal_length(tmp_path):
    for sensor in ("total_acc", "body_gyro"):
        for axis in "xyz":
            (tmp_path / f"{sensor}_{axis}_test.txt").write_text("\n")
    with pytest.raises(UnreadableError, match="no data"):
        imu.load(tmp_path)
    rows = [{"t": i, "acc": [1.0, 2.0, 9.8][: 3 - (i == 4)]} for i in range(9)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(UnreadableError, match="acc: wanted lists of three"):
        imu.load(tmp_path / "a.json")


# ---- weights ----


def pickled(folder: Path, content: bytes) -> Path:
    torch.save({"a": torch.zeros(2)}, folder / "whole.pth")
    with zipfile.ZipFile(folder / "whole.pth") as source, zipfile.ZipFile(folder / "w.pth", "w") as target:
        for name in source.namelist():
            target.writestr(name, content if name.endswith("data.pkl") else source.read(name))
    return folder / "w.pth"


@pytest.mark.parametrize(
    "content", [b".", b"\x80\x02.", b"\x80\x02}q\0(X\1\0\0\0aq\1u.", b"\x80\x02h\5.", b"\x80\x02}Q."]
)
def test_damaged_pickles_are_damaged_files(content, tmp_path):
    """The unpickler raises IndexError, KeyError, AssertionError ..."""
    with pytest.raises(CheckpointError):
        open_tensors(pickled(tmp_path, content))


def test_pickles_of_another_protocol_are_nothing_to_warn_of(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth", pickle_protocol=3)
    assert open_tensors(tmp_path / "w.pth")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("listed", [{"weight_map": [1]}, {"weight_map": {"a": 3}}, {"weight_map": None}, []])
def test_an_index_of_weights_that_lists_none(listed, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="not an index"):
        open_weights(tmp_path)


@pytest.mark.parametrize("content", [{"image_proj": 3}, {"image_proj": {"a": 1}, "ip_adapter": {"b": 2}}, [], {}])
def test_what_is_no_ip_adapter(content, tmp_path):
    torch.save(content, tmp_path / "ip.bin")
    with pytest.raises(Bind2GenError, match="wanted an IP-Adapter"):
        read_adapter(tmp_path / "ip.bin")


@pytest.mark.parametrize("kind", [EmbeddingAdapter, EmbeddingClassifier, ClassMap])
def test_folders_without_weights_or_config_are_checkpoint_errors(kind, tmp_path):
    with pytest.raises(CheckpointError, match="cannot be loaded as"):
        kind.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"embed_dim": 3}')
    with pytest.raises(CheckpointError):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gap_strength", float("nan")), ("near_anchors", 3.5), ("anchor_temperature", "cold"), ("modalities", [1]),
     ("gap_strength", 1e308), ("anchor_temperature", 10**30),
     ("encoder", {"audio": "x"}), ("embed_dim", 8.0)],
)  # fmt: skip
def test_values_of_an_adapters_config_are_of_their_types(name, value, tmp_path):
    EmbeddingAdapter(8).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(CheckpointError, match=f"wanted {name} as"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("settings", [{"text": 5}, {"audio": {"std": 1e-308}}, {"imu": {"max_gap": 1e300}}])
def test_settings_that_nothing_can_be_reckoned_with(settings, tmp_path):
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="wanted"):
        ImageBindProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"3", b"[" * 100_000])
def test_settings_that_are_no_table(content, tmp_path):
    (tmp_path / "processor_config.json").write_bytes(content)
    with pytest.raises((UnreadableError, InputError)):
        ImageBindProcessor.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(b'{"model_type": "bind2gen_imagebind", ' + content)
    with pytest.raises(CheckpointError):
        load_config(tmp_path)


def test_a_vocabulary_that_is_not_there_is_named(tmp_path):
    (tmp_path / "processor_config.json").write_text('{"text": {"context_length": 8, "vocabulary": "gone"}}')
    with pytest.raises(UnreadableError, match="wanted .*vocabulary.* beside processor_config.json"):
        ImageBindProcessor.from_pretrained(tmp_path)


def test_heads_of_a_tower_are_counted():
    for heads in ({}, 4.5, "four"):
        with pytest.raises(InputError, match="wanted heads as int"):
            TowerConfig.from_dict({"heads": heads})


def test_an_index_of_weights_whose_names_no_disk_takes(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "a" * 5000}}))
    with pytest.raises(CheckpointError, match="points outside its folder"):
        open_weights(tmp_path)


def test_boxes_of_yolo_end_not_far_beyond_the_picture():
    """Else the mean of what is in them is taken over billions of places."""
    torch.manual_seed(0)
    config = YoloConfig((4,) * 7, 4, 4, 4, 4, (9, 9, 1e9, 9), (9, 9, 9, 1e30), 2, 2, 4, long_side=64, objectness=1e-6)
    (found,) = YoloModel(config).regions(torch.rand(1, 3, 64, 64))
    assert len(found.boxes) and found.boxes.min() >= -64 and found.boxes.max() <= 128 and found.context.isfinite().all()


# ---- texts ----


def test_headers_of_arrays_that_python_doubts(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1if 1else 1,), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4))
    with (tmp_path / "a.npy").open("rb") as file, pytest.raises(ValueError):
        read_arrays(file, "a")


def test_motion_faster_than_any_sensor():
    even, times = np.ones((3, 120)), np.arange(120) * 1e-11
    times[60:] += 0.11
    with pytest.raises(InputError, match="wanted a sampling rate of 1..100000 Hz"):
        imu.load({"accelerometer": even, "gyroscope": even, "timestamps": times}, time_unit="s")


def test_embeddings_beyond_single_precision(tmp_path):
    row = {"inputs": ["a"], "vectors": [[1e308, 0.0]]}
    (tmp_path / "a.json").write_text(json.dumps({"details": {}, "embeddings": {"text": row}}))
    with pytest.raises(NonFiniteError):
        load_embeddings(tmp_path / "a.json")


def test_what_nests_without_end_and_what_is_of_another_kind(tmp_path):
    (tmp_path / "a.toml").write_text("a = " + "[" * 50_000)
    with pytest.raises(InputError, match="wanted a recipe"):
        load_recipe(tmp_path / "a.toml")
    for content in ("{", "[]", "[" * 100_000):
        (tmp_path / "recipe.json").write_text(content)
        with pytest.raises(InputError, match="recipe.json: cannot be read"):
            _begun(tmp_path / "recipe.json")
        assert _remembered(tmp_path / "recipe.json") == {}
    (tmp_path / "recipe.json").write_text('{"a": 3, "b": "x"}')
    assert _remembered(tmp_path / "recipe.json") == {"a": 3}


@pytest.mark.parametrize(
    "odd", [{"width": "8"}, {"width": -1}, {"fingerprint": 3}, {"fingerprint": {"a": 3}}, {"source": []}]
)
def test_a_store_whose_facts_make_no_sense(odd):
    whole = json.loads(Facts(8, "toy", {"a": [1.0]}).to_json())
    assert Facts.from_json(json.dumps(whole), "store").width == 8
    with pytest.raises(StoreError, match="makes no sense"):
        Facts.from_json(json.dumps(whole | odd), "store")
    with pytest.raises(StoreError):
        Facts.from_json("[" * 100_000, "store")
