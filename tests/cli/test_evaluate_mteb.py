"""``bind2gen eval mteb`` on a folder that has what the hub has, in miniature."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bind2gen.files.bundled import example_sounds
from bind2gen.imagebind.embedding import embed_inputs

mteb = pytest.importorskip("mteb", minversion="2.26", reason="pip install 'bind2gen[mteb]'")
import datasets  # noqa: E402

from bind2gen.evaluate.mteb import MINI  # noqa: E402


@pytest.fixture
def hub_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> Path:
    """ESC-50 in miniature as the hub has it: parquet with whole files in it."""
    files = {name: example_sounds()[name].read_bytes() for name in ("dog", "cat", "frog", "clock")}
    rows = [{"audio": {"bytes": content, "path": f"{name}.flac"}, "target": 0} for name, content in files.items()]
    (tmp_path / "hub" / "esc50").mkdir(parents=True)
    table = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio())
    table.to_parquet(str(tmp_path / "hub" / "esc50" / "train-00000-of-00001.parquet"))
    capsys.readouterr()  # its bar
    return tmp_path / "hub"


def test_the_command_reads_a_folder_and_writes_scores_beside_the_papers(run, hub_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    words = ["eval", "mteb", "--tasks", "ESC50_Zeroshot", "--folder", hub_folder, "--out", tmp_path / "out"]
    code, stdout, stderr = run(*words, "--json")
    assert (code, stderr) == (0, "")
    told = json.loads(stdout)
    files = told.pop("files")
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == told and all(map(os.path.isfile, files))
    (score,) = told["scores"]
    encoder = mteb.get_model(MINI, device="cpu")
    sounds = [str(example_sounds()[name]) for name in ("dog", "cat", "frog", "clock")]
    labels = mteb.get_task("ESC50_Zeroshot").get_candidate_labels()
    found = embed_inputs(encoder.module.model, encoder.module.front_ends, {"audio": sounds, "text": labels})
    right = (found["audio"] @ found["text"].T).argmax(1) == 0
    assert score == {
        "task": "ESC50_Zeroshot", "metric": "accuracy", "score": right.float().mean().item(), "paper": 0.669,
        "wrapper": 0.664,
    }  # fmt: skip
    code, table, _ = run(*words)
    assert code == 0 and "66.9 %" in table and "66.4 %" in table
    assert np.asarray(Image.open(tmp_path / "out" / "scores.png").convert("L")).std() > 10


def test_bad_names_and_folders_are_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "esc50").mkdir()
    (tmp_path / "esc50" / "train.parquet").write_bytes(b"no table")
    bad = (
        (["--tasks", "Imagenet1kZeroShott"], "did you mean Imagenet1kZeroShot?"),
        (["--tasks", "ESC50_Zeroshot", "--folder", tmp_path], "ESC50_Zeroshot: its data cannot be loaded"),
        (["--tasks", "ESC50_Zeroshot", "--folder", tmp_path / "none"], "there is none"),
    )
    for words, says in bad:
        code, stdout, stderr = run("eval", "mteb", *words, "--out", tmp_path / "out", "--quiet")
        assert (code, stdout, stderr.count("\n")) == (1, "", 1) and says in stderr
    assert not (tmp_path / "out").exists()
