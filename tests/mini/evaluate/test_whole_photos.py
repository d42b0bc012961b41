"""Scores on whole photos against values worked out by hand."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.hosts.boxes.detections import Detections
from bind2gen.mini.evaluate.whole_photos import PhotoScores, heard, load_photos, photo_scores
from bind2gen.mini.recipe import JUDGED
from bind2gen.pipelines.class_vectors import ClassPrompts

sys.path.insert(0, str(Path(__file__).parent))
from mini_folder import write_table  # noqa: E402

DOG, CAT, BIRD = (JUDGED.index(name) for name in ("dog", "cat", "bird"))
WORDS = ClassPrompts(torch.eye(len(JUDGED)), JUDGED, "words")


def stored(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Shades tell the photos apart; the second has its boxes. By their names four are held out, and one is not."""
    boxes = json.dumps([["dog", 0, 0, 10, 10], ["dog", 20, 0, 30, 10], ["horse", 0, 0, 5, 5]]).replace('"', '""')
    rows = {
        "a25.png": ('dog,0,"[]"', stored(10)),
        "a40.png": (f'dog,1,"{boxes}"', stored(20)),
        "a27.png": (',0,"[]"', stored(30)),
        "a43.png": ('rooster,0,"[]"', stored(40)),
        "a.png": ('dog,0,"[]"', stored(50)),
    }
    write_table(tmp_path, "photos", "path,concept,boxed,boxes", rows)
    return tmp_path


class Fixed:
    """Answers by the shade of the picture."""

    answers = {
        10: [((0, 0, 9, 9), 0.9, DOG), ((0, 0, 9, 9), 0.6, CAT)],
        20: [((0, 0, 10, 9), 0.8, DOG), ((20, 20, 30, 30), 0.7, DOG), ((0, 0, 10, 10), 0.3, CAT)],
        30: [((0, 0, 9, 9), 0.5, DOG), ((1, 1, 9, 9), 0.4, DOG)],
        40: [((0, 0, 9, 9), 0.95, BIRD), ((0, 0, 9, 9), 0.2, CAT)],
    }

    def encode_image(self, image):
        return image.getpixel((0, 0))[0]

    def detect(self, encoded, class_embeds, *, labels, threshold, masks):
        boxes, scores, prompts = zip(*self.answers[encoded], strict=True)
        found = Detections(np.array(boxes), np.array(scores), np.array(prompts), labels, (40, 30))
        return found.above(threshold)


def test_photos_are_scored_by_what_they_show(folder):
    photos = load_photos(folder)
    scores = photo_scores(Fixed(), photos, {"text": [WORDS] * len(photos)})["text"]
    assert scores.present == pytest.approx([0.9, 0.8])
    assert sorted(scores.absent)[-4:] == pytest.approx([0.2, 0.3, 0.5, 0.6])
    assert len(scores.absent) == 2 * 16 + 17 + 16  # of a rooster it is not asked whether it is a bird
    assert scores.wrong == pytest.approx([0.6, 0.3, 0.5, 0.2])
    told = scores.at(0.45)
    assert (told["photos"], told["found"], told["photos_with_a_wrong_box"]) == (4, 1.0, 0.5)
    assert told["false_alarms"] == pytest.approx(2 / 65)
    assert (told["boxes_on_boxed_photos"], told["of_these_right"]) == (2, 1)
    assert scores.at(0.1)["boxes_on_boxed_photos"] == 3


def test_a_threshold_keeps_its_share_of_photos():
    scores = PhotoScores(np.array([0.5, 0.2]), np.array([0.2, 0.1]), np.array([0.6, 0.3, 0.5, 0.2]), (0, 0))
    assert scores.threshold_for(0.5) == 0.5 and (scores.wrong > scores.threshold_for(0.25)).mean() <= 0.25
    assert scores.auroc() == pytest.approx((2 + 1.5) / 4)  # a tie counts half


def test_halves_share_no_photo_and_limits_hold(folder, tmp_path_factory):
    halves = [{photo.file for photo in load_photos(folder, half=half)} for half in (0, 1)]
    assert not halves[0] & halves[1] and halves[0] | halves[1] == {photo.file for photo in load_photos(folder)}
    assert [photo.concept for photo in load_photos(folder, limit=1)] == ["dog", "", "rooster"]
    assert load_photos(tmp_path_factory.mktemp("none")) == []


def test_every_photo_hears_a_sound_of_each_concept():
    concepts = np.repeat(JUDGED, 3)
    embeds = torch.arange(len(concepts)).float()[:, None]
    nothing = tuple(i % 3 == 0 for i in range(len(concepts)))
    told = heard(ClassPrompts(embeds, tuple(concepts), "words", nothing=nothing), concepts, 20)
    rows = torch.stack([prompts.embeds[:, 0] for prompts in told]).int().numpy()
    assert (concepts[rows] == np.array(JUDGED)).all() and len(np.unique(rows, axis=0)) > 10
    assert told[0].nothing == tuple(nothing[row] for row in rows[0])
