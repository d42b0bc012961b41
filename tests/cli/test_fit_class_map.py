"""``bind2gen fit-class-map`` on the toy encoder, with made-up class vectors, a toy OpenCLIP folder and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from bind2gen.space.class_map import ClassMap

LETTERS = "bcdfghjklmnpqrst"
NAMES = [f"{a}{v}{b}" for a in LETTERS for v in "aeo" for b in "nt"][:40]
TOY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 28, "layers": 1, "width": 16, "head_width": 8, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Names, their vectors and a recipe for them."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).standard_normal((len(NAMES), 12)).astype(np.float16))
    return tmp_path


@pytest.fixture
def recipe(folder: Path, tiny_folder: Path) -> Path:
    text = f'encoder = "{tiny_folder}"\nnames = "{folder}/names.txt"\n[target]\nvectors = "{folder}/vectors.npy"\n'
    (folder / "mine.toml").write_text(text)
    return folder / "mine.toml"


def test_a_recipe_becomes_a_folder_with_map_figures_and_card(run, recipe, folder, tiny_folder):
    words = ["--means", tiny_folder / "adapter", "--out", folder / "out"]
    code, stdout, stderr = run("fit-class-map", recipe, *words, "--json")
    assert (code, stderr) == (0, "")
    shown = json.loads(stdout)
    assert shown["left_out"]["names"] == 40 and shown["left_out"]["method"] == "ridge"
    assert all(Path(name).is_file() for name in shown["files"])
    made = ClassMap.from_pretrained(folder / "out")
    assert (made.config.source_dim, made.config.target_dim) == (32, 12)
    assert set(made.known) == {"text", "image", "audio"}
    assert str(folder) not in (folder / "out" / "README.md").read_text()

    code, table, _ = run("fit-class-map", recipe, "--method", "procrustes", "--out", folder / "again")
    assert code == 0 and "left-out names" in table and table.strip().endswith(str(folder / "again"))


def test_the_same_recipe_gives_the_same_map(run, recipe, folder):
    for name in ("one", "two"):
        assert run("fit-class-map", recipe, "--out", folder / name, "--quiet") == (0, "", "")
    one, two = (ClassMap.from_pretrained(folder / name).matrix for name in ("one", "two"))
    assert torch.equal(one, two) and bool(one.any())


def test_an_open_clip_folder_is_a_target(run, recipe, folder):
    toy = folder / "clip"
    toy.mkdir()
    torch.manual_seed(0)
    model = open_clip.model.CLIP(TOY["embed_dim"], TOY["vision_cfg"], TOY["text_cfg"])
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, toy / "open_clip_model.safetensors")
    (toy / "open_clip_config.json").write_text(json.dumps({"model_cfg": TOY, "preprocess_cfg": {}}))
    code, stdout, stderr = run("fit-class-map", recipe, "--open-clip", toy, "--out", folder / "out", "--json")
    assert (code, stderr) == (0, "")
    made = ClassMap.from_pretrained(folder / "out")
    assert made.config.target_dim == 24
    with torch.no_grad():
        own = model.eval().encode_text(
            open_clip.get_tokenizer("ViT-B-32")([f"a {name}" for name in NAMES]), normalize=True
        )
    assert torch.allclose(made.target_mean, own.mean(0), atol=1e-5)
    assert "`clip`" in (folder / "out" / "README.md").read_text()
    state = model.state_dict() | {"text_projection": torch.full_like(model.text_projection, torch.nan)}
    save_file({k: v.contiguous() for k, v in state.items()}, toy / "open_clip_model.safetensors")
    code, _, stderr = run("fit-class-map", recipe, "--open-clip", toy, "--out", folder / "out", "--overwrite")
    assert code == 1 and "text_projection holds NaN or infinite values" in stderr and stderr.count("\n") == 1


BAD: dict[str, tuple[list[str], str]] = {  # name: (words, @ for the folder of the test; what the line says)
    "no recipe": (["@none.toml"], "map_detic, map_detic_bundled, map_owlv2"),
    "a recipe of training": (["imagebind_audio"], "map_detic"),
    "no encoder": (["@mine.toml", "--encoder", "@none"], "encoder"),
    "no vectors": (["@mine.toml", "--vectors", "@none.npy"], "no such file"),
    "vectors that are none": (["@mine.toml", "--vectors", "@names.txt"], "names.txt"),
    "other names": (["@mine.toml", "--names", "@mine.toml"], "names for 40 rows"),
    "no means": (["@mine.toml", "--means", "@none"], "means"),
    "unknown method": (["@mine.toml", "--method", "magic"], "ridge, procrustes"),
    "open_clip without weights": (["@mine.toml", "--open-clip", "ViT-B-32"], "weights"),
    "weights that are not there": (["@mine.toml", "--open-clip", "ViT-B-32", "--weights", "@w.pt"], "no such file"),
    "unknown open_clip": (["@mine.toml", "--open-clip", "ViT-Z", "--weights", "openai"], "ViT-Z"),
    "no owl": (["@mine.toml", "--owl", "@none"], "OWL"),
    "folder without a model": (["@mine.toml", "--open-clip", "@empty"], "open_clip_config.json"),
    "out is a file": (["@mine.toml", "--out", "@names.txt"], "is a file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(name, run, recipe, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    before = sorted(folder.rglob("*"))
    words, says = BAD[name]
    code, stdout, stderr = run("fit-class-map", *(word.replace("@", f"{folder}/") for word in words), "--quiet")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1), stderr
    assert stderr.startswith("bind2gen: error: ") and says in stderr and "unexpected" not in stderr
    assert sorted(folder.rglob("*")) == before
