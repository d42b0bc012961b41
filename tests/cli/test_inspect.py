"""``bind2gen inspect`` says what the files in fact hold, draws the tensor, and needs no weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.processor import ImageBindProcessor

CASES = {  # file, kind, options
    "audio": ("mid.wav", "audio", []),
    "image": ("noise.png", "image", []),
    "depth": ("wall.png", "depth", ["--depth-sensor", "xtion"]),
    "thermal": ("warm.png", "thermal", []),
    "imu": ("walk.csv", "imu", []),
}


@pytest.fixture
def looked(run, media, sensed):
    """The JSON document on a case's file."""

    def call(case: str, *more: object) -> dict:
        name, kind, words = CASES[case]
        path = media / name if (media / name).exists() else sensed / name
        code, stdout, stderr = run("inspect", path, "--as", kind, *words, *more, "--json")
        assert code == 0, stderr
        return json.loads(stdout)

    return call


def test_sounds(looked):
    found = looked("audio")
    assert found["understood"]["sampling_rate"] == 16_000
    assert found["understood"]["channels"] == 1
    assert found["understood"]["duration"] == pytest.approx(2.5)
    assert found["understood"]["level"]["peak"] == pytest.approx(0.3, abs=1e-3)
    assert found["understood"]["level"]["rms"] == pytest.approx(0.3 / 2**0.5, rel=1e-2)
    assert found["seen"]["tensor"] == [3, 1, 32, 44]  # the toy model takes 0.4 s
    assert found["seen"]["windows"] == [[0.0, 0.4], [1.05, 1.45], [2.1, 2.5]]
    assert found["model_has_tower"] and found["warnings"] == []


def test_depth_is_the_analytic_disparity(looked):
    found = looked("depth", "--depth-fx", "100", "--depth-baseline", "0.08")
    assert found["understood"]["disparity"]["median"] == pytest.approx(0.08 * 100 / 2.0)
    assert found["understood"]["holes"] == pytest.approx(32 / (48 * 64))
    assert found["understood"]["camera"] == pytest.approx({"fx": 100.0, "baseline": 0.08})
    wanted = (0.08 * 100 / 2.0 / 75 - 0.0418) / 0.0295
    assert found["seen"]["values"] == pytest.approx({"min": wanted, "max": wanted, "mean": wanted}, rel=1e-4)
    again = looked("depth", "--depth-fx", "100", "--depth-baseline", "0.08", "--depth-convention", "unrotated")
    assert again["understood"]["disparity"]["median"] == pytest.approx(0.08 * 100 / 16.0)


def test_thermal(looked):
    found = looked("thermal")
    assert found["understood"]["read_as"] == "radiometric"
    assert found["understood"]["size"] == [64, 48]
    assert found["seen"]["values"]["max"] == pytest.approx(1.0)


def test_motion(looked):
    found = looked("imu")
    said = found["understood"]
    assert said["rate"] == pytest.approx(100, rel=0.01)
    assert (said["accelerometer"], said["gyroscope"]) == ("g", "deg/s")
    assert np.array(said["gaps"]) == pytest.approx(np.array([[2.0, 2.5]]))
    assert any("by the header" in note for note in said["notes"])
    assert found["seen"]["tensor"][1:] == [6, 80]
    assert found["seen"]["values"]["max"] == pytest.approx(9.80665, rel=0.05)
    assert any("no samples" in warning for warning in found["warnings"])


def test_words_say_the_same_and_name_the_columns(run, sensed):
    code, stdout, stderr = run("inspect", sensed / "walk.csv", "--as", "imu")
    assert code == 0 and stderr.startswith("bind2gen: warning: ")
    for words in ("in g (columns ax (g), ay (g), az (g))", "gravity is 9.81", "2.00 to 2.50 s", "time (ms)", "200 Hz"):
        assert words in stdout
    assert run("inspect", sensed / "walk.csv", "--as", "imu", "--quiet")[1] == ""


def test_video_rate_and_length(run, tmp_path):
    import av

    with av.open(tmp_path / "x.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * grey, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    out = tmp_path / "x.png"
    code, stdout, stderr = run("inspect", tmp_path / "x.mp4", "--as", "video", "--json", "--out", out)
    found = json.loads(stdout)
    assert (code, stderr) == (0, "")
    assert found["understood"]["frame_rate"] == 10
    assert found["understood"]["duration"] == pytest.approx(3.0)
    assert found["understood"]["sound_track"] is False
    assert len(found["seen"]["windows"]) == 5 and found["seen"]["tensor"][0] == 15
    assert Image.open(out).size[0] > 6 * 112


@pytest.mark.parametrize("case", CASES)
def test_every_kind_is_drawn_and_no_weights_are_needed(case, looked, tiny_folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_folder, model, ignore=shutil.ignore_patterns("*.safetensors"))
    document = looked(case, "--model", model, "--out", tmp_path / "drawn.png")
    assert document["picture"] == str(tmp_path / "drawn.png")
    pixels = np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20  # it shows something


def test_a_model_without_the_tower_says_so(run, sensed, tmp_path):
    TINY(["audio"]).save_pretrained(tmp_path / "deaf")
    ImageBindProcessor().save_pretrained(tmp_path / "deaf")
    words = ["inspect", sensed / "warm.png", "--as", "thermal", "--imagebind", tmp_path / "deaf"]
    code, stdout, _ = run(*words)
    assert code == 0 and "deaf itself has no thermal tower" in stdout
    assert json.loads(run(*words, "--json")[1])["model_has_tower"] is False


BAD = {
    "missing": (["@none.wav", "--as", "audio"], 1, "no such file"),
    "kind missing": (["@wall.png"], 2, "--as"),
    "kind unknown": (["@wall.png", "--as", "smell"], 2, "smell"),
    "text has nothing to inspect": (["@wall.png", "--as", "text"], 2, "text"),
    "option of another kind": (["@wall.png", "--as", "depth", "--imu-rate", "5"], 2, "there is no imu input"),
    "picture of no known form": (["@wall.png", "--as", "image", "--out", "@x.txt"], 2, ".png"),
    "over its own input": (["@wall.png", "--as", "image", "--out", "@wall.png"], 1, "would be overwritten"),
    "motion as sound": (["@walk.csv", "--as", "audio"], 1, "walk.csv"),
    "sound as motion": (["@wall.png", "--as", "imu"], 1, "wall.png"),
    "folder as a sound": (["@.", "--as", "audio"], 1, "folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_inspected_is_one_line(name, run, sensed, tmp_path):
    for path in sensed.iterdir():
        shutil.copy(path, tmp_path)
    words, wanted, says = BAD[name]
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, stdout, stderr = run("inspect", *(word.replace("@", f"{tmp_path}/") for word in words))
    assert (code, stdout, stderr.count("\n")) == (wanted, "", 1)
    assert says in stderr and "unexpected" not in stderr
    assert {path: Path(path).read_bytes() for path in tmp_path.iterdir()} == before
