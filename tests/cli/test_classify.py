"""``classify``, ``fit-classifier`` and ``matrix``: they tell what the library computes; bad words are one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from bind2gen.space.zero_shot import ZeroShotClassifier, pair_scale

RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Low and high tones, each of three recordings cut in two."""
    folder = tmp_path_factory.mktemp("tones")
    for label, hertz in (("low", 200), ("high", 3000)):
        for source in range(3):
            (folder / label / f"take{source}").mkdir(parents=True)
            for piece in range(2):
                time = np.arange(RATE) / RATE + piece
                wave = 0.3 * np.sin(2 * np.pi * hertz * (1 + 0.05 * source) * time)
                soundfile.write(folder / label / f"take{source}" / f"{source}-{piece}.wav", wave, RATE)
    return folder


def told(done: tuple[int, str, str]) -> dict:
    code, stdout, stderr = done
    assert (code, stderr) == (0, ""), stderr
    return json.loads(stdout)


def test_probabilities_are_those_of_the_library(run, media, tiny_pipeline):
    words = ["--audio", media / "low.wav", media / "high.wav", "--image", media / "noise.png"]
    found = told(run("classify", *words, "--labels", "a,b", "c", "--template-set", "none", "--json"))
    assert [item["input"] for item in found["items"]] == ["low.wav", "high.wav", "noise.png"]
    embeds = tiny_pipeline.embed(
        audio=[str(media / "low.wav"), str(media / "high.wav")], image=str(media / "noise.png")
    )
    for modality, at in (("audio", slice(0, 2)), ("image", slice(2, 3))):
        options = {"modality": modality, "templates": "none"}
        made = ZeroShotClassifier.from_model(tiny_pipeline.imagebind, tiny_pipeline.processor, list("abc"), **options)
        wanted = made(embeds[modality])
        for item, shares, known in zip(found["items"][at], wanted.probabilities, wanted.known, strict=True):
            assert list(item["probabilities"]) == ["a", "b", "c"]
            assert np.abs(np.array(list(item["probabilities"].values())) - shares.numpy()).max() < 1e-3
            assert item["any"] == pytest.approx(float(known), abs=1e-3)
            assert "agreement" not in item  # of one wording


def test_a_threshold_decides_what_is_none_of_these(run, media):
    words = ["classify", "--audio", media / "low.wav", "--labels", "a", "b", "--json", "--threshold"]
    [none] = told(run(*words, "1"))["items"]
    [some] = told(run(*words, "0"))["items"]
    assert none["label"] is None and some["label"] == max(some["probabilities"], key=some["probabilities"].get)
    assert 0 < none["any"] < 1 and 0 < none["agreement"] <= 1 and none["nearest_other_word"]


def test_labels_that_mix_do_not_sum_to_one(run, media):
    words = ["--labels", "a", "b", "c", "--multi", "--threshold", "0", "--json"]
    [item] = told(run("classify", "--audio", media / "low.wav", *words))["items"]
    assert item["labels"] == ["a", "b", "c"]
    assert item["any"] == pytest.approx(max(item["probabilities"].values()))
    assert abs(sum(item["probabilities"].values()) - 1) > 1e-3


def test_sounds_as_labels(run, media, tiny_pipeline):
    labels = ["--label-audio", f"deep={media / 'low.wav'}", f"shrill={media / 'high.wav'}"]
    found = told(run("classify", "--audio", media / "low.wav", media / "mid.wav", *labels, "--json"))["items"]
    rows = tiny_pipeline.embed(audio=[str(media / f"{name}.wav") for name in ("low", "high", "mid")])["audio"]
    logits = pair_scale(tiny_pipeline.imagebind, "audio", "audio") * rows[[0, 2]] @ rows[:2].T
    for item, shares in zip(found, logits.softmax(1).tolist(), strict=True):
        assert list(item["probabilities"].values()) == pytest.approx(shares, abs=1e-3)
        assert item["any"] is None
    assert found[0]["label"] == "deep"


def test_labels_of_several_kinds_are_moved_over_the_gap(run, media, tiny_pipeline):
    labels = ["--label-audio", f"tone={media / 'mid.wav'}", "--label-image", f"noise={media / 'noise.png'}"]
    [item] = told(run("classify", "--audio", media / "low.wav", *labels, "--json"))["items"]
    rows = tiny_pipeline.embed(audio=[str(media / "low.wav"), str(media / "mid.wav")], image=str(media / "noise.png"))
    sounds = tiny_pipeline.adapter.shift("audio", rows["audio"])
    scale = pair_scale(tiny_pipeline.imagebind, "audio", "audio")
    logits = scale * (sounds[0] @ sounds[1]), scale * (sounds[0] @ rows["image"][0])
    assert item["probabilities"]["tone"] == pytest.approx(float(1 / (1 + (logits[1] - logits[0]).exp())), abs=1e-3)
    assert not np.allclose(rows["audio"][0], sounds[0], atol=1e-3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "wanted labels: give --labels, --label-audio or --classifier"),
        (["--labels", "a", "--classifier", "x"], 2, "--classifier has labels of its own"),
        (["--label-audio", "dog"], 2, "--label-audio: wanted NAME=FILE, got 'dog'"),
        (["--label-audio", "dog=LOW"], 2, "at least two labels"),
        (["--label-audio", "dog=LOW", "cat=LOW", "--multi"], 2, "--multi: wanted labels as words alone"),
        (["--label-audio", "dog=LOW", "cat=LOW", "--template-set", "none"], 2, "--template-set: only with"),
        (["--label-audio", "dog=LOW", "cat=missing.wav"], 1, "missing.wav: no such file"),
        (["--labels-file", "missing.txt"], 1, "missing.txt: wanted a list of names"),
        (["--classifier", "missing"], 1, "--classifier missing: wanted a folder that bind2gen fit-classifier wrote"),
        (["--labels", "a", "b", "--template-set", "clip"], 2, "invalid choice"),
    ],
)
def test_bad_labels_are_one_line(words, code, message, run, media):
    words = [word.replace("LOW", str(media / "low.wav")) for word in words]
    got, stdout, stderr = run("classify", "--audio", media / "low.wav", *words)
    assert (got, stdout) == (code, "") and message in stderr and stderr.count("\n") == 1


def test_fitted_on_folders_a_classifier_names_new_sounds(run, tones, media, tmp_path):
    out = tmp_path / "heads"
    fitted = told(run("fit-classifier", tones, "--out", out, "--json"))
    assert fitted["counts"] == {"high": 6, "low": 6} and fitted["groups"] == {"high": 3, "low": 3}
    assert fitted["folds"] == 3 and set(fitted["heads"]) == {"prototype", "ridge", "logistic"}
    assert fitted["zero_shot"] is not None and (out / "README.md").is_file()
    items = told(run("classify", "--audio", media / "low.wav", "--classifier", out, "--json"))["items"]
    assert items[0]["label"] == "low" and items[0]["any"] == max(items[0]["probabilities"].values())
    code, _, stderr = run("classify", "--image", media / "noise.png", "--classifier", out)
    assert code == 1 and "was fitted on audio, got --image" in stderr
    code, _, stderr = run("classify", "--audio", media / "low.wav", "--classifier", out, "--model", "mini")
    assert code == 1 and "width 32, these have 256" in stderr


def test_sources_by_name_and_by_a_csv(run, tones, tmp_path):
    by_name = told(run("fit-classifier", tones, "--group-by", r"^(\d)-", "--out", tmp_path / "a", "--json"))
    assert by_name["groups"] == {"high": 3, "low": 3}
    rows = [f"{path.relative_to(tones)},{path.parts[-3]},one" for path in sorted(tones.rglob("*.wav"))]
    table = tones.parent / "table.csv"
    table.write_text("\n".join(["path,label,group", *(f"{tones.name}/{row}" for row in rows)]))
    by_csv = told(run("fit-classifier", table, "--as", "audio", "--out", tmp_path / "b", "--json"))
    assert by_csv["counts"] == {"high": 6, "low": 6} and by_csv["groups"] == {"high": 1, "low": 1}
    assert by_csv["folds"] == 0 and by_csv["kept"] == "prototype"


def test_what_cannot_be_read_is_left_out_and_listed(run, tones, tmp_path):
    broken = tones / "low" / "broken.wav"
    broken.write_bytes(b"RIFF nothing")
    try:
        code, stdout, stderr = run("fit-classifier", tones, "--out", tmp_path / "x", "--json")
    finally:
        broken.unlink()
    assert code == 1 and json.loads(stdout)["counts"]["low"] == 6
    assert [one["input"] for one in json.loads(stdout)["skipped"]] == [str(broken)]
    assert "1 of 13 inputs could not be read" in stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing"], 1, "there is none"),
        (["EMPTY"], 1, "found no known files; say which by --as"),
        (["EMPTY", "--as", "audio"], 1, "wanted audio files"),
        (["TONES", "--group-by", "("], 2, "wanted a regular expression"),
        (["TONES", "--group-by", "z"], 1, "--group-by 'z' is not in its name"),
        (["CSV"], 1, "label is missing"),
    ],
)
def test_bad_examples_are_one_line(words, code, message, run, tones, tmp_path):
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "x.csv").write_text("path,name\na.wav,b\n")
    places = {"EMPTY": tmp_path / "empty", "TONES": tones, "CSV": tmp_path / "x.csv"}
    got, stdout, stderr = run("fit-classifier", *(places.get(word, word) for word in words), "--out", tmp_path / "out")
    assert (got, stdout) == (code, "") and message in stderr and stderr.count("\n") == 1


def test_the_matrix_holds_cosines_and_is_a_picture(run, media, tiny_pipeline, tmp_path):
    inputs = ["--audio", media / "low.wav", media / "high.wav", "--text", "a", "--image", media / "noise.png"]
    found = told(run("matrix", *inputs, "--out", tmp_path / "x.png", "--json"))
    rows = tiny_pipeline.embed(
        audio=[str(media / "low.wav"), str(media / "high.wav")], image=str(media / "noise.png"), text="a"
    )
    rows = np.concatenate([rows[name].numpy() for name in ("audio", "image", "text")])
    assert found["modalities"] == ["audio", "audio", "image", "text"]
    assert np.abs(np.array(found["values"]) - rows @ rows.T).max() < 1e-3
    picture = Image.open(tmp_path / "x.png")
    assert min(picture.size) > 300 and len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_shares_are_of_each_other_kind_alone(run, media, tmp_path):
    inputs = ["--audio", media / "low.wav", media / "high.wav", "--text", "a", "b", "c"]
    values = np.array(told(run("matrix", *inputs, "--shares", "--out", tmp_path / "x.png", "--json"))["values"], float)
    assert np.isnan(values[:2, :2]).all() and np.isnan(values[2:, 2:]).all()
    assert np.abs(values[:2, 2:].sum(1) - 1).max() < 1e-3 and np.abs(values[2:, :2].sum(1) - 1).max() < 1e-3


def test_files_are_told_by_their_content(run, media, tmp_path):
    files = [media / "noise.png", media / "low.wav", "example:dog"]
    found = told(run("matrix", *files, "--text", "a", "--out", tmp_path / "x.png", "--json"))
    assert found["modalities"] == ["audio", "audio", "image", "text"]
    assert found["inputs"][1:] == ["example:dog", "noise.png", "a"]
    (tmp_path / "table.csv").write_text("time,x\n0,1\n")
    code, _, stderr = run("matrix", tmp_path / "table.csv", "--text", "a", "--out", tmp_path / "y.png")
    assert code == 2 and "table.csv: wanted a sound, a picture or a film" in stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--text", "a"], "wanted 2 to 200 inputs, got 1"), (["--text", "a", "b", "--shares"], "wanted two kinds")],
)
def test_too_little_for_a_matrix_is_one_line(words, message, run, tmp_path):
    code, stdout, stderr = run("matrix", *words, "--out", tmp_path / "x.png")
    assert (code, stdout) == (2, "") and message in stderr and stderr.count("\n") == 1


def test_choices_are_named_alike_where_there_is_no_torch():
    from bind2gen.cli import classify, fit_classifier
    from bind2gen.space import zero_shot
    from bind2gen.train import few_shot

    assert classify.TEMPLATE_SETS == zero_shot.TEMPLATE_SETS
    assert tuple(few_shot.HEADS) == fit_classifier.HEADS
