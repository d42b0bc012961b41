"""``bind2gen eval paper``: every line of the paper's table that has a reader here, on a miniature of its set.

What is in a miniature says what it is (paper_folders.seen), and a stub of the encoder sees just that: so each score is
known. The toy encoder runs all of them once as it is.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.cli.evaluate_paper import IMU_READINGS, TEMPLATE_SETS
from bind2gen.evaluate.paper import llvip, nyu, sun_rgbd
from bind2gen.evaluate.paper.table import OTHERS, SETS, lines
from bind2gen.preprocess.imu import READINGS
from bind2gen.space import zero_shot

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluate"))
import paper_folders as made  # noqa: E402

NYU = ["bathroom", "kitchen", "cafe", "foyer", "office"]
PLACES = ["/a/airfield", "/b/beach", "/c/cafeteria"]
SOUNDS = ["dog", "rain", "sea_waves"]
HEARD = ["Speech", "Dog", "Rain"]
WIDTH = 32  # of the stub's space


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A miniature of each set."""
    place = tmp_path_factory.mktemp("sets")
    for name in SETS:
        (place / name).mkdir()
    found = {name: place / name for name in SETS}
    # (what it looks like, what it is): of eight frames six are what they look like.
    pairs = [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 0), (7, 0)]
    made.sun_rgbd(found["sun-rgbd"], pairs, sun_rgbd.SCENES)
    # Two are others (a cafe, and a foyer that looks like a kitchen): of five tested four are named right.
    looks = [nyu.SCENES.index("bathroom"), nyu.SCENES.index("kitchen"), 9, nyu.SCENES.index("kitchen"), 8]
    made.nyu(found["nyu-d"], ["basement", *NYU], [9, *looks], [2, 3, 4, 5, 6])
    for name, bright in (("190001", 236), ("190002", 20)):  # of the second picture the people are as dark as the street
        pixels = np.full((64, 64), 20, np.uint8)
        pixels[8:40, 4:20] = bright
        made.write_llvip(found["llvip"], name, pixels, [(4, 8, 20, 40)], 0)
    for k, uid in enumerate(("one", "two", "three")):
        made.write_film(found["ego4d"], uid, made.motion(11, min(k, 1)))  # the third moves as the second
    films = [(uid, 11.0, [label]) for uid, label in (("one", "Cooking"), ("two", "Eating"), ("three", "Walking"))]
    made.write_ego4d(found["ego4d"], films, {"one": [3.0, 6.0], "two": [4.0], "three": [5.0]})
    made.places(found["places365"], [(0, 0), (1, 1), (2, 1), (2, 2)], PLACES)
    rows = [(k, k, fold) for fold in range(1, 6) for k in (0, 1, 2)] + [(0, 1, 5)]
    made.esc50(found["esc50"], rows, SOUNDS)
    made.audioset(found["audioset"], [(0, [0]), (1, [1]), (2, [2]), (2, [1])], HEARD)
    made.vggsound(found["vggsound"], [(0, 0, "test"), (1, 1, "test"), (0, 2, "test"), (2, 2, "train")], SOUNDS)
    return found


CLASSES = {  # in the order of what things look like
    "sun-rgbd": sun_rgbd.SCENES, "nyu-d": (*nyu.SCENES, "cafe"), "llvip": ("street", *"x" * 17, "person"),
    "ego4d": ("Cooking", "Eating", "Walking"), "places365": ("airfield", "beach", "cafeteria"),
    "esc50": SOUNDS, "audioset": HEARD, "vggsound": SOUNDS,
}  # fmt: skip
RIGHT = {  # of how many, worked out by hand from the fixture above
    "sun-rgbd": (6, 8), "nyu-d": (4, 5), "llvip": (3, 4), "ego4d": (3, 4), "places365": (3, 4), "esc50": (15, 16),
    "vggsound": (2, 3),
}  # fmt: skip


@pytest.fixture
def stub(monkeypatch):
    """An encoder that sees what the miniatures show, and reads the longest of a set's names in a caption."""

    def call(name: str) -> None:
        names = [one.replace("_", " ") for one in CLASSES[name]]
        spare = WIDTH - 1  # of names that nothing looks like

        def place(text: str) -> int:
            known = [one for one in names if one.lower() in text.lower()]
            return names.index(max(known, key=len)) if known else spare

        def embed_inputs(model, processor, inputs):
            return {kind: torch.eye(WIDTH)[[made.seen(kind, one) for one in things]] for kind, things in inputs.items()}

        monkeypatch.setattr("bind2gen.imagebind.embedding.embed_inputs", embed_inputs)
        monkeypatch.setattr(
            "bind2gen.space.text_towers.EncoderText",
            lambda model, processor: lambda texts: torch.eye(WIDTH)[[place(text) for text in texts]],
        )

    return call


def scored(run, tiny_folder, name: str, folder: Path, *words: object) -> dict:
    code, stdout, stderr = run(
        "eval", "paper", "--set", name, "--data", folder, "--model", tiny_folder, *words, "--json"
    )
    assert code == 0, stderr
    return json.loads(stdout)


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_seen_right_is_counted_right(name, run, stub, tiny_folder, folders, tmp_path):
    stub(name)
    out = tmp_path / "scores.json"
    told = scored(run, tiny_folder, name, folders[name], "--out", out)
    right, count = RIGHT[name]
    assert (told["zero-shot"]["score"], told["items"]) == (pytest.approx(right / count), count)
    assert (told["paper"], told["expected"]) == (SETS[name].paper, SETS[name].expected)
    assert sum(hits for hits, _ in told["zero-shot"]["by class"].values()) == right
    assert json.loads(out.read_text()) == told and told["skipped"] == []


def test_average_precision_of_sounds_that_mix(run, stub, tiny_folder, folders):
    stub("audioset")
    found = scored(run, tiny_folder, "audioset", folders["audioset"])["zero-shot"]
    # Speech is found at once; of the dog's two sounds one is first, the other is no nearer than the two of other
    # things (2/4 of all that are left); the rain shares its place with a dog (1/2).
    assert found["score"] == pytest.approx((1 + (1 + 2 / 4) / 2 + 1 / 2) / 3)


def test_photos_are_found_by_depth_and_by_infrared(run, stub, tiny_folder, folders, tmp_path):
    for name, alike in (("sun-rgbd", 0), ("nyu-d", 1)):  # of NYU's two that look like a kitchen one finds the other's
        stub(name)
        told = scored(run, tiny_folder, name, folders[name], "--task", "retrieval")
        first, count = told["retrieval"]["to photo"]["R@1"], told["items"]
        assert (first["score"], first["chance"]) == (pytest.approx(1 - alike / count), pytest.approx(1 / count))
    for k, shown in enumerate((0, 2, 1)):  # of two the photos are swapped
        made.write_llvip(tmp_path, str(k), np.full((20, 20), 20 + 12 * k, np.uint8), [(2, 2, 8, 8)], shown)
    stub("llvip")
    told = scored(run, tiny_folder, "llvip", tmp_path, "--task", "retrieval")
    assert told["retrieval"]["to photo"]["R@1"]["score"] == pytest.approx(1 / 3) and told["items"] == 3


def test_few_shot_curves_of_sounds_and_of_depth(run, stub, tiny_folder, folders, tmp_path):
    for name, most, right in (("esc50", 4, 3 / 4), ("sun-rgbd", 2, 6 / 8)):
        stub(name)
        out, shots = tmp_path / f"{name}.json", f"1,{most}"
        words = ["--task", "few-shot", "--shots", shots, "--draws", 2, "--out", out]
        told = scored(run, tiny_folder, name, folders[name], *words)
        for rows in told["few-shot"].values():
            # The last fold of the sounds is learnt from the other four, which have no wrong label.
            found = [row["folds"]["5"] if name == "esc50" else row["score"] for row in rows.values()]
            assert list(rows) == ["1", str(most)] and found == pytest.approx([right, right])
        assert told["zero-shot"]["score"] == pytest.approx(np.divide(*RIGHT[name]))
        assert json.loads(out.read_text()) == told
        assert np.asarray(Image.open(out.with_suffix(".png")).convert("L")).std() > 10
    (tmp_path / "own.png").write_bytes(b"somebody's")
    words = ["--task", "few-shot", "--only", "5", "--shots", "4"]
    place = ["--data", folders["esc50"], "--out", tmp_path / "own.json"]
    code, _, stderr = run("eval", "paper", "--set", "esc50", *place, *words)
    assert code == 1 and "own.png: is there already" in stderr
    stub("esc50")
    told = scored(run, tiny_folder, "esc50", folders["esc50"], *words)
    assert told["items"] == 4 and told["examples"] == 16
    assert {head["4"]["score"] for head in told["few-shot"].values()} == {3 / 4}


def test_every_command_of_the_table_runs_on_the_toy_encoder(run, tiny_folder, folders):
    own = [shlex.split(command)[1:] for *_, command in lines()[: -len(OTHERS)]]
    assert len(own) == 13 and all(words[:2] == ["eval", "paper"] for words in own)
    for words in own:
        name = words[words.index("--set") + 1]
        quick = ["--template-set", "none", *(["--shots", 1, "--draws", 1] if "few-shot" in words else [])]
        code, table, stderr = run(*words, "--data", folders[name], "--model", tiny_folder, *quick)
        assert code == 0, stderr
        assert SETS[name].title in table and f"the paper's {SETS[name].expected:,}" in table
        assert "--task" in words or f"{100 * SETS[name].paper:.1f} %" in table


def test_what_cannot_be_read_is_listed_and_there_is_an_end_to_it(run, tiny_folder, folders, tmp_path):
    made.places(tmp_path, [(0, 0), (1, 1), (2, 2)], PLACES)
    (tmp_path / "val_256" / "Places365_val_00000002.jpg").write_bytes(b"no picture")
    words = ["eval", "paper", "--set", "places365", "--data", tmp_path, "--model", tiny_folder]
    code, stdout, stderr = run(*words, "--json")
    told = json.loads(stdout)
    assert code == 1 and told["items"] == 2 and stderr.count("skipped: ") == 1
    assert [one["input"] for one in told["skipped"]] == ["Places365_val_00000002.jpg"]
    code, stdout, stderr = run(*words, "--unreadable", 0)
    assert (code, stdout) == (1, "") and "more than 0 files" in stderr.splitlines()[-1]
    for file in (tmp_path / "val_256").iterdir():
        file.write_bytes(b"no picture")
    code, stdout, stderr = run(*words)
    assert (code, stdout) == (1, "") and "none of 3 files can be read" in stderr.splitlines()[-1]


def test_what_is_missing_is_told_in_a_line(run, tiny_folder, folders, tmp_path):
    made.places(tmp_path, [(0, 0), (1, 1)], PLACES)
    (tmp_path / "val_256" / "Places365_val_00000001.jpg").unlink()
    code, stdout, stderr = run("eval", "paper", "--set", "places365", "--data", tmp_path, "--model", tiny_folder)
    assert code == 0 and "1 items; the paper's 36,500" in stdout
    assert stderr == "bind2gen: note: places365: 1 of 2 photos are missing, the first is Places365_val_00000001.jpg\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "wanted --set NAME"),
        (["--set", "sunrgbd", "--data", "."], 2, "did you mean sun-rgbd?"),
        (["--set", "ego4d", "--data", ".", "--task", "few-shot"], 2, "ego4d has zero-shot"),
        (["--set", "ego4d", "--data", "missing"], 1, "wanted a folder with ego4d.json"),
        (["--set", "esc50", "--data", "HERE"], 1, "wanted audio/ and meta/esc50.csv; meta/esc50.csv is missing, found"),
        (["--set", "esc50", "--data", "SET", "--only", "6"], 1, "group 6: wanted one of 1, 2, 3, 4, 5"),
        (["--set", "esc50", "--data", "SET", "--depth-holes", "near"], 2, "--depth-holes: esc50 has no depth"),
        (["--set", "llvip", "--data", "HERE", "--reference-clips"], 2, "--reference-clips: llvip has no audio"),
        (["--set", "esc50", "--data", "SET", "--shots", "1,two"], 2, "--shots: wanted whole numbers"),
        (["--set", "esc50", "--data", "SET", "--task", "few-shot", "--shots", "16"], 1, "wanted 16 examples of dog"),
    ],
)
def test_bad_arguments_and_folders_are_one_line(words, code, says, run, tiny_folder, folders):
    known = {"HERE": folders["llvip"], "SET": folders["esc50"]}
    got, stdout, stderr = run("eval", "paper", "--model", tiny_folder, *(known.get(word, word) for word in words))
    assert (got, stdout, stderr.count("\n")) == (code, "", 1) and says in stderr


def test_the_list_names_a_command_for_every_set_of_the_papers_table(run):
    code, table, _ = run("eval", "paper", "--list")
    thirteen = ("ImageNet", "Places365", "Kinetics-400", "MSR-VTT", "NYU-v2", "SUN RGB-D", "AudioSet", "VGGSound",
                "ESC-50", "LLVIP", "Ego4D", "Clotho", "AudioCaps")  # fmt: skip
    assert code == 0 and all(any(row.startswith(name) for row in table.splitlines()) for name in thirteen)
    code, listed, _ = run("eval", "paper", "--list", "--json")
    assert [tuple(row.values()) for row in json.loads(listed)] == lines()


def test_the_command_lines_words_are_those_of_the_modules_that_it_does_not_import(run, tiny_folder, folders):
    assert zero_shot.TEMPLATE_SETS == TEMPLATE_SETS and tuple(READINGS) == IMU_READINGS
    told = scored(
        run, tiny_folder, "ego4d", folders["ego4d"], "--imu-reading", "five_seconds", "--template-set", "none"
    )
    assert (told["settings"]["sampling_rate"], told["templates"]) == (400, "none")
    told = scored(
        run, tiny_folder, "nyu-d", folders["nyu-d"], "--depth-holes", "near", "--limit", 2, "--template-set", "none"
    )
    assert (told["settings"]["holes"], told["items"], told["limit"]) == ("near", 2, 2)
    assert llvip.CLASSES["background"] == ("street", "road", "car", "light", "tree")
