from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.mini.evaluate.judge import JUDGE_LOOP
from bind2gen.mini.evaluate.scores import GOALS, NOT_IN_MODEL

sys.path.insert(0, str(Path(__file__).parents[1] / "mini" / "evaluate"))  # mini_folder.py
from mini_folder import OTHER_LABELS, picture, write_folder, write_other_sounds, write_table  # noqa: E402

QUICK = ["--limit", "1", "--judge-steps", "2", "--steps", "1"]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bind2gen.mini.evaluate.judge.JUDGE_LOOP", replace(JUDGE_LOOP, batch_size=8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "sounds").mkdir()
    write_other_sounds(tmp_path / "data" / "sounds")
    photos = {f"{i}.png": (f'dog,1,"[[""dog"", 0, 0, {10 + i}, 20]]"', picture(rng, i)) for i in (1, 18, 30)}  # kept
    write_table(tmp_path / "data", "photos", "path,concept,boxed,boxes", photos)
    return write_folder(tmp_path / "data")


@pytest.fixture
def model(tmp_path: Path, make_pipeline, capsys) -> Path:
    """The toy pipeline, saved with three towers alone."""
    pipe = make_pipeline()
    config = pipe.imagebind.config
    towers = {name: config.towers[name] for name in ("vision", "text", "audio")}
    encoder = ImageBindModel(ImageBindConfig(config.embed_dim, towers))
    encoder.load_state_dict(pipe.imagebind.state_dict(), strict=False)
    pipe.register_modules(imagebind=encoder.eval())
    pipe.save_pretrained(tmp_path / "model")
    small = DeticConfig(
        "resnet", (1, 1, 1, 1), (8, 8, 8, 8), fpn_width=16, fc_width=16, mask_width=0, embed_dim=config.embed_dim,
        norm_groups=4, short_side=64, long_side=96, stage_weights=(10.0,), proposals=5,
    )  # fmt: skip
    DeticDetector(DeticModel(small)).save_pretrained(tmp_path / "model" / "detector")
    capsys.readouterr()  # the libraries' bars
    return tmp_path / "model"


def test_the_whole_command_writes_scores_and_pictures_and_repeats_itself(run, data, model, tmp_path):
    words = ["eval", "mini", "--data", data, "--model", model, "--out", tmp_path / "out", *QUICK]
    code, stdout, stderr = run(*words, "--json")
    assert (code, stderr) == (0, "")
    shown = json.loads(stdout)
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    files = shown.pop("files")
    assert shown == written and all(Path(name).is_file() for name in files)
    assert {Path(name).suffix for name in files} == {".json", ".html", ".webp"}
    assert written["rows"].keys() == GOALS.keys()
    assert written["rows"]["imu_to_text"]["why"] == NOT_IN_MODEL
    assert written["rows"]["other_sound_labels"]["items"] == len(OTHER_LABELS)  # --limit 1
    assert {way: found["photos"] for way, found in written["detector"].items()} == {"text": 1, "audio": 1}  # --limit 1
    assert len(written["partial"]) == 2 and str(tmp_path) not in json.dumps(written)

    code, table, _ = run(*words)
    assert code == 0 and table.count("PARTIAL") == 2 and NOT_IN_MODEL in table
    assert "Detector on 1 whole photos, all concepts asked by audio" in table
    again = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert again | {"seconds_per_picture": 0} == written | {"seconds_per_picture": 0}


def test_bad_data_is_one_line_that_names_what_is_missing(run, data, tmp_path):
    (data / "audio.tar").unlink()
    (data / "images.csv").write_text("path,label\n")
    bad = {
        str(tmp_path / "none"): "--data",
        str(data): "missing: column concept of images.csv, audio.tar",
        str(data / "images.csv"): "wanted a folder",
    }
    for folder, says in bad.items():
        code, stdout, stderr = run("eval", "mini", "--data", folder, "--out", tmp_path / "out", "--quiet")
        assert (code, stdout, stderr.count("\n")) == (1, "", 1)
        assert stderr.startswith("bind2gen: error: ") and says in stderr and "unexpected" not in stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval"], "SUITE"),
        (["eval", "paper"], "paper"),
        (["eval", "mini"], "--data"),
        (["eval", "mini", "--data", ".", "--limit", "0"], "--limit"),
        (["eval", "mini", "--data", ".", "--guidance", "nan"], "finite"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(words, says, run):
    code, stdout, stderr = run(*words)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1) and says in stderr


def test_a_judge_of_other_photos_is_not_reused(run, data, model, tmp_path):
    judge = tmp_path / "judge"
    judge.mkdir()
    (judge / "photos.json").write_text('{"training_photos": 1}')
    words = ["--data", data, "--model", model, "--out", tmp_path / "out", "--judge", judge, *QUICK, "--quiet"]
    code, _, stderr = run("eval", "mini", *words)
    assert code == 1 and "other photos" in stderr
