"""Detections: checks, choosing, and the way to other forms and back."""

from __future__ import annotations

import builtins
import dataclasses
import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bind2gen.errors import DependencyError, InputError, NonFiniteError, ShapeError
from bind2gen.hosts.boxes.detections import Detections, Proposals
from bind2gen.hosts.boxes.run_lengths import from_rle, to_rle

LABELS, SIZE = ("dog", "bell", "dog"), (12, 8)
PYCOCOTOOLS_DISC = (
    "Sl1?X26J6L2M4M2M4M2N2N2N2O0O2N2O0O2N2O000O2O000O2O0000000000000000000000000001N10001N10001N2N101N2N101N2N2N2N3L3"
    "N3L3N4J6Jb_3"
)


def some(masks: bool = False) -> Detections:
    boxes = [[0, 0, 4, 4], [2, 1, 12, 8], [5, 5, 6, 7], [1, 2, 3, 4]]
    drawn = np.random.default_rng(0).random((4, 8, 12)) > 0.4 if masks else None
    return Detections(boxes, [0.5, 0.9, 0.25, 0.9], [0, 1, 2, 1], LABELS, SIZE, drawn)


def nothing(masks: bool = False) -> Detections:
    return Detections.empty(LABELS, SIZE, masks=masks)


@pytest.fixture(scope="session")
def supervision():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that OpenCV is missing
        return pytest.importorskip("supervision", minversion="0.30")


def test_what_was_understood_goes_along():
    words = ({"hound": 0.75, "cat": 0.25}, {"clock": 1.0}, {})
    found = dataclasses.replace(some(), understood=words)
    for part in (found.above(0.4), found.of("bell"), found.sorted(), found.top(1), found[1:], found[[0]], found[2]):
        assert part.understood == words
    assert Detections.from_dict(json.loads(json.dumps(found.to_dict()))) == found != some()
    assert some().understood is None and "understood" not in some().to_dict()
    for wrong in (words[:2], dict(words[0]), "dog"):
        with pytest.raises(InputError, match="Detections.understood: wanted 3"):
            dataclasses.replace(found, understood=wrong)


# ---- checks ----


def test_values_are_brought_to_their_dtypes():
    found = Detections([[0, 0, 1, 1]], torch.tensor([1]), np.int32([0]), ["a"], [2, 1], np.ones((1, 1, 2), np.uint8))
    assert (found.xyxy.dtype, found.scores.dtype, found.prompts.dtype) == (np.float32, np.float32, np.int64)
    assert found.labels == ("a",) and found.image_size == (2, 1) and found.masks.dtype == bool


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"xyxy": np.zeros(4)}, ShapeError, "(N, 4), got shape (4,)"),
        ({"xyxy": [[0, 0, np.nan, 1]]}, NonFiniteError, "xyxy"),
        ({"xyxy": [[5, 5, 2, 2]]}, InputError, "left, top, width, height"),
        ({"scores": [0.5, 0.5]}, ShapeError, "wanted 1"),
        ({"scores": [np.inf]}, NonFiniteError, "scores"),
        ({"scores": [7]}, InputError, "0..1, got 7..7"),
        ({"prompts": [1]}, InputError, "0..0, got 1..1"),
        ({"prompts": [0.5]}, ShapeError, "whole numbers"),
        ({"labels": "a"}, InputError, "tuple of names"),
        ({"labels": None}, InputError, "tuple of names"),
        ({"image_size": (0, 5)}, InputError, "above zero"),
        ({"image_size": 5}, InputError, "got 5"),
        ({"image_size": (True, True)}, InputError, "whole pixels"),
        ({"masks": np.zeros((1, 6, 5), bool)}, ShapeError, "(1, 5, 6), got (1, 6, 5)"),
        ({"masks": np.full((1, 5, 6), 0.5)}, ShapeError, "bool"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, says):
    fields = {"xyxy": [[0, 0, 1, 1]], "scores": [0.5], "prompts": [0], "labels": ("a",), "image_size": (6, 5)}
    Detections(**fields)
    with pytest.raises(error) as caught:
        Detections(**fields | change)
    assert says in str(caught.value)


def test_proposals_are_checked_as_well():
    assert len(Proposals(np.zeros((0, 4)), [])) == 0
    with pytest.raises(ShapeError, match="Proposals.scores"):
        Proposals([[0, 0, 1, 1]], [])


# ---- choosing ----


def test_above_takes_one_threshold_or_one_a_prompt():
    assert some().above(0.5).scores.tolist() == pytest.approx([0.9, 0.9])  # more than, not as much as
    assert some().above(torch.tensor([0.4, 0.95, 0.0])).prompts.tolist() == [0, 2]
    with pytest.raises(ShapeError, match=r"3 \(one a prompt\)"):
        some().above([0.1, 0.2])
    with pytest.raises(NonFiniteError):
        some().above(float("nan"))
    with pytest.raises(InputError, match="got 'high'"):
        some().above("high")


def test_of_takes_a_number_or_a_label():
    assert some().of(1).xyxy.tolist() == [[2, 1, 12, 8], [1, 2, 3, 4]]
    assert some().of("dog").prompts.tolist() == [0, 2]
    with pytest.raises(InputError, match="among dog, bell, dog, got 'cat'"):
        some().of("cat")


def test_sorted_is_best_first_and_stable_and_top_cuts_it():
    assert some().sorted().xyxy[:, 0].tolist() == [2, 1, 0, 5]
    assert some().top(3) == some().sorted()[:3]
    assert some().top(1, per_prompt=True).xyxy[:, 0].tolist() == [2, 0, 5]


def test_parts_keep_masks_labels_and_size():
    whole = some(masks=True)
    part = whole[np.array([False, True, False, True])]
    assert part == whole[[1, 3]] and np.array_equal(part.masks, whole.masks[[1, 3]])
    assert part.names == ("bell", "bell") and part.image_size == SIZE
    assert [len(one) for one in whole] == [1, 1, 1, 1] and whole[-1] == whole[3:]
    assert whole != some() and whole[:2] != whole[2:]


@pytest.mark.parametrize("masks", [False, True])
def test_nothing_found_works_everywhere(masks):
    none = nothing(masks)
    for same in (none.above(0.5), none.of(0), none.sorted(), none.top(3), none.top(3, per_prompt=True), none[[]]):
        assert same == none
    assert Detections.from_dict(none.to_dict()) == none and none.to_coco() == [] and none.names == ()
    assert Detections.from_coco([], labels=LABELS, image_size=SIZE) == nothing()
    assert len(Detections.empty((), SIZE).top(1, per_prompt=True)) == 0


# ---- forms ----


def test_dicts_that_do_not_fit_are_refused():
    values = some().to_dict()
    assert Detections.from_dict(values | {"masks": None}) == some()
    for bad, error, says in (
        ({"boxes": [[1, 2, 3]]}, InputError, "four numbers each"),
        ({"scores": ["x"]}, InputError, "scores: wanted numbers"),
        ({"labels": [0.7, 1, 2, 1]}, ShapeError, "whole numbers"),
        ({"image_size": None}, InputError, "got None"),
    ):
        with pytest.raises(error, match=says):
            Detections.from_dict(values | bad)


@pytest.mark.parametrize("masks", [False, True])
def test_dicts_survive_json(masks):
    values = json.loads(json.dumps(some(masks).to_dict()))
    assert Detections.from_dict(values) == some(masks)
    assert values["labels"] == [0, 1, 2, 1] and values["text_labels"] == ["dog", "bell", "dog", "bell"]
    with pytest.raises(InputError, match="image_size missing"):
        Detections.from_dict({k: v for k, v in values.items() if k != "image_size"})


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("categories", [None, [7, 3, 90]])
def test_coco_there_and_back(categories, compressed):
    written = some(masks=True).to_coco(image_id=5, category_ids=categories, first_id=10, compressed=compressed)
    written = json.loads(json.dumps(written))
    assert written[1]["bbox"] == [2, 1, 10, 7] and written[1]["category_id"] == (3 if categories else 2)
    assert [a["id"] for a in written] == [10, 11, 12, 13] and {a["image_id"] for a in written} == {5}
    assert written[0]["area"] == some(masks=True).masks[0].sum()
    back = Detections.from_coco(written, labels=LABELS, image_size=SIZE, category_ids=categories)
    assert back == some(masks=True)


def test_ground_truth_without_scores_gets_one():
    back = Detections.from_coco([{"bbox": [1, 2, 3, 4], "category_id": 2}], labels=LABELS, image_size=SIZE)
    assert back.scores.tolist() == [1] and back.xyxy.tolist() == [[1, 2, 4, 6]] and back.names == ("bell",)


def test_annotations_that_do_not_fit_are_refused():
    good = {"bbox": [1, 2, 3, 4], "category_id": 1, "image_id": 1}
    read = {"labels": LABELS, "image_size": SIZE}
    for bad, says in (
        ({"category_id": 9}, r"categories \[9\]"),
        ({"bbox": [1, 2, 3]}, r"four numbers each, got \[1, 2, 3\]"),
        ({"score": "high"}, "scores: wanted numbers"),
        ({"segmentation": {"size": [8, 12], "counts": None}}, "got NoneType"),
        ({"segmentation": [[0, 0, 1, 1, 0, 1]]}, "polygons"),
        ({"segmentation": {"size": [8, 12], "counts": [95]}}, "95 pixels"),
        ({"segmentation": {"size": [12, 8], "counts": [96]}}, r"size \[12, 8\]"),
    ):
        with pytest.raises(InputError, match=says):
            Detections.from_coco([good | bad], **read)
    with pytest.raises(InputError, match="bbox, category_id missing"):
        Detections.from_coco([{}], **read)
    with pytest.raises(InputError, match="tuple of names"):
        Detections.from_coco([], labels="ab", image_size=SIZE)
    with pytest.raises(InputError, match="several image_id"):
        Detections.from_coco([good, good | {"image_id": 2}], **read)
    with pytest.raises(InputError, match="3 different"):
        some().to_coco(category_ids=[1, 1, 2])


def test_run_lengths_go_down_the_columns_and_start_with_none():
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    assert to_rle(mask) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert to_rle(~mask) == {"size": [2, 3], "counts": [0, 2, 3, 1]}


def test_compressed_run_lengths_are_those_of_pycocotools():
    """Made with pycocotools 2.0.11: mask.encode(np.asfortranarray(mask))."""
    yy, xx = np.mgrid[:90, :120]
    assert to_rle((yy - 40) ** 2 + (xx - 50) ** 2 < 900, compressed=True)["counts"] == PYCOCOTOOLS_DISC
    assert to_rle(np.ones((40, 50), bool), compressed=True)["counts"] == "0`n1"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99), st.booleans())
def test_any_mask_survives_run_lengths(height, width, share, seed, compressed):
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = to_rle(mask, compressed=compressed)
    assert isinstance(rle["counts"], str if compressed else list)
    assert np.array_equal(from_rle(rle, (width, height)), mask)


@pytest.mark.parametrize("masks", [False, True])
def test_supervision_there_and_back(supervision, masks):
    theirs = some(masks).to_supervision(track_ids=[4, 5, 6, 7])
    assert theirs.class_id.tolist() == [0, 1, 2, 1] and theirs.tracker_id.tolist() == [4, 5, 6, 7]
    assert theirs.data["class_name"].tolist() == list(some().names)
    assert Detections.from_supervision(theirs, image_size=SIZE, labels=LABELS) == some(masks)
    assert Detections.from_supervision(theirs, image_size=SIZE) == some(masks)
    assert Detections.from_supervision(theirs[theirs.class_id == 1], image_size=SIZE).labels == ("0", "bell")


def test_supervisions_merged_findings_keep_their_names(supervision):
    dogs, bells = (Detections([[x, 0, x + 2, 2]], [0.5], [0], (name,), SIZE) for x, name in ((0, "dog"), (4, "bell")))
    cars = Detections([[8, 0, 9, 2]], [0.5], [1], ("dog", "car"), SIZE)
    merged = supervision.Detections.merge([found.to_supervision() for found in (dogs, bells, cars, dogs)])
    back = Detections.from_supervision(merged, image_size=SIZE)
    assert back.names == ("dog", "bell", "car", "dog") and back.labels == ("dog", "car", "bell")
    assert back.of("bell").xyxy.tolist() == [[4, 0, 6, 2]]


def test_supervision_takes_nothing_found(supervision):
    back = Detections.from_supervision(nothing().to_supervision(), image_size=SIZE, labels=LABELS)
    assert back == nothing()
    with_masks = Detections.from_supervision(nothing(True).to_supervision(), image_size=SIZE, labels=LABELS)
    assert with_masks == nothing(True)
    assert len(Detections.from_supervision(supervision.Detections.empty(), image_size=SIZE)) == 0


def test_supervision_without_classes_or_scores_is_prompt_0_with_score_1(supervision):
    plain = supervision.Detections(xyxy=np.float32([[0, 0, 1, 1]]))
    found = Detections.from_supervision(plain, image_size=SIZE)
    assert found.scores.tolist() == [1] and found.names == ("0",)


def test_without_supervision_the_error_names_the_command(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "supervision":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r'pip install "bind2gen\[detection\]"'):
        some().to_supervision()
