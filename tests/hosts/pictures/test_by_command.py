"""``generate --host`` and ``info`` with hosts of other spaces than the encoder's."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from diffusers import DDIMPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from bind2gen import bind
from bind2gen.cli import build_parser, demo
from bind2gen.errors import Bind2GenWarning
from bind2gen.hosts.pictures.animatediff import AnimateDiff
from bind2gen.hosts.pictures.flux import Flux
from bind2gen.hosts.pictures.ip_adapter import IPAdapter
from bind2gen.space.arithmetic import slerp

SMALL = ["--steps", "2", "--seed", "3"]


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr("bind2gen.hosts.pictures.kandinsky.SIDE", 64)


@pytest.fixture(scope="module")
def there(tmp_path_factory, make_kandinsky, make_loaded, in_front, tiny_folder, tiny_pipeline) -> Path:
    """A sound, a picture, Kandinsky's and Karlo's folders, and an adapter with a map of 32 to 32."""
    folder = tmp_path_factory.mktemp("hosts")
    soundfile.write(folder / "tone.wav", 0.3 * np.sin(np.arange(16_000) / 7), 16_000)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)).save(folder / "depth.png")
    for kind in ("kandinsky", "kandinsky-hint", "karlo"):
        make_loaded(kind).save_pretrained(folder / kind)
    AnimateDiff().save(make_loaded("animatediff"), folder / "motion")
    Flux().save(make_loaded("flux"), folder / "flux")
    IPAdapter().save(make_loaded("sdxl"), folder / "sdxl")
    make_loaded("svd").save_pretrained(folder / "svd")
    DDIMPipeline(tiny_pipeline.unet, tiny_pipeline.scheduler).save_pretrained(folder / "no-slot")
    flat = load_file(folder / "sdxl" / "ip_adapter.safetensors")
    save_file({key: value for key, value in flat.items() if "proj.weight" not in key}, folder / "plus.safetensors")
    wide = flat["image_proj.proj.weight"].new_zeros(len(flat["image_proj.proj.weight"]), 48)
    save_file(flat | {"image_proj.proj.weight": wide}, folder / "wide.safetensors")
    make_kandinsky("kandinsky", width=48).save_pretrained(folder / "wide")
    in_front(make_loaded("kandinsky")).adapter.save_pretrained(folder / "adapter")
    (folder / "imagebind").symlink_to(tiny_folder / "imagebind")
    (folder / "processor").symlink_to(tiny_folder / "processor")
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", ["kandinsky-hint", "karlo", "flux"])
def test_a_sound_is_drawn_by_the_kind_that_the_folder_says_it_is(kind, run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    words = ["generate", "--host", kind, "--imagebind", "imagebind", "--adapter", "adapter", *SMALL]
    words += ["--begin-with", "depth.png"] if kind == "kandinsky-hint" else []
    code, out, err = run(*words, "--audio", "tone.wav", "--out", tmp_path / "a.png", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["model"].split(" + ")[::2] == [kind, "adapter" if kind != "flux" else "imagebind"]
    guidance = {"karlo": 8.0, "flux": 3.5}.get(kind, 4.0)  # each its own
    assert (document["steps"], document["guidance"]) == (2, guidance)
    assert run(*words, "--text", "a dog", "--out", tmp_path / "b.png")[0] == 0
    assert abs(pixels(tmp_path / "a.png") - pixels(tmp_path / "b.png")).max() > 4


def test_sounds_are_laid_where_their_regions_are(run, there, in_front, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    soundfile.write("soft.wav", 0.01 * np.random.default_rng(0).standard_normal(32_000), 16_000)
    words = ["generate", "--host", "sdxl", "--imagebind", "imagebind", *SMALL, "--guidance", "3", "--json"]
    regions = ["--region", "0,0,0.5,1", "0.5,0,1,1"]
    code, out, err = run(*words, "--audio", "tone.wav", "soft.wav", *regions, "--out", tmp_path / "a.png")
    assert code == 0, err
    (one,) = json.loads(out)["pictures"]
    assert one["inputs"] == {"audio": ["tone.wav", "soft.wav"]}
    assert json.loads(out)["regions"] == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    host = IPAdapter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # the length is a guess
        with bind(host.load("sdxl"), imagebind="imagebind") as sounding:
            left = np.zeros((32, 32), np.float32)
            left[:, :16] = 1
            (wanted,) = sounding(
                audio=["tone.wav", "soft.wav"], masks=[left, 1 - left], guidance_scale=3.0, num_inference_steps=2,
                prompt="", generator=[torch.Generator().manual_seed(3)],
            ).images  # fmt: skip
    drawn = pixels(tmp_path / "a.png")
    assert abs(drawn - np.asarray(wanted).astype(int)).max() <= 1
    assert run(*words, "--audio", "soft.wav", "tone.wav", *regions, "--out", tmp_path / "b.png")[0] == 0
    assert abs(drawn - pixels(tmp_path / "b.png")).max() > 4


def test_blends_and_ways_are_those_of_the_library_in_front_of_others_hosts(run, there, tmp_path, monkeypatch):
    """Of two kinds with a weight below zero; and from one thing to another along the sphere."""
    monkeypatch.chdir(there)
    own = ["--host", "sdxl", "--imagebind", "imagebind", "--guidance", "3", *SMALL]
    both = {"audio": "tone.wav", "text": "a dog"}
    blend = ["generate", *own, "--audio", "tone.wav", "--text", "a dog", "--weight", "text=-0.4"]
    code, _, err = run(*blend, "--out", tmp_path / "a.png", "-q")
    assert code == 0, err
    way = ["morph", *own, "--from-audio", "tone.wav", "--to-text", "a dog", "--frames", "3"]
    code, _, err = run(*way, "--out", tmp_path / "a.mp4", "-q")
    assert code == 0, err
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # the length is a guess
        with bind(IPAdapter().load("sdxl"), imagebind="imagebind") as sounding:
            first, last = (sounding.condition(sounding.embed(**{name: value})) for name, value in both.items())
            rows = [sounding.condition(sounding.embed(**both), {"text": -0.4}), first, slerp(first, last, 0.5), last]
            call = {"num_inference_steps": 2, "guidance_scale": 3.0, "prompt": [""] * 4}
            seeds = [torch.Generator().manual_seed(3) for _ in rows]
            drawn = sounding(image_embeds=torch.cat(rows), generator=seeds, **call).images
    assert abs(pixels(tmp_path / "a.png") - np.asarray(drawn[0]).astype(int)).max() <= 1
    with av.open(tmp_path / "a.mp4") as film:
        frames = [frame.to_ndarray(format="gray").astype(int) for frame in film.decode(video=0)]
    apart = np.array([[abs(f - np.asarray(d.convert("L"))).mean() for d in drawn[1:]] for f in frames])
    assert (apart.argmin(1) == [0, 1, 2]).all() and apart.diagonal().max() < 6  # grey levels of 255, as films keep them


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (["--host", "karlo", "--adapter", "adapter", "--not-text", "x"], 2, "--not-text: Karlo has learned what to be"),
        (["--host", "karlo", "--adapter", "adapter", "--size", "64"], 2, "--size: this pipeline draws one size only"),
        (["--host", "flux", "--adapter", "adapter", "--size", "6"], 2, "--size 6x6: wanted multiples of 4"),
        (["--host", "kandinsky", "--adapter", "adapter", "--size", "100"], 2, "--size 100x100: wanted multiples of 64"),
        (["--host", "kandinsky", "--adapter", "adapter", "--prompt", "x"], 2, "--prompt: Kandinsky 2.2 reads none"),
        (["--host", "karlo", "--ip-adapter-scale", "0.5"], 2, "--ip-adapter-scale: Karlo has none"),
        (["--host", "wide"], 1, "wanted a host for embeddings of width 32, found 48"),
        (["--host", "kandinsky"], 1, "wanted a vector to be guided away from"),
        (
            ["--host", "kandinsky-hint", "--adapter", "adapter"],
            2,
            "Kandinsky 2.2 needs a depth hint: --begin-with FILE",
        ),
        (["--host", "sdxl", "--region", "0.5,0,1.5,1"], 2, "wanted X0,Y0,X1,Y1 with 0 <= X0 < X1 <= 1"),
        (["--host", "no-slot"], 1, "no-slot (DDIMPipeline): wanted a pipeline with a slot for image embeddings"),
        (["--host", "sdxl", "--ip-adapter", "plus.safetensors"], 1, "this one (plus or face) takes a grid of tokens"),
        (["--host", "sdxl", "--ip-adapter", "wide.safetensors"], 1, "for embeddings of width 32, found 48"),
        (["--host", "karlo", "--begin-with", "depth.png"], 1, "takes the embedding in its place"),
        (["--host", "karlo", "--begin-with", "no.png"], 1, "no.png: no such file"),
        (["--host", "karlo", "--region", "0,0,1,1"], 2, "--region: it goes with --host FOLDER of an IP-Adapter"),
        (["--host", "sdxl", "--region", "0,0,1,1", "0,0,1,1"], 2, "--region: wanted 1, one an input, got 2"),
        (["--host", "sdxl", "--region", "0,0,1,1", "--best-of", "2"], 2, "--region: neither --weight nor --best-of"),
        (["--begin-with", "depth.png", "--model", "mini"], 2, "--begin-with: they go with --host"),
    ],
)
def test_what_does_not_go_together_is_one_line(given, code, says, run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    words = ["generate", *given, "--imagebind", "imagebind", "--audio", "tone.wav", "--out", tmp_path / "a.png", *SMALL]
    found, _, err = run(*words)
    errors = [line for line in err.splitlines() if line.startswith("bind2gen: error: ")]
    assert found == code and len(errors) == 1 and says in errors[0]


def test_info_lists_every_slot_with_its_terms(run):
    code, out, _ = run("info", "--json")
    hosts = {host["name"]: host for host in json.loads(out)["hosts"]}
    assert code == 0 and hosts["Kandinsky 2.2"]["width"] == 1280 and hosts["Kandinsky 2.2"]["licence"] == "Apache-2.0"
    lines = run("info")[1]
    for host in hosts.values():
        assert host["name"] in lines and host["licence"] in lines and f"needs {host['needs']}" in lines


def test_the_demo_draws_with_another_generator_what_generate_draws(run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    words = ["--imagebind", "imagebind", "--device", "cpu", "-q"]
    args = build_parser().parse_args(["demo", "sound2image", "--generator", "sdxl", *words])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # the length is a guess
        studio = demo._studios(args, ("sound2image",))["sound2image"]
        try:
            *news, drawing = studio.draw({"audio": "tone.wav"}, seed=3, steps=2)
        finally:
            studio.close()
    assert len(drawing.pictures) == 1 and -1 <= drawing.round_trip[0] <= 1 and news[-1].step == news[-1].steps
    own = ["generate", "--host", "sdxl", *words, "--audio", "tone.wav", *SMALL, "--out", tmp_path / "a.png"]
    assert run(*own)[0] == 0
    assert abs(pixels(tmp_path / "a.png") - np.asarray(drawing.pictures[0].convert("RGB")).astype(int)).max() <= 1
    code, _, err = run("demo", "sound2image", "--generator", "svd", *words)
    assert code == 2 and "--generator svd: Stable Video Diffusion makes films" in err


def test_pictures_do_not_depend_on_how_many_are_drawn_at_a_time(run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    words = ["generate", "--host", "kandinsky-hint", "--imagebind", "imagebind", "--adapter", "adapter", *SMALL]
    words += ["--begin-with", "depth.png", "--audio", "tone.wav", "--num-images", "3"]
    for size in (1, 3):
        assert run(*words, "--batch-size", size, "--out", tmp_path / f"{size}.png")[0] == 0
    alone, together = ([pixels(tmp_path / f"{size}-{k}.png") for k in (1, 2, 3)] for size in (1, 3))
    assert max(abs(a - b).max() for a, b in zip(alone, together, strict=True)) <= 1  # grey levels
    assert abs(alone[0] - alone[1]).max() > 4


def test_a_film_follows_the_sound_and_its_loudness(run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    soundfile.write("soft.wav", 0.01 * np.random.default_rng(0).standard_normal(32_000), 16_000)
    words = ["film", "--host", "motion", "--imagebind", "imagebind", "--audio", "tone.wav", "soft.wav", *SMALL]
    words += ["--fps", "4", "--hop", "0.25", "--window", "0.4"]
    found = {}
    for strength in ("constant", "loudness"):
        out = tmp_path / f"{strength}.mp4"
        code, text, err = run(*words, "--strength", strength, "--out", out, "--json")
        assert code == 0, err
        document = json.loads(text)
        assert (document["frames"], document["seconds"], document["strength"]) == (12, 3.0, strength)
        with av.open(out) as film:
            found[strength] = [frame.to_ndarray(format="gray").astype(int) for frame in film.decode(video=0)]
            assert film.streams.audio and len(found[strength]) == 12
    apart = [abs(a - b).mean() for a, b in zip(*found.values(), strict=True)]
    assert max(apart[:4]) < min(apart[5:])  # where it is loud the weight is the whole one
    code, _, err = run(*words[:2], "motion", *words[3:], "--prompt", "a", "--overwrite", "--out", tmp_path / "x.txt")
    assert code == 2 and "wanted a name ending in .mp4" in err


def test_pictures_and_films_are_told_apart(run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    own = ["--imagebind", "imagebind", "--audio", "tone.wav", *SMALL]
    code, _, err = run("film", "--host", "svd", *own, "--out", tmp_path / "a.mp4")
    assert code == 2 and "Stable Video Diffusion needs a first frame: --begin-with FILE" in err
    code, _, err = run("generate", "--host", "motion", *own, "--out", tmp_path / "a.png")
    assert code == 2 and "AnimateDiff + SD 1.5 + IP-Adapter makes films; bind2gen film takes it" in err
    words = ["film", "--host", "kandinsky", "--adapter", "adapter", *own, "--strength", "onsets"]
    code, _, err = run(*words, "--out", tmp_path / "a.mp4")
    assert code == 2 and "--strength onsets: it goes with --host FOLDER of an AnimateDiff" in err


def test_a_morph_begins_with_what_its_host_needs(run, there, tmp_path, monkeypatch):
    monkeypatch.chdir(there)
    words = ["morph", "--host", "kandinsky-hint", "--imagebind", "imagebind", "--adapter", "adapter", *SMALL]
    words += ["--from-audio", "tone.wav", "--to-text", "a dog", "--frames", "2", "-q"]
    code, _, err = run(*words, "--begin-with", "depth.png", "--out", tmp_path / "a.mp4")
    assert code == 0, err
    with av.open(tmp_path / "a.mp4") as film:
        assert len(list(film.decode(video=0))) == 2
    assert run(*words, "--out", tmp_path / "b.mp4")[0] == 2  # without its hint
