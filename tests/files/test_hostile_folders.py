"""Folders of models whose names lead elsewhere, or which bring code of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file

from bind2gen.cli import main
from bind2gen.errors import HostError
from bind2gen.imagebind.loading import load_imagebind
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

from fuzz import saved as corpus
from fuzz.refusal import refused


def made(family: str, folder: Path) -> Path:
    """A whole one."""
    (folder / "made").mkdir()
    corpus.FAMILIES[family](folder / "made")
    return next(path for path in (folder / "made").iterdir() if path.is_dir())


def test_names_in_an_index_do_not_lead_out_of_the_folder(tmp_path):
    folder = made("pipelines", tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    for name in ("../unet", "/etc", "a/b", ".."):
        (folder / "model_index.json").write_text(json.dumps(index | {name: ["diffusers", "UNet2DConditionModel"]}))
        assert "outside its folder" in refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder), HostError)
    (folder / "model_index.json").write_text(json.dumps(index))
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("imagebind", "model")):
        place = folder / part / f"{stem}.safetensors"
        moved = place.rename(tmp_path / "outside.safetensors")
        for file in ("../../outside.safetensors", str(moved)):
            listed = {"weight_map": dict.fromkeys(load_file(moved), file)}
            (folder / part / f"{stem}.safetensors.index.json").write_text(json.dumps(listed))
            assert "outside its folder" in refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder))
        (folder / part / f"{stem}.safetensors.index.json").unlink()
        moved.rename(place)


def test_links_are_followed_as_the_hubs_cache_has_them_and_broken_ones_are_one_line(tmp_path):
    """snapshots/REVISION/FILE is a link to ../../blobs/HASH."""
    folder = made("encoders", tmp_path)
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / "1a2b"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    assert set(load_imagebind(snapshot).towers) == set(corpus.TOWERS)
    for target in ("nowhere", "model.safetensors"):  # leads nowhere, or to itself
        (snapshot / "model.safetensors").unlink()
        (snapshot / "model.safetensors").symlink_to(target)
        refused(lambda: load_imagebind(snapshot))


def test_a_foreign_pipeline_py_is_not_run(tmp_path, capsys):
    folder, trace = made("pipelines", tmp_path), tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()\nfrom bind2gen import ImageBindUnCLIPPipeline\n"
    for place in (folder, folder / "unet", folder / "scheduler"):
        (place / "pipeline.py").write_text(code)
    index = json.loads((folder / "model_index.json").read_text())
    assert ImageBindUnCLIPPipeline.from_pretrained(folder).unet is not None  # our class is known: nothing to run
    for part in ("unet", "scheduler"):  # a part whose class is said to be in its folder
        (folder / "model_index.json").write_text(json.dumps(index | {part: ["pipeline", "ImageBindUnCLIPPipeline"]}))
        refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder))
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": ["../pipeline", "X"]}))
    ImageBindUnCLIPPipeline.from_pretrained(folder)
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["antigravity", "geohash"]}))
    refused(lambda: ImageBindUnCLIPPipeline.from_pretrained(folder))
    assert "antigravity" not in sys.modules and not trace.exists()
    out = str(tmp_path / "x.png")
    capsys.readouterr()  # bars
    assert main(["generate", "--text", "x", "--model", str(folder), "--steps", "1", "--out", out, "--quiet"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bind2gen: error: ") and err.count("\n") == 1 and not trace.exists()
