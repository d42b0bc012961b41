"""``bind2gen embed`` writes the model's own embeddings; ``bind2gen info`` says what there is."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bind2gen
from bind2gen.cli import info as info_command
from bind2gen.files import bundled
from bind2gen.files.embeddings import load_embeddings


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".json"])
def test_embed_writes_the_models_embeddings_whatever_the_form(suffix, run, media, tiny_pipeline, tmp_path):
    sounds, out = [str(media / "low.wav"), str(media / "high.wav")], tmp_path / f"x{suffix}"
    words = [
        "embed",
        "--audio",
        *sounds,
        "--text",
        "a dog",
        "--image",
        media / "noise.png",
        "--out",
        out,
        "--json",
        "--quiet",
    ]
    code, stdout, stderr = run(*words)
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["embeddings"]["audio"] == {"inputs": ["low.wav", "high.wav"], "shape": [2, 32]}
    found = load_embeddings(out)
    wanted = tiny_pipeline.embed(audio=sounds, text="a dog", image=str(media / "noise.png"))
    assert set(found.vectors) == {"audio", "text", "image"}
    for name, vectors in wanted.items():
        assert np.abs(found.vectors[name] - vectors.numpy()).max() < 1e-5
        assert np.abs(np.linalg.norm(found.vectors[name], axis=1) - 1).max() < 1e-5


def test_embed_needs_the_encoder_alone(run, media, tiny_folder, tiny_pipeline, tmp_path):
    words = ["--imagebind", tiny_folder / "imagebind", "--quiet", "--out", tmp_path / "x.npz"]
    code, _, stderr = run("embed", "--text", "a", "b", *words)
    assert (code, stderr) == (0, "")
    found = load_embeddings(tmp_path / "x.npz")
    assert found.details["model"] == "imagebind"
    assert np.abs(found.vectors["text"] - tiny_pipeline.embed(text=["a", "b"])["text"].numpy()).max() < 1e-5


def test_info_names_versions_devices_models_and_sounds(run):
    code, stdout, _ = run("info", "--json")
    facts = json.loads(stdout)
    assert code == 0
    assert facts["bind2gen"] == bind2gen.__version__
    assert set(facts["packages"]) == set(info_command.PACKAGES)
    assert facts["packages"]["torch"]
    assert "cpu" in [device["name"] for device in facts["devices"]]
    assert [model["name"] for model in facts["models"]] == bundled.bundled_names()
    assert facts["example_sounds"] == [f"example:{name}" for name in bundled.example_sounds()]
    code, stdout, _ = run("info")
    assert code == 0
    assert all(word in stdout for word in ("torch", "devices:", "models:", "example sounds:"))


def test_version_and_help_leave_with_0(run):
    code, stdout, _ = run("--version")
    assert (code, stdout) == (0, f"bind2gen {bind2gen.__version__}\n")
    code, stdout, _ = run("generate", "--help")
    assert code == 0
    assert all(option in stdout for option in ("--audio", "--weight", "--num-images", "--imagebind", "--json", "--out"))
