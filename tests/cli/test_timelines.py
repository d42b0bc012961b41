"""``bind2gen embed --timeline``: the library's windows, with their times and names, in every form of file."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from bind2gen.files.embeddings import load_embeddings
from bind2gen.imagebind.timeline import embed_timeline
from bind2gen.preprocess.imu import Stated

NEAR = 1e-5


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".json"])
def test_windows_of_sounds_are_the_librarys(suffix, run, media, tiny_pipeline, tmp_path):
    sounds, out = [str(media / "high.wav"), str(media / "low.wav")], tmp_path / f"x{suffix}"
    words = ["--audio", *sounds, "--timeline", "--hop", "0.25", "--window", "0.4", "--batch-size", "7"]
    code, stdout, stderr = run("embed", *words, "--out", out, "--json")
    assert (code, stderr) == (0, "")
    found = load_embeddings(out)
    start = 0
    for sound in sounds:
        wanted = list(
            embed_timeline(
                tiny_pipeline.imagebind, tiny_pipeline.processor, sound, "audio", window=0.4, hop=0.25, batch_size=7
            )
        )
        rows = slice(start, start + len(wanted))
        assert np.array_equal(found.times["audio"][rows], [[m.start, m.end] for m in wanted])
        assert np.abs(found.vectors["audio"][rows] - np.stack([m.vector.numpy() for m in wanted])).max() < NEAR
        assert found.inputs["audio"][rows] == [sound.rpartition("/")[2]] * len(wanted)
        start = rows.stop
    assert start == len(found.vectors["audio"]) == 20 + 4  # 5 s: every 0.25 s to 4.6; 1 s: 0, 0.25, 0.5 and 0.6
    assert found.times["audio"][19].tolist() == [4.6, 5.0]
    assert found.details["hop"] == "0.25" and found.details["window"] == "0.4"
    assert json.loads(stdout)["embeddings"]["audio"] == {"inputs": ["high.wav", "low.wav"], "shape": [24, 32]}


@pytest.mark.filterwarnings("ignore::bind2gen.errors.Bind2GenWarning")
def test_what_is_stated_of_motion_counts_while_streaming(run, sensed, tiny_pipeline, tmp_path):
    words = ["--imu", sensed / "walk.csv", "--imu-rate", "50", "--imu-accelerometer-unit", "m/s^2", "--imu-axes=zxy"]
    assert run("embed", *words, "--timeline", "--hop", "1", "--out", tmp_path / "x.npz", "--quiet")[0] == 0
    found = load_embeddings(tmp_path / "x.npz")
    settings = replace(tiny_pipeline.processor.imu, axes="zxy")
    stated = Stated(accelerometer_unit="m/s^2", sampling_rate=50.0)
    source = sensed / "walk.csv"
    wanted = list(embed_timeline(tiny_pipeline.imagebind, settings, source, "imu", hop=1.0, stated=stated))
    assert np.array_equal(found.times["imu"], [[m.start, m.end] for m in wanted])
    assert np.abs(found.vectors["imu"] - np.stack([m.vector.numpy() for m in wanted])).max() < NEAR
    assert found.times["imu"][-1, 1] == pytest.approx(351 / 50, abs=0.01)  # all rows, at the rate that was stated


def test_without_a_hop_windows_overlap_by_half(run, media, tmp_path):
    assert run("embed", "--audio", media / "low.wav", "--timeline", "--out", tmp_path / "x.npz", "--quiet")[0] == 0
    times = load_embeddings(tmp_path / "x.npz").times["audio"]
    assert np.diff(times[:-1, 0]) == pytest.approx((times[0, 1] - times[0, 0]) / 2)
    assert times[-1, 1] == 1.0


def test_progress_counts_seconds_and_goes_away(run, media, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    words = ["embed", "--audio", media / "high.wav", "--timeline", "--hop", "1", "--out", tmp_path / "x.npz"]
    _, stdout, stderr = run(*words)
    assert "embed audio (s)" in stderr and "/5" in stderr and stderr.count("\n") == 0
    assert stdout == f"{tmp_path / 'x.npz'}\n"
    assert run(*words, "--quiet")[1:] == ("", "")


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["--audio", "S", "--hop", "1"], "--hop: only with --timeline", 2),
        (["--audio", "S", "--window", "1"], "--window: only with --timeline", 2),
        (["--audio", "S", "--timeline", "--hop", "0"], "above zero", 2),
        (["--image", "P", "--timeline"], "--image has no time axis", 2),
        (["--audio", "S", "--timeline", "--window", "60"], "wanted window of", 1),
        (["--audio", "P", "--timeline"], "no sound track", 1),
    ],
)
def test_wrong_timelines_are_one_line(words, says, code, run, media, tmp_path):
    files = {"S": str(media / "low.wav"), "P": str(media / "noise.png")}
    found, stdout, stderr = run("embed", *(files.get(w, w) for w in words), "--out", tmp_path / "x.npz", "--quiet")
    assert (found, stdout, stderr.count("\n")) == (code, "", 1)
    assert says in stderr
    assert list(tmp_path.iterdir()) == []
