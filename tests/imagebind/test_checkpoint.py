from __future__ import annotations

import json
import logging
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from bind2gen.errors import CheckpointError, ModalityError
from bind2gen.files import weights as weights_module
from bind2gen.imagebind.checkpoint import convert_checkpoint, load_official_checkpoint
from bind2gen.imagebind.config import HUGE, TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.imagebind.released_names import reference_key

State = dict[str, torch.Tensor]
FIXED = {"audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}


@pytest.fixture(scope="module")
def model() -> ImageBindModel:
    torch.manual_seed(0)
    model = ImageBindModel(TINY())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def reference(model) -> State:
    """The tiny model as the reference's state dict: its names, its mask, its fixed scales."""
    state = {}
    for key, value in model.state_dict().items():
        _, tower, rest = key.split(".", 2)
        state[reference_key(tower, rest)] = value.clone()
    state["modality_preprocessors.text.mask"] = torch.full((77, 77), -math.inf).triu(1)
    for tower, scale in FIXED.items():
        state[f"modality_postprocessors.{tower}.1.log_logit_scale"] = torch.tensor(math.log(scale))
    return state


@pytest.fixture
def checkpoint(reference, tmp_path) -> Path:
    path = tmp_path / "imagebind_tiny.pth"
    torch.save(reference, path)
    return path


def load(path: Path | str, **options) -> ImageBindModel:
    return load_official_checkpoint(path, config=TINY(), **options)


def assert_same(got: ImageBindModel, wanted: ImageBindModel) -> None:
    parameters = wanted.state_dict()
    for key, value in got.state_dict().items():
        assert torch.equal(value, parameters[key]), key


# ---- names ----


def test_reference_names_are_the_released_ones():
    """A sample of every kind, spelled as in imagebind_huge.pth; the parity tests cover the rest."""
    spelled = {
        ("vision", "stem.projection.weight"): "modality_preprocessors.vision.rgbt_stem.proj.1.weight",
        ("depth", "stem.norm.bias"): "modality_preprocessors.depth.depth_stem.norm_layer.bias",
        ("imu", "position_embedding"): "modality_preprocessors.imu.pos_embed",
        ("audio", "position_embedding"): "modality_preprocessors.audio.pos_embedding_helper.pos_embed",
        ("vision", "input_norm.weight"): "modality_trunks.vision.pre_transformer_layer.0.weight",
        ("audio", "blocks.11.attention.in_proj.bias"): "modality_trunks.audio.blocks.11.attn.in_proj_bias",
        ("audio", "blocks.3.attention.bias_k"): "modality_trunks.audio.blocks.3.attn.bias_k",
        ("text", "blocks.0.norm2.weight"): "modality_trunks.text.blocks.0.norm_2.weight",
        ("imu", "head.projection.weight"): "modality_heads.imu.3.weight",
        ("text", "head.norm.weight"): "modality_heads.text.proj.0.weight",
        ("text", "log_logit_scale"): "modality_postprocessors.text.1.log_logit_scale",
    }
    for (tower, key), wanted in spelled.items():
        assert reference_key(tower, key) == wanted


def test_names_are_unambiguous():
    with torch.device("meta"):
        keys = [key.split(".", 2)[1:] for key in ImageBindModel(HUGE()).state_dict()]
    # Of the file's 1311: less the mask and four fixed scales.
    assert len({reference_key(tower, key) for tower, key in keys}) == len(keys) == 1306


# ---- loading ----


def test_pth(checkpoint, model, caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load(checkpoint)
    assert_same(loaded, model)
    assert list(loaded.towers) == list(model.towers) and not loaded.training
    assert "CC BY-NC-SA 4.0" in caplog.text


def test_only_the_towers_asked_for_are_built_and_read(checkpoint, model, monkeypatch):
    read = []
    take = weights_module.Weights.__getitem__
    monkeypatch.setattr(weights_module.Weights, "__getitem__", lambda self, key: read.append(key) or take(self, key))
    loaded = load(checkpoint, modalities=["audio"])
    assert list(loaded.towers) == ["audio"]
    assert_same(loaded, model)
    assert read and all(".audio." in key for key in read)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the figure comes from Linux's /proc")
def test_unasked_parameters_stay_on_disk(tmp_path):
    """64 MB that are not asked for must not enter memory."""
    bulk = 16_000_000
    torch.save({"modality_heads.audio.0.weight": torch.zeros(8), "bulk": torch.zeros(bulk)}, tmp_path / "w.pth")
    program = (
        "import re, sys\n"
        "from bind2gen.files.weights import open_weights\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "before = peak()\n"
        "weights = open_weights(sys.argv[1])\n"
        "for key in ('modality_heads.audio.0.weight', 'bulk'):\n"
        "    weights[key].sum()\n"
        "    print(peak() - before)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, str(tmp_path / "w.pth")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    little, all_of_it = (1024 * int(line) for line in output.stdout.split())  # bytes
    assert little < bulk * 4 / 2
    assert all_of_it > bulk * 4 * 0.9  # what the first figure would be if all were read


def test_dtype_is_that_of_the_file_or_the_one_asked_for(reference, tmp_path, model):
    torch.save({key: value.half() for key, value in reference.items()}, tmp_path / "half.pth")
    assert load(tmp_path / "half.pth").dtype == torch.float16
    loaded = load(tmp_path / "half.pth", dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16
    assert loaded.towers["text"].log_logit_scale.dtype == torch.float32
    assert load(tmp_path / "half.pth", dtype=torch.float32).dtype == torch.float32


def test_callers_config_is_left_alone(checkpoint):
    config = TINY()
    load_official_checkpoint(checkpoint, modalities=["audio"], config=config)
    assert config.to_dict() == TINY().to_dict()


def test_loaded_weights_can_be_trained(checkpoint, reference):
    loaded = load(checkpoint, modalities=["audio"]).train()
    optimiser = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded.encode("audio", torch.randn(2, 1, 1, 32, 44))[:, 0].sum().backward()
    optimiser.step()
    stored = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(stored[key], value) for key, value in reference.items())  # the mapped file is not written
    changed = loaded.towers["audio"].head.projection.weight
    assert not torch.equal(changed, stored["modality_heads.audio.2.weight"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "imagebind_huge.pth"])
def test_folders_and_single_files(reference, model, tmp_path, name):
    save = save_file if name.endswith("safetensors") else torch.save
    save(reference, tmp_path / name)
    assert_same(load(tmp_path), model)
    assert_same(load(str(tmp_path / name), modalities=["imu", "text"]), model)


def sharded(folder: Path, state: State, groups: dict[str, str]) -> None:
    """``groups`` names a shard for each tower."""
    names = {key: next(shard for tower, shard in groups.items() if f".{tower}." in key) for key in state}
    for shard in set(groups.values()):
        save_file({key: state[key] for key in state if names[key] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


SHARDS = {"vision": "c.safetensors"}
SHARDS |= dict.fromkeys(("audio", "imu"), "a.safetensors")
SHARDS |= dict.fromkeys(("text", "depth", "thermal"), "b.safetensors")


def test_sharded_folder_opens_only_the_shards_it_needs(reference, model, tmp_path):
    sharded(tmp_path, reference, SHARDS)
    assert_same(load(tmp_path), model)
    (tmp_path / "c.safetensors").unlink()
    (tmp_path / "b.safetensors").unlink()
    assert_same(load(tmp_path, modalities=["audio", "imu"]), model)
    with pytest.raises(CheckpointError, match="names b.safetensors, which is missing"):
        load(tmp_path, modalities=["text"])


def test_hub_id_fetches_only_the_files_it_needs(reference, model, tmp_path, monkeypatch):
    sharded(tmp_path, reference, SHARDS)
    fetched = []

    def download(repository: str, name: str) -> Path | None:
        assert repository == "someone/imagebind"
        fetched.append(name)
        return tmp_path / name if (tmp_path / name).exists() else None

    monkeypatch.setattr(weights_module, "_download", download)
    assert_same(load("someone/imagebind", modalities=["audio"]), model)
    assert fetched == ["model.safetensors.index.json", "a.safetensors"]


@pytest.fixture
def hub(monkeypatch):
    """A Hugging Face hub out of reach, and its cache: ``hub.cache[name]`` is a path, or False for "known absent"."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub = SimpleNamespace(cache={}, asked=[])

    def download(repository: str, name: str) -> str:
        hub.asked.append(name)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, name: hub.cache.get(name))
    return hub


def test_unreachable_hub_is_asked_once_and_named(hub):
    with pytest.raises(CheckpointError, match="someone/imagebind: .* the hub cannot be reached"):
        load("someone/imagebind")
    assert len(hub.asked) == 1  # each try takes half a minute


@pytest.mark.parametrize("known_absent", [True, False])
def test_cached_hub_weights_load_without_a_connection(hub, checkpoint, model, known_absent):
    hub.cache["imagebind_huge.pth"] = str(checkpoint)
    if known_absent:
        hub.cache |= dict.fromkeys(weights_module.INDEX_NAMES + weights_module.FILE_NAMES[:-1], False)
    assert_same(load("someone/imagebind"), model)
    assert "imagebind_huge.pth" not in hub.asked and (not hub.asked or not known_absent)


def test_a_tower_that_a_file_lacks_is_named(reference, tmp_path):
    path = tmp_path / "deaf.pth"
    torch.save({key: value for key, value in reference.items() if ".audio." not in key}, path)
    assert list(load(path, modalities=["imu"]).towers) == ["imu"]
    with pytest.raises(CheckpointError, match="holds no audio tower, only vision, text, depth, thermal, imu"):
        load(path, modalities=["audio"])


# ---- converting ----


def test_convert_writes_what_from_pretrained_loads(checkpoint, model, tmp_path):
    towers = [name for name in TINY().towers if name != "text"]  # the toy's does not know CLIP's words
    folder = convert_checkpoint(checkpoint, tmp_path / "out", config=TINY(), modalities=towers)
    written = {"config.json", "model.safetensors", "modules.json", "processor_config.json"}
    assert {p.name for p in folder.iterdir()} == written
    assert_same(ImageBindModel.from_pretrained(folder), model)
    assert list(ImageBindModel.from_pretrained(folder, modalities=["audio"]).towers) == ["audio"]
    processor = ImageBindProcessor.from_pretrained(folder)
    assert processor.image.size == 28 and processor.audio.num_mel_bins == 32
    with pytest.raises(CheckpointError, match="converted already; load it with ImageBindModel.from_pretrained"):
        load(folder)


def test_convert_a_part_in_another_dtype(checkpoint, model, tmp_path):
    folder = convert_checkpoint(checkpoint, tmp_path / "out", config=TINY(), modalities=["audio"], dtype=torch.bfloat16)
    loaded = ImageBindModel.from_pretrained(folder)
    assert list(loaded.towers) == ["audio"] and loaded.dtype == torch.bfloat16
    wanted = model.towers["audio"].class_token.bfloat16()
    assert torch.equal(loaded.towers["audio"].class_token, wanted)


def test_convert_does_not_overwrite_its_source(reference, tmp_path):
    save_file(reference, tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    for source in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(CheckpointError, match="name another one"):
            convert_checkpoint(source, tmp_path, config=TINY())
    with pytest.raises(CheckpointError, match="this is a file"):
        convert_checkpoint(tmp_path, tmp_path / "model.safetensors", config=TINY())
    assert (tmp_path / "model.safetensors").read_bytes() == before


# ---- what is refused ----


def without(key: str):
    return lambda state: state.pop(key)


def with_value(key: str, value: object):
    return lambda state: state.update({key: value})


WRONG_STATES = {
    "missing": (without("modality_heads.imu.3.weight"), r"1 parameter is missing: modality_heads\.imu\.3\.weight"),
    "missing scale": (without("modality_postprocessors.imu.1.log_logit_scale"), "1 parameter is missing"),
    "unknown": (with_value("modality_heads.smell.0.weight", torch.zeros(1)), "1 keys .* modality_heads.smell.0.weight"),
    "more blocks": (with_value("modality_trunks.imu.blocks.2.norm_1.bias", torch.zeros(16)), "another version or size"),
    "shape": (with_value("modality_heads.imu.3.weight", torch.zeros(32, 17)), r"shape \(32, 16\), got \(32, 17\)"),
    "transposed": (with_value("modality_heads.imu.3.weight", torch.zeros(16, 32)), r"got \(16, 32\)"),
    "integers": (with_value("modality_heads.imu.0.bias", torch.zeros(16, dtype=torch.int64)), "wanted floating point"),
    "scale": (
        with_value("modality_postprocessors.imu.1.log_logit_scale", torch.tensor(math.log(7.0))),
        r"says a factor of \[7.0\], the config 5.0",
    ),
    "nested": (with_value("optimizer", {}), "wanted a flat state dict of tensors"),
}


@pytest.mark.parametrize("case", WRONG_STATES)
def test_wrong_states_are_refused_by_name(reference, tmp_path, case):
    change, reason = WRONG_STATES[case]
    change(reference)
    torch.save(reference, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=reason) as error:
        load(tmp_path / "wrong.pth")
    assert "wrong.pth" in str(error.value) and "\n" not in str(error.value)


class Unsafe:
    def __reduce__(self):
        return (print, ("ran",))


def truncated(kind: str, share: float):
    def make(folder: Path, state: State) -> Path:
        path = folder / f"cut.{kind}"
        (save_file if kind == "safetensors" else torch.save)(state, path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return make


def holding(content: bytes, name: str = "w.pth"):
    def make(folder: Path, state: State) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def saved(content: object):
    def make(folder: Path, state: State) -> Path:
        torch.save(content, folder / "w.pth")
        return folder / "w.pth"

    return make


WRONG_FILES = {
    "empty": (holding(b""), "is empty"),
    "web page": (holding(b"\n<!DOCTYPE html><html><body>404</body></html>"), "web page"),
    "server error": (holding(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "web page"),
    "git-lfs pointer": (holding(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), "git lfs pull"),
    "text": (holding(b"hello, these are no weights"), "not a weight file"),
    "noise": (holding(bytes(range(3, 256)) * 9), "not a weight file"),
    "one byte": (holding(b"P"), "not a weight file"),
    "truncated .pth": (truncated("pth", 0.6), "truncated after [0-9,]+ bytes"),
    "head of a .pth": (truncated("pth", 0.001), "truncated after [0-9,]+ bytes"),
    "truncated safetensors": (truncated("safetensors", 0.6), "truncated or damaged at"),
    "head of safetensors": (truncated("safetensors", 0.01), "truncated or damaged at"),
    "zip of something else": (holding(b"PK\x05\x06" + bytes(18)), "not a weight file"),
    "bare pickle": (holding(pickle.dumps({"a": 1}, protocol=2)), "damaged or not written by torch.save|Python objects"),
    "code in a pickle": (saved({"a": Unsafe()}), "could run code"),
    "a list": (saved([torch.zeros(1)]), "got list"),
    "training state": (saved({"model": {"a": torch.zeros(1)}, "epoch": 3}), "got a dict of model: dict, epoch: int"),
    "another model": (saved({"visual.conv1.weight": torch.zeros(1)}), "another model.*visual.conv1.weight"),
    "no tensors": (saved({}), "another model"),
}


@pytest.mark.parametrize("case", WRONG_FILES)
def test_wrong_files_are_refused_in_one_line(reference, tmp_path, case, capsys):
    make, reason = WRONG_FILES[case]
    path = make(tmp_path, reference)
    with pytest.raises(CheckpointError, match=reason) as error:
        load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert "ran" not in capsys.readouterr().out


def test_wrong_places(tmp_path, reference):
    for place in (tmp_path / "nowhere.pth", "weights/nowhere.pth", "my weights/huge", "a/b/c", "./a/b"):
        with pytest.raises(CheckpointError, match="no such file or folder"):
            load(place)
    with pytest.raises(CheckpointError, match="no weight file there; wanted one of model.safetensors"):
        load(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not an index"):
        load(tmp_path)
    index = {"weight_map": dict.fromkeys(reference, "../outside.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="points outside its folder"):
        load(tmp_path)


def test_wrong_modalities(checkpoint):
    with pytest.raises(ModalityError, match="no tower for"):
        load(checkpoint, modalities=["smell"])
    with pytest.raises(ModalityError, match=r"wanted a list of names, got 'audio'; write \['audio'\]"):
        load(checkpoint, modalities="audio")


def test_a_model_of_another_size_is_named(checkpoint):
    with pytest.raises(CheckpointError, match="parameters are missing: .* and [0-9]+ more"):
        load_official_checkpoint(checkpoint)
