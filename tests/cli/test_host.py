"""``bind2gen generate --host``: a Stable Diffusion with an IP-Adapter instead of a model of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

STEPS = ["--steps", "2"]


@pytest.fixture(scope="module")
def host(tmp_path_factory, make_diffusion, make_ip_adapter) -> Path:
    """The toy SDXL and, beside its folder, an adapter."""
    folder = tmp_path_factory.mktemp("host")
    pipe = make_diffusion(True)
    pipe.save_pretrained(folder / "sdxl")
    halves = make_ip_adapter(pipe.unet).items()
    layers = {f"{kind}.{key}": value for kind, half in halves for key, value in half.items()}
    save_file(layers, folder / "ip.safetensors")
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_sounds_are_drawn_each_as_if_alone(run, host, media, tiny_folder, tmp_path):
    words = ["generate", "--host", host / "sdxl", "--ip-adapter", host / "ip.safetensors", *STEPS]
    words += ["--imagebind", tiny_folder / "imagebind", "--prompt", "a b", "--ip-adapter-scale", "0.6"]
    sounds = [media / f"{name}.wav" for name in ("low", "high")]
    code, out, err = run(*words, "--audio", *sounds, "--out", tmp_path, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["model"] == "sdxl + ip + imagebind" and document["ip_adapter_scale"] == 0.6
    assert (document["steps"], document["guidance"], document["prompt"]) == (2, 5.0, "a b")  # SDXL's own guidance
    assert "does not say how long" in err
    low, high = (pixels(tmp_path / f"{name}.png") for name in ("low", "high"))
    seed = document["pictures"][1]["seed"]
    assert run(*words, "--audio", sounds[1], "--seed", seed, "--out", tmp_path / "one.png")[0] == 0
    assert abs(pixels(tmp_path / "one.png") - high).max() <= 1  # grey levels: other batches round otherwise
    assert run(*words, "--audio", sounds[0], "--seed", seed, "--out", tmp_path / "other.png")[0] == 0
    assert abs(pixels(tmp_path / "other.png") - high).max() > 4 and low.std() > 1


def test_a_saved_host_brings_its_adapter(run, host, media, tiny_folder, tmp_path):
    """In the folder, under the name that the host's save() gives it."""
    saved = tmp_path / "saved"
    saved.symlink_to(host / "sdxl")
    words = ["generate", "--host", saved, "--imagebind", tiny_folder / "imagebind", "--audio", media / "low.wav"]
    code, _, err = run(*words, *STEPS, "--out", tmp_path / "a.png")
    assert code == 2 and "add --ip-adapter FILE" in err
    (host / "sdxl" / "ip_adapter.safetensors").symlink_to(host / "ip.safetensors")
    try:
        assert run(*words, *STEPS, "--out", tmp_path / "a.png")[0] == 0
    finally:
        (host / "sdxl" / "ip_adapter.safetensors").unlink()
    assert Image.open(tmp_path / "a.png").text["model"] == "sdxl + ip_adapter + imagebind"


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["--ip-adapter", "ip.safetensors"], 2, "they go with --host"),
        (["--host", "sdxl", "--ip-adapter", "ip.safetensors", "--model", "mini"], 2, "add --imagebind"),
        (["--host", "sdxl", "--model", "x", "--imagebind", "E", "--ip-adapter", "ip.safetensors"], 2, "one of the two"),
        (["--host", "sdxl", "--imagebind", "E", "--ip-adapter", "no.safetensors"], 1, "no.safetensors: no such file"),
        (["--host", "nowhere", "--imagebind", "E"], 1, "--host nowhere: no such folder"),
        (["--host", "sdxl", "--imagebind", "E", "--ip-adapter", "sdxl/model_index.json"], 1, "not a weight file"),
        (["--host", "sdxl", "--imagebind", "E", "--ip-adapter", "ip.safetensors", "--noise-level", "9"], 1,
         "noise_level: StableDiffusionXLPipeline takes no such argument"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(given, code, says, run, host, media, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(host)
    words = [tiny_folder / "imagebind" if word == "E" else word for word in given]
    found, _, err = run("generate", *words, "--audio", media / "low.wav", *STEPS, "--out", tmp_path / "a.png")
    errors = [line for line in err.splitlines() if line.startswith("bind2gen: error: ")]
    assert found == code and len(errors) == 1 and says in errors[0]
