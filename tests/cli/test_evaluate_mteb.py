"""``bind2gen eval mteb`` on a folder that has what the hub has, in miniature."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bind2gen.files.bundled import example_sounds
from bind2gen.imagebind.embedding import embed_inputs

mteb = pytest.importorskip("mteb", minversion="2.26", reason="pip install 'bind2gen[mteb]'")
import datasets  # noqa: E402

from bind2gen.evaluate.mteb import MINI  # noqa: E402
from bind2gen.evaluate.paper.table import OTHERS  # noqa: E402
from bind2gen.files.films import save_film  # noqa: E402


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


# ---- the paper's table ----


def write(table: datasets.Dataset, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table.to_parquet(str(folder / f"{name}-00000-of-00001.parquet"))


@pytest.fixture
def papers_folder(hub_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> Path:
    """The sets of the paper that mteb has, in miniature, each as its repository on the hub lays it out."""
    sounds = [{"bytes": example_sounds()[name].read_bytes(), "path": f"{name}.flac"} for name in ("dog", "cat")]
    pictures = [Image.fromarray(np.full((30, 40, 3), 90 * k, np.uint8)) for k in range(2)]
    films = []
    for k, picture in enumerate(pictures):
        save_film(tmp_path / f"{k}.mp4", [picture.resize((32, 32))] * 8, fps=4)
        films.append({"bytes": (tmp_path / f"{k}.mp4").read_bytes(), "path": f"{k}.mp4"})
    kinds = {"jpg": datasets.Image(), "cls": datasets.Value("int64")}
    table = datasets.Dataset.from_dict({"jpg": pictures, "cls": [0, 1]}, features=datasets.Features(kinds))
    write(table, hub_folder / "wds_imagenet1k", "test")
    table = datasets.Dataset.from_list([{"video": film, "label": k} for k, film in enumerate(films)])
    table = table.cast_column("video", datasets.Video(decode=False))
    table = table.cast_column("label", datasets.ClassLabel(names=["abseiling", "air drumming"]))
    write(table, hub_folder / "kinetics-400", "test")
    rows = [{"video": film, "audio": sound, "caption": "a dog"} for film, sound in zip(films, sounds, strict=True)]
    table = datasets.Dataset.from_list(rows).cast_column("video", datasets.Video(decode=False))
    write(table.cast_column("audio", datasets.Audio(decode=False)), hub_folder / "MSR-VTT", "test")
    parts = {
        "corpus": datasets.Dataset.from_list([{"id": f"s{k}", "audio": sound} for k, sound in enumerate(sounds)]),
        "queries": datasets.Dataset.from_list([{"id": f"q{k}", "text": f"a {k}"} for k in range(2)]),
        "qrels": datasets.Dataset.from_list(
            [{"query-id": f"q{k}", "corpus-id": f"s{k}", "score": 1} for k in range(2)]
        ),
    }
    parts["corpus"] = parts["corpus"].cast_column("audio", datasets.Audio(decode=False))
    for name in ("clotho_t2a_v2", "audiocaps_t2a"):
        lines = ["---", "configs:"]
        for part, table in parts.items():
            write(table, hub_folder / name / part, "test")
            lines += [f"- config_name: {part}", "  data_files:", "  - split: test", f"    path: {part}/test-*"]
        (hub_folder / name / "README.md").write_text("\n".join([*lines, "---", ""]))
    capsys.readouterr()  # bars
    return hub_folder


@pytest.mark.slow
def test_every_command_of_the_papers_table_runs_on_a_miniature(run, papers_folder, tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    commands = [shlex.split(command)[1:] for *_, command in OTHERS]
    assert len(commands) == 7 and all(words[:3] == ["eval", "mteb", "--tasks"] for words in commands)
    tasks = ",".join(words[3] for words in commands)
    words = ["eval", "mteb", "--tasks", tasks, "--folder", papers_folder, "--out", tmp_path / "out"]
    code, stdout, stderr = run(*words, "--model", tiny_folder, "--json")
    assert code == 0, stderr
    scores = json.loads(stdout)["scores"]
    assert {one["task"] for one in scores} == set(tasks.split(",")) and all(one["paper"] for one in scores)
    numbers = {one["task"]: f"{100 * one['paper']:.1f}" for one in reversed(scores)}  # the first of each
    assert all(numbers[words[3]] in told for words, (_, _, told, _) in zip(commands, OTHERS, strict=True))
