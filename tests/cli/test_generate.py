"""``bind2gen generate`` end to end on the toy pipeline: pictures, names, seeds, blends, the JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
from PIL import Image

import bind2gen
from bind2gen.cli.files import plan_pictures
from bind2gen.files import bundled
from bind2gen.hosts.pictures.unclip_files import PARTS

RATE = 16_000  # Hz
STEPS = ["--steps", "2"]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_one_input_gives_the_named_file_with_its_story_inside(run, media, tmp_path):
    out = tmp_path / "a.png"
    code, stdout, _ = run(
        "generate", "--audio", media / "mid.wav", "--prompt", "a dög", "--seed", 7, *STEPS, "--out", out
    )
    assert (code, stdout) == (0, f"{out}\n")
    assert pixels(out).std() > 1
    story = Image.open(out).text
    assert story["prompt"] == "a dög"
    assert story["seed"] == "7"
    assert story["steps"] == "2"
    assert json.loads(story["inputs"]) == {"audio": "mid.wav"}  # no folders of this machine
    assert story["Software"] == f"bind2gen {bind2gen.__version__}"
    assert str(media) not in str(story)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_the_same_seed_repeats_and_another_does_not(run, media, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("generate", "--audio", media / "mid.wav", "--seed", seed, *STEPS, "--out", tmp_path / f"{name}.png")
    a, b, c = (pixels(tmp_path / f"{name}.png") for name in "abc")
    assert np.array_equal(a, b)
    assert abs(a - c).max() > 4


def test_of_several_the_nearest_is_kept_with_its_own_seed(run, media, tmp_path):
    sounds = [media / "low.wav", media / "mid.wav"]
    argv = ["generate", "--audio", *sounds, "--num-images", 2, *STEPS, "--json"]
    code, out, _ = run(*argv, "--best-of", 3, "--batch-size", 5, "--out", tmp_path / "best")
    assert code == 0
    best = json.loads(out)["pictures"]
    assert len(best) == 4 and all(-1 <= one["roundtrip"] <= 1 for one in best)
    _, out, _ = run(*argv[:-1], "--num-images", 6, "--out", tmp_path / "all", "--json")
    every = json.loads(out)["pictures"]
    for i, one in enumerate(best):
        of = every[3 * i : 3 * i + 3]  # seeds one after the other
        (same,) = [other for other in of if other["seed"] == one["seed"]]
        assert np.abs(pixels(Path(one["file"])) - pixels(Path(same["file"]))).max() <= 1
    assert json.loads(Image.open(best[0]["file"]).text["roundtrip"]) == best[0]["roundtrip"]


def test_a_folder_gets_one_picture_an_input_each_as_if_made_alone(run, media, tmp_path):
    sounds = [media / f"{name}.wav" for name in ("low", "mid", "high")]
    code, stdout, _ = run(
        "generate", "--audio", *sounds, "--seed", 3, *STEPS, "--batch-size", 2, "--out", tmp_path / "all"
    )
    assert code == 0
    assert stdout.split() == [str(tmp_path / "all" / f"{name}.png") for name in ("low", "mid", "high")]
    for sound in sounds:
        drawn = tmp_path / "all" / f"{sound.stem}.png"
        seed = Image.open(drawn).text["seed"]
        run("generate", "--audio", sound, "--seed", seed, *STEPS, "--out", tmp_path / "one.png")
        # Matrix products of other batch sizes round differently; one grey level of 255 at most.
        assert abs(pixels(tmp_path / "one.png") - pixels(drawn)).max() <= 1


def test_several_pictures_are_numbered_and_take_the_next_seeds(run, media, tmp_path):
    base = ["generate", "--audio", media / "mid.wav", *STEPS, "--json", "--quiet"]
    code, stdout, stderr = run(*base, "--seed", 5, "--num-images", 3, "--batch-size", 2, "--out", tmp_path / "x.png")
    document = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert [(Path(p["file"]).name, p["seed"]) for p in document["pictures"]] == [
        ("x-1.png", 5),
        ("x-2.png", 6),
        ("x-3.png", 7),
    ]
    run(*base, "--seed", 7, "--out", tmp_path / "alone.png")
    assert abs(pixels(tmp_path / "alone.png") - pixels(tmp_path / "x-3.png")).max() <= 1
    assert abs(pixels(tmp_path / "x-1.png") - pixels(tmp_path / "x-3.png")).max() > 4


def test_a_weight_of_zero_takes_an_input_out_of_the_blend(run, media, tmp_path):
    sound, picture = ["--audio", media / "mid.wav"], ["--image", media / "noise.png"]
    for name, words in {
        "sound": sound,
        "both": [*sound, *picture],
        "muted": [*sound, *picture, "--weight", "image=0"],
    }.items():
        assert run("generate", *words, *STEPS, "--guidance", 3, "--out", tmp_path / f"{name}.png")[0] == 0
    assert abs(pixels(tmp_path / "muted.png") - pixels(tmp_path / "sound.png")).max() <= 1
    assert abs(pixels(tmp_path / "both.png") - pixels(tmp_path / "sound.png")).max() > 1


def test_a_single_input_of_another_kind_is_shared(run, media, tmp_path):
    words = ["--audio", media / "low.wav", media / "mid.wav", "--text", "a dog", *STEPS, "--json", "--quiet"]
    code, stdout, _ = run("generate", *words, "--out", tmp_path)
    assert code == 0
    shared = [{"audio": "low.wav", "text": "a dog"}, {"audio": "mid.wav", "text": "a dog"}]
    assert [p["inputs"] for p in json.loads(stdout)["pictures"]] == shared


def test_the_command_line_and_the_library_make_the_same_picture(run, media, tiny_pipeline, tmp_path):
    import torch

    run("generate", "--audio", media / "mid.wav", "--seed", 9, *STEPS, "--guidance", 4, "--out", tmp_path / "cli.png")
    image = tiny_pipeline(
        audio=str(media / "mid.wav"),
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(9)],
    ).images[0]
    assert abs(pixels(tmp_path / "cli.png") - np.asarray(image).astype(int)).max() <= 1


def test_progress_is_on_a_terminals_stderr_and_quiet_takes_it_away(run, media, tmp_path, monkeypatch):
    assert run("generate", "--audio", media / "mid.wav", *STEPS, "--out", tmp_path / "a.png")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, _, stderr = run("generate", "--audio", media / "mid.wav", *STEPS, "--out", tmp_path / "a.png")
    assert all(stage in stderr for stage in ("load", "encode", "denoise"))
    assert stderr.count("\n") == 0  # bars wipe themselves
    code, stdout, stderr = run("generate", "--audio", media / "mid.wav", *STEPS, "--out", tmp_path / "a.png", "--quiet")
    assert (code, stdout, stderr) == (0, "", "")


def test_a_short_sound_warns_in_one_line(run, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    code, _, stderr = run(
        "generate", "--audio", tmp_path / "silent.wav", *STEPS, "--quiet", "--out", tmp_path / "a.png"
    )
    assert code == 0
    assert stderr
    assert all(line.startswith("bind2gen: warning: ") for line in stderr.splitlines())


def test_a_host_without_encoder_takes_one_from_imagebind(run, media, tiny_folder, tiny_pipeline, tmp_path):
    from diffusers import StableUnCLIPImg2ImgPipeline

    host = tmp_path / "host"
    StableUnCLIPImg2ImgPipeline(**{name: getattr(tiny_pipeline, name) for name in PARTS}).save_pretrained(host)
    words = ["generate", "--audio", media / "mid.wav", *STEPS, "--quiet", "--out", tmp_path / "a.png", "--model", host]
    code, _, stderr = run(*words)
    assert code == 2
    assert "--imagebind" in stderr
    assert run(*words, "--imagebind", tiny_folder / "imagebind")[0] == 0
    assert Image.open(tmp_path / "a.png").text["model"] == "host + imagebind"


def test_imagebind_takes_the_place_of_a_pipelines_own_encoder(run, media, tiny_folder, tmp_path):
    out = tmp_path / "a.png"
    words = ["generate", "--image", media / "noise.png", *STEPS, "--quiet", "--out", out, "--model", tiny_folder]
    code, _, stderr = run(*words, "--imagebind", tiny_folder / "imagebind")
    assert (code, stderr) == (0, "")
    assert Image.open(out).text["model"] == "pipeline + imagebind"


def test_example_sounds_are_known_by_name(run, media, tmp_path, monkeypatch):
    sounds = tmp_path / "adapters" / "mini" / "sounds"
    sounds.mkdir(parents=True)
    (sounds.parent / "model_index.json").write_text("{}")
    soundfile.write(sounds / "dog.flac", soundfile.read(media / "mid.wav")[0], RATE)
    monkeypatch.setattr(bundled, "ROOTS", (tmp_path / "adapters",))
    code, stdout, _ = run(
        "generate", "--audio", "example:dog", *STEPS, "--json", "--quiet", "--out", tmp_path / "dog.png"
    )
    assert code == 0
    assert json.loads(stdout)["pictures"][0]["inputs"] == {"audio": "example:dog"}
    code, _, stderr = run("generate", "--audio", "example:cat", "--out", tmp_path / "cat.png")
    assert (code, stderr) == (1, "bind2gen: error: example:cat: wanted an example sound, known are: dog\n")


def test_pictures_are_named_after_inputs_and_never_collide(tmp_path):
    args = SimpleNamespace(overwrite=False)
    sounds = [str(tmp_path / name) for name in ("dog.wav", "old/dog.flac", "dog_2.wav", "dog.ogg")]
    names = [row[0].name for row in plan_pictures(str(tmp_path), {"audio": sounds}, 1, args).paths]
    assert names[0] == "dog.png"
    assert names[2] == "dog_2.png"
    assert len(set(names)) == 4
    texts = plan_pictures(str(tmp_path), {"text": ["A dog, on grass!", "../../etc", "…"]}, 2, args).paths
    assert [row[0].name for row in texts] == ["a-dog-on-grass-1.png", "etc-1.png", "text-1.png"]
    assert {path.parent for row in texts for path in row} == {tmp_path}
