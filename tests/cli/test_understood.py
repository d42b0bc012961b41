"""What ``generate`` says of its inputs: the nearest words, before anchors, and a warning where none is near."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from bind2gen import EmbeddingAdapter
from bind2gen.cli.loading import ModelChoice
from bind2gen.cli.understood import tell, understand
from bind2gen.errors import Bind2GenWarning
from bind2gen.files.bundled import DETECTOR_PART
from bind2gen.pipelines.calibration import Calibration
from bind2gen.pipelines.detection import CLASSES_FILE, NOTHING_FILE, OTHERS_FILE, SOUNDS_FILE, WORDS_FILE
from bind2gen.space.arithmetic import normalize
from bind2gen.space.everyday import NAMES_FILE
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.studio.understood import briefly, doubt

WORDS = ("bee", "cab", "dad")
WIDTH = 32


@pytest.fixture
def vectors() -> torch.Tensor:
    return normalize(torch.randn(12, WIDTH, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def choice(tmp_path, vectors) -> ModelChoice:
    """A model that knows three words, and what silence is."""
    part = tmp_path / DETECTOR_PART
    part.mkdir()
    Vocabulary(WORDS, vectors[:3]).save(part / WORDS_FILE)
    Vocabulary(WORDS, torch.eye(3)).save(part / CLASSES_FILE)  # the detector's space is another one
    Calibration(known_prompt=0.64).save(part)
    Vocabulary(("silence",), vectors[3:4]).save(part / NOTHING_FILE)
    return ModelChoice("toy", str(tmp_path), None, whole=True)


@pytest.fixture
def pipe(tiny_pipeline, vectors) -> SimpleNamespace:
    """Its adapter draws every sound to the second word."""
    means = {"image": vectors[4] / 2, "audio": vectors[5] / 2, "text": vectors[6] / 2}
    anchors = (vectors[1:2], vectors[1:2])
    adapter = EmbeddingAdapter.from_means(means, maps={"audio": torch.eye(WIDTH)}, anchors=anchors)
    return SimpleNamespace(imagebind=tiny_pipeline.imagebind, processor=tiny_pipeline.processor, adapter=adapter)


def test_words_are_those_nearest_before_the_anchors(pipe, choice, vectors):
    means = pipe.adapter.means
    directions = normalize(vectors[:3] - means[pipe.adapter.known.index("text")] + means[0]) - means[0]
    sounds = normalize(torch.stack([directions[2], directions[0], -directions.sum(0)]) + vectors[5] / 2)
    sounds = torch.cat([sounds, vectors[3:4]])
    assert len(set(map(tuple, pipe.adapter({"audio": sounds}).round(decimals=3).tolist()))) == 1  # all are one anchor
    found = understand(pipe, choice, {"audio": sounds, "text": vectors[1:2], "image": vectors[:1],
                                      "imu": vectors[:1]})  # fmt: skip
    assert set(found) == {"audio", "text", "image"}  # words say nothing of motion
    assert found["image"][0]["known"] is None
    assert [item["word"] for item in found["audio"]][:2] == ["dad", "bee"]
    assert [item["known"] for item in found["audio"]] == [True, True, False, False]
    moved = pipe.adapter.shift("audio", sounds[:3]) - means[0]
    likeness = (normalize(moved) @ normalize(directions).T).amax(1)
    assert [item["likeness"] for item in found["audio"]][:3] == pytest.approx(likeness.tolist(), abs=1e-3)
    silence = {"name": "silence", "word": "silence", "likeness": 1.0, "known": False, "doubt": "unknown"}
    assert found["audio"][3] == silence | {"drawn": None}  # the anchors have no names
    assert found["text"] == [{"name": "cab", "word": "cab", "likeness": 1.0, "known": True, "drawn": None, "doubt": ""}]


def test_a_sound_that_is_more_like_others_than_like_what_is_known_by_sound_is_unknown(pipe, choice, vectors):
    part = Path(choice.source) / DETECTOR_PART
    Vocabulary(("bee", "cab"), vectors[:2]).save(part / SOUNDS_FILE)
    Vocabulary(("rain",), vectors[8:9]).save(part / OTHERS_FILE)
    Calibration(known_prompt=-1.0, known_sound=0.5).save(part)
    sounds = normalize(torch.stack([vectors[0], vectors[8], vectors[1] + 0.5 * vectors[8], vectors[3]]))
    found = understand(pipe, choice, {"audio": sounds, "text": vectors[2:3]})
    assert [item["known"] for item in found["audio"]] == [True, False, True, False]  # the last is silence
    assert found["text"][0]["known"] is True  # of texts likeness says it alone
    Calibration(known_prompt=1.01, known_sound=0.5).save(part)
    assert not any(item["known"] for item in understand(pipe, choice, {"audio": sounds})["audio"])  # both must


def test_what_is_not_drawn_or_not_surely_is_doubted_and_kinds_of_the_anchors_are_known(pipe, choice, vectors):
    """The detector knows bee, cab and dad; what is drawn is cab, or eel, whose name lies beside the encoder."""
    choice.encoder.mkdir()
    Vocabulary(("eel", "cab"), torch.stack([vectors[7], vectors[1]])).save(choice.encoder / NAMES_FILE)
    anchors = torch.stack([vectors[1], vectors[7]])
    moved = pipe.adapter.shift("text", anchors)
    pipe.adapter = EmbeddingAdapter.from_means(
        dict(zip(pipe.adapter.known, pipe.adapter.means, strict=True)), anchors=(moved, moved), near_anchors=["text"],
        anchor_names=["cab", "eel"],
    )  # fmt: skip
    texts = torch.stack([vectors[1], vectors[7], vectors[0], -vectors[:3].sum(0) - vectors[7]])
    cab, eel, bee, other = understand(pipe, choice, {"text": normalize(texts)})["text"]
    assert (cab["word"], cab["drawn"], cab["doubt"]) == ("cab", "cab", "")
    assert (eel["word"], eel["drawn"], eel["known"], eel["doubt"]) == ("eel", "eel", True, "")
    assert (bee["word"], bee["known"], bee["doubt"]) == ("bee", True, "not drawn")
    assert (other["known"], other["doubt"]) == (False, "unknown")
    pipe.adapter.register_to_config(anchor_names=["eel", "cab"])  # so that words and anchors are at odds
    assert understand(pipe, choice, {"text": vectors[1:2]})["text"][0]["doubt"] == "not sure"
    assert [briefly(item) for item in (cab, bee, other)] == [
        "cab", "bee, not among what I draw", "none of the things I know"
    ]  # fmt: skip
    assert doubt(bee).endswith(
        f"which is not among the things that this model draws; the nearest of them is {bee['drawn']}"
    )


def test_names_beside_the_encoder_say_what_it_is_and_words_what_comes_of_it(pipe, choice, vectors, capsys):
    (choice.encoder).mkdir()
    Vocabulary(("eel", "cab"), torch.stack([vectors[7], vectors[1]])).save(choice.encoder / NAMES_FILE)
    near_eel = normalize(3 * vectors[7] + vectors[1])[None]
    for embeds, name, said in ((near_eel, "eel", r"eel \(cab 0\.\d\d\)"), (vectors[1:2], "cab", r"cab 1\.00")):
        (item,) = understand(pipe, choice, {"text": embeds})["text"]
        assert (item["name"], item["word"]) == (name, "cab")
        tell({"image": [item | {"doubt": ""}]}, {"image": ["a.png"]}, model="toy", quiet=False)
        assert re.fullmatch(f"seen: {said}\n", capsys.readouterr().err)
    Calibration().save(Path(choice.source) / DETECTOR_PART)  # where nothing was measured nothing is doubted
    assert understand(pipe, choice, {"text": near_eel})["text"][0]["known"] is None


def test_nothing_is_said_where_no_words_are_known(pipe, choice, vectors, tmp_path):
    other = ModelChoice("toy + huge", choice.source, "imagebind_huge.pth", whole=True)
    assert understand(pipe, other, {"audio": vectors}) == {}
    assert understand(pipe, ModelChoice("bare", str(tmp_path / "no"), None, whole=True), {"audio": vectors}) == {}


def test_it_is_said_in_one_line_each_and_doubts_are_warnings(capsys):
    dog = {"name": "dog", "word": "dog", "likeness": 0.912, "known": True, "drawn": "dog", "doubt": ""}
    car = {"name": "car", "word": "car", "likeness": 0.3, "known": False, "drawn": "car", "doubt": "unknown"}
    seen = car | {"known": None, "doubt": ""}  # of pictures nobody measured what is near enough
    tell({"audio": [dog]}, {"audio": ["a.wav"]}, model="toy", quiet=False)
    assert capsys.readouterr().err == "heard: dog 0.91\n"
    with pytest.warns(Bind2GenWarning, match=r"b\.wav: heard: car 0\.30, which is like none .* toy draws") as told:
        tell({"audio": [dog, car], "image": [seen]}, {"audio": ["a.wav", "b.wav"], "image": ["c.png"]}, model="toy",
             quiet=False)  # fmt: skip
    assert capsys.readouterr().err == "a.wav: heard: dog 0.91\nc.png: seen: car 0.30\n" and len(told) == 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tell({"audio": [dog], "text": [car]}, {"audio": ["a.wav"], "text": ["a unicorn"]}, model="toy", quiet=True)
    assert capsys.readouterr().err == ""
    assert [str(warning.message).split(",")[0] for warning in caught] == ['"a unicorn": read: car 0.30']


def test_pictures_and_json_carry_what_was_understood(run, tiny_folder, tiny_pipeline, media, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    (folder / DETECTOR_PART).mkdir()
    embeds = tiny_pipeline.embed(text=list(WORDS))["text"]
    Vocabulary(WORDS, embeds).save(folder / DETECTOR_PART / WORDS_FILE)
    Vocabulary(WORDS, torch.eye(3)).save(folder / DETECTOR_PART / CLASSES_FILE)
    Calibration(known_prompt=0.64).save(folder / DETECTOR_PART)
    out = tmp_path / "a.png"
    words = ["generate", "--text", "cab", "--steps", 2, "--model", folder, "--out", out]
    code, stdout, stderr = run(*words)
    assert (code, stdout) == (0, f"{out}\n") and "read: cab 1.00\n" in stderr
    assert json.loads(Image.open(out).text["understood"])["text"]["word"] == "cab"
    code, stdout, stderr = run(*words, "--json", "--quiet")
    assert (code, stderr) == (0, "")
    assert json.loads(stdout)["pictures"][0]["understood"]["text"]["known"] is True
