"""Released files: recognised, loaded strictly, refused with a reason."""

from __future__ import annotations

import json
from collections import OrderedDict

import detic_cases as cases
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bind2gen.errors import CheckpointError
from bind2gen.hosts.boxes.detic import VARIANTS, DeticDetector, DeticModel, loading
from bind2gen.hosts.boxes.detic.loading import config_of, load_official

HEADS_OF = loading._heads_of

EXTRAS = {
    "roi_heads.box_predictor.0.cls_score.zs_weight": torch.zeros(24, 8),
    "roi_heads.box_predictor.1.freq_weight": torch.zeros(7),
    "backbone.bottom_up.base.fc.weight": torch.zeros(3, 3),
    "backbone.bottom_up.base.fc.bias": torch.zeros(3),
    "backbone.bottom_up.base.bn1.num_batches_tracked": torch.tensor(7),
    "pixel_mean": torch.zeros(3, 1, 1),
}


def state() -> dict[str, torch.Tensor]:
    return cases.filled_state(DeticModel(cases.TOYS["basic"]))


def sizes(config):
    """What shapes can tell."""
    names = ("backbone", "depths", "widths", "bottleneck", "heads", "fpn_width", "fc_width", "mask_width", "embed_dim")
    return {name: getattr(config, name) for name in names}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_published_variants_are_recognised_by_their_shapes(name):
    with torch.device("meta"):
        model = DeticModel(VARIANTS[name])
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert config_of(shapes, where="file") == VARIANTS[name]


@pytest.mark.parametrize("name", cases.TOYS)
def test_sizes_are_free(name):
    shapes = {k: tuple(v.shape) for k, v in DeticModel(cases.TOYS[name]).state_dict().items()}
    found = config_of(shapes | {"ignored": (1,)}, where="file") if name != "swin" else config_of(shapes, where="file")
    assert sizes(found) == sizes(cases.TOYS[name])
    assert name != "swin" or found.window == 3


def _released(values):
    return {"model": OrderedDict(values), "iteration": 180000, "optimizer": {"param_groups": [{"lr": 1e-4}]}}


def _numpy(values):
    return {"model": {k: v.numpy() for k, v in values.items()}, "__author__": "Detic", "mean": np.float64(0.5)}


@pytest.mark.parametrize("form", [_released, _numpy, dict, "safetensors"])
def test_all_forms_of_a_file_give_the_same_network(tmp_path, form, toy_groups):
    path = tmp_path / "model.pth"
    if form == "safetensors":
        save_file(state() | EXTRAS, path)
    else:
        torch.save(form(state() | EXTRAS), path)
    model = load_official(path)
    for key, value in state().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert not model.training
    path.unlink()  # nothing is mapped to the file
    assert bool(model.backbone.fpn_output3.weight.isfinite().all())


@pytest.fixture
def toy_groups(monkeypatch):
    """The groups of the toy's norms cannot be read off shapes; the released files always have 32."""
    monkeypatch.setattr(loading, "_heads_of", lambda shapes: HEADS_OF(shapes) | {"norm_groups": 8})


def test_dtype_is_as_asked(tmp_path, toy_groups):
    path = tmp_path / "model.pth"
    torch.save(_released(state()), path)
    model = load_official(path, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} == {model.dtype}


KEY = "roi_heads.box_head.1.fc2.weight"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop(KEY), f"1 parameters missing: {KEY}"),
        (lambda s: s.update({"roi_heads.surprise": torch.zeros(1)}), "no place for: roi_heads.surprise"),
        (lambda s: s.update({KEY: torch.zeros(48, 47)}), r"fc2.weight: wanted shape \(48, 48\), got \(48, 47\)"),
        (lambda s: s.update({KEY: torch.zeros(48, 48, dtype=torch.long)}), "floating point"),
        (lambda s: s.pop("backbone.fpn_output3.weight"), "another model.*swin-b, resnet-50"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, toy_groups, change, message):
    values = state()
    change(values)
    path = tmp_path / "model.pth"
    torch.save(_released(values), path)
    with pytest.raises(CheckpointError, match=message):
        load_official(path)


class _Code:
    def __reduce__(self):
        return (print, ("code ran",))


def test_pickles_with_code_other_files_and_nothing_are_refused(tmp_path, capsys):
    path = tmp_path / "model.pth"
    torch.save({"model": state(), "hook": _Code()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_official(path)
    assert "code ran" not in capsys.readouterr().out
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match="weights of another model"):
        load_official(path)
    path.write_bytes(b"<!DOCTYPE html><html>")
    with pytest.raises(CheckpointError, match="web page"):
        load_official(path)
    # A sound: to the unpickler its first letter closes a stack that is empty, which is an IndexError.
    path.write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(400))
    with pytest.raises(CheckpointError, match="not a weight file"):
        load_official(path)
    whole = tmp_path / "whole.pth"
    torch.save(_released(state()), whole)
    path.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_official(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_official(tmp_path / "none.pth")


@pytest.mark.parametrize("name", cases.TOYS)
def test_a_saved_detector_gives_the_same_boxes(tmp_path, name):
    detector = cases.toy_detector(name)
    detector.save_pretrained(tmp_path)
    again = DeticDetector.from_pretrained(tmp_path)
    assert again.config == detector.config
    found = [d.detect(d.encode_image(cases.picture()), cases.class_embeds(), threshold=0.3) for d in (detector, again)]
    assert len(found[0]) and found[0] == found[1]
    assert "DeticDetector.from_pretrained" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_folders_that_hold_something_else_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="from_official"):
        DeticDetector.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="of another model"):
        DeticDetector.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bind2gen_detic", "colour": 3}')
    with pytest.raises(CheckpointError, match="colour"):
        DeticDetector.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        DeticDetector.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("depths", [10**6, 1, 1, 1], r"far more parameters .* its largest number is depths.0 = 1e\+06"),
        ("fc_width", 10**8, r"wanted shape \(100000000,"),
        ("widths", [10**30] * 4, "config.json describes no network|wanted"),
        ("short_side", 10**9, "short_side of at most 20,000"),
        ("pixel_mean", [1, 2], "wanted pixel_mean as tuple"),
    ],
)
def test_a_config_is_held_against_the_weights_before_it_is_built(tmp_path, key, value, words):
    cases.toy_detector().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {key: value}))
    with pytest.raises(CheckpointError, match=words):
        DeticDetector.from_pretrained(tmp_path)
