"""``bind2gen generate --host``: a Stable Diffusion with an IP-Adapter instead of a model of ours."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
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


@pytest.mark.parametrize("way", ["bundled", "adapter", "steered"])
def test_what_is_not_wanted_is_guided_away_from(way, run, host, media, tiny_folder, tiny_pipeline, tmp_path):
    """As the library does it, of one thing; of several, from their middle."""
    words = ["generate", "--audio", media / "low.wav", *STEPS, "--guidance", "3", "--seed", "4", "--json"]
    if way != "bundled":
        words += ["--host", host / "sdxl", "--imagebind", tiny_folder / "imagebind"]
        words += ["--ip-adapter", host / "ip.safetensors"] if way == "adapter" else ["--steer", "0.4"]
    found = {}
    for name, unwanted in {"none": [], "one": ["--not-audio", media / "high.wav"],
                           "two": ["--not-text", "b", "--not-image", media / "noise.png"]}.items():  # fmt: skip
        code, out, err = run(*words, *unwanted, "--out", tmp_path / f"{name}.png")
        assert code == 0, err
        found[name] = pixels(tmp_path / f"{name}.png")
        told = json.loads(out).get("not")
        assert (
            told == {"none": None, "one": {"audio": ["high.wav"]}, "two": {"text": ["b"], "image": ["noise.png"]}}[name]
        )
    assert abs(found["none"] - found["one"]).max() > 1 and abs(found["one"] - found["two"]).max() > 1
    if way == "bundled":
        (wanted,) = tiny_pipeline(
            audio=str(media / "low.wav"), negative={"audio": str(media / "high.wav")}, num_inference_steps=2,
            guidance_scale=3.0, generator=[torch.Generator().manual_seed(4)],
        ).images  # fmt: skip
        assert abs(np.asarray(wanted).astype(int) - found["one"]).max() <= 1


def test_pictures_are_as_large_as_asked_for(run, host, media, tiny_folder, tmp_path):
    own = ["generate", "--audio", media / "low.wav", *STEPS, "--size", "32x24", "--out", tmp_path / "a.png"]
    bound = ["--host", host / "sdxl", "--ip-adapter", host / "ip.safetensors"]
    for more in ([], [*bound, "--imagebind", tiny_folder / "imagebind"]):
        code, _, err = run(*own, *more)
        assert code == 0, err
        assert Image.open(tmp_path / "a.png").size == (32, 24)
    code, _, err = run(*own[:-4], "--size", "33", "--out", tmp_path / "b.png")
    assert code == 2 and "--size 33x33: wanted multiples of 2" in err
    code, _, err = run(*own[:-4], "--size", "0x8", "--out", tmp_path / "b.png")
    assert code == 2 and "wanted WIDTHxHEIGHT" in err


def test_what_has_no_room_is_refused_before_weights_are_read(run, host, media, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=2**30))
    monkeypatch.setattr("bind2gen.cli.film.load_chosen", lambda *_, **__: pytest.fail("weights are read"))
    words = ["film", "--audio", media / "high.wav", "--fps", "200", "--size", "2048", "--device", "cpu"]
    code, _, err = run(*words, "--out", tmp_path / "a.mp4")
    assert code == 1 and "--size: 1000 of 2048x2048 pixels take at least 12 GiB, this machine has 1; a smaller" in err


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["--steer"], 2, "they go with --host"),
        (["--not-text", "a", "--guidance", "1"], 2, "--not-text: nothing is guided away from where --guidance is 1"),
        (["--not-audio", "no.wav"], 1, "no.wav: no such file"),
        (["--host", "sdxl", "--imagebind", "E"], 2, "add --ip-adapter FILE, or --steer to do without"),
        (["--host", "sdxl", "--imagebind", "E", "--steer", "--ip-adapter", "ip.safetensors"], 2, "has none"),
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
