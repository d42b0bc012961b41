"""``generate --profile`` and ``--preset fast``, and what commands do not import."""

from __future__ import annotations

import json
import subprocess
import sys

from PIL import Image

from bind2gen.hosts.pictures import FAST_STEPS

PARTS = ("start", "check", "import torch", "import the rest", "load", "fingerprint", "read", "encode", "recognise",
         "condition", "first step", "step", "decode", "save")  # fmt: skip
# Of what is installed in a development environment, what has no part in a sound's way to a picture, boxes or vectors.
ELSEWHERE = {"gradio", "matplotlib", "pandas", "av", "open_clip", "OpenEXR", "ray", "lancedb", "pymilvus", "mteb",
             "sentence_transformers", "torchmetrics", "h5py", "supervision", "datasets", "pyarrow"}  # fmt: skip


def test_a_profile_names_each_part_once_and_its_times_add_up(run, media, tmp_path):
    out = tmp_path / "a.png"
    code, stdout, _ = run("generate", "--audio", media / "mid.wav", "--steps", 3, "--out", out, "--profile", "--json")
    told = json.loads(stdout)["profile"]
    assert code == 0 and tuple(told) == PARTS
    assert (told["first step"]["times"], told["step"]["times"], told["decode"]["times"]) == (1, 2, 1)
    assert all(part["seconds"] >= 0 and part["cpu_seconds"] >= 0 for part in told.values())
    peaks = [part["peak_mib"] for part in told.values()]
    assert peaks == sorted(peaks) and peaks[0] > 0


def test_a_profile_is_a_table_on_stderr_and_changes_no_picture(run, media, tmp_path):
    argv = ["generate", "--audio", media / "mid.wav", "--steps", 2]
    _, stdout, stderr = run(*argv, "--out", tmp_path / "a.png", "--profile")
    assert stdout.split() == [str(tmp_path / "a.png")]
    table = [line for line in stderr.splitlines() if line.startswith(("part ", "import torch", "decode", "all "))]
    assert len(table) == 4
    run(*argv, "--out", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert "profile" not in Image.open(tmp_path / "a.png").text["command"]


def test_the_fast_preset_is_few_steps_of_its_own_solver_and_is_drawn_again(run, media, tmp_path):
    argv = ["generate", "--audio", media / "mid.wav"]
    code, _, _ = run(*argv, "--preset", "fast", "--out", tmp_path / "fast.png")
    story = Image.open(tmp_path / "fast.png").text
    assert code == 0 and story["steps"] == str(FAST_STEPS) and "--preset=fast" in story["command"]
    run(*argv, "--steps", FAST_STEPS, "--out", tmp_path / "few.png")
    assert (tmp_path / "fast.png").read_bytes() != (tmp_path / "few.png").read_bytes()
    code, _, _ = run(
        "generate", "--like", tmp_path / "fast.png", "--audio", media / "mid.wav", "--out", tmp_path / "c.png"
    )
    assert code == 0
    assert Image.open(tmp_path / "c.png").tobytes() == Image.open(tmp_path / "fast.png").tobytes()
    run(*argv, "--preset", "fast", "--steps", 2, "--out", tmp_path / "two.png")
    assert Image.open(tmp_path / "two.png").text["steps"] == "2"


def test_commands_import_nothing_that_they_have_no_use_for(media, tmp_path):
    sound, picture, out = media / "mid.wav", media / "noise.png", tmp_path / "out"
    commands = (  # in one process: each may import what those before it did
        ["embed", "--audio", sound, "--out", f"{out}.npz"],
        ["detect", "--image", picture, "--audio", sound, "--out", f"{out}.boxes.png"],
        ["generate", "--audio", sound, "--steps", "1", "--out", f"{out}.png"],
    )
    words = [[str(word) for word in command] for command in commands]
    code = "import json, sys; from bind2gen.cli import main; "
    code += f"told = [[main(words), *sys.modules] for words in {words!r}]; print(json.dumps(told))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert [status for status, *_ in told] == [0, 0, 0], done.stderr
    embed, detect, generate = ({*modules} for _, *modules in told)
    assert not {name.partition(".")[0] for name in generate} & ELSEWHERE
    assert "diffusers" not in embed
    assert "diffusers.pipelines.stable_diffusion" not in detect
    assert not {"bind2gen.hosts.boxes.detic.detector", "bind2gen.studio.studio", "bind2gen.store.store"} & generate
