"""Scores of the paper's sets against answers that were worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError
from bind2gen.evaluate.paper.contract import Item, PublishedSet
from bind2gen.evaluate.paper.drawing import curve
from bind2gen.evaluate.paper.scoring import class_scores, few_shot, retrieval, zero_shot


def items(*labels: str, groups: str = "") -> list[Item]:
    return [Item(str(k), (label,), lambda: None, groups[k : k + 1]) for k, label in enumerate(labels)]


def angle(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], 1)


def test_of_several_names_of_a_class_the_nearest_counts():
    words = {"man": angle(0)[0], "people": 3 * angle(90)[0], "street": angle(180)[0]}
    scores = class_scores(2 * angle(0, 60, 150), [("man", "people"), ("street",)], words)
    cos = {degrees: np.cos(np.deg2rad(degrees)) for degrees in (30, 60, 120)}
    np.testing.assert_allclose(scores, [[1, -1], [cos[30], cos[120]], [cos[60], cos[30]]], atol=1e-6)


def test_accuracy_its_error_and_what_it_is_made_of():
    scores = np.eye(7)[[0, 1, 1, 2, 0, 6, 0, 0]] - np.arange(7) / 100  # after the first by the alphabet
    scores[7] = [6, 5, 4, 3, 2, 1, 0]  # of the eighth, "g", the right one comes last
    found = zero_shot(scores, list("abcdefg"), items("a", "b", "c", "c", "a", "g", "b", "g", groups="xxyyxyxy"),
                      "accuracy")  # fmt: skip
    assert found["score"] == 5 / 8 and found["error"] == pytest.approx((5 / 8 * 3 / 8 / 8) ** 0.5)
    assert found["chance"] == pytest.approx(1 / 7) and found["largest class"] == 1 / 4
    assert found["balanced"] == pytest.approx((2 / 2 + 1 / 2 + 1 / 2 + 1 / 2) / 4)
    assert found["groups"] == {"x": 3 / 4, "y": 2 / 4}
    assert found["by class"] == {"a": [2, 2], "b": [1, 2], "c": [1, 2], "g": [1, 2]}
    assert found["first five"] == 7 / 8
    with pytest.raises(InputError, match="label 'h': wanted one of the set's 7"):
        zero_shot(scores[:1], list("abcdefg"), items("h"), "accuracy")


def test_mean_average_precision_is_over_the_labels_that_are_heard():
    things = [Item("0", ("a", "b"), lambda: None), Item("1", ("b",), lambda: None), Item("2", ("a",), lambda: None)]
    scores = np.array([[0.9, 0.1, 0], [0.8, 0.5, 0], [0.1, 0.3, 0]])  # nothing is a "c"
    found = zero_shot(scores, ["a", "b", "c"], things, "mAP")
    # a: ranks 1 and 3 are right, (1/1 + 2/3) / 2; b: ranks 1 and 3 too.
    assert found["score"] == pytest.approx(5 / 6) and found["chance"] == pytest.approx(4 / 6) and found["classes"] == 2


def test_photos_are_found_both_ways_and_chance_is_told():
    photos = angle(*(10 * k for k in range(12)))
    given = angle(0, 10, 26, 104, *(10.0 * k for k in range(4, 12)))  # the third is nearer to the fourth photo
    found = retrieval(given, photos, [str(k) for k in range(12)])
    assert found["to photo"]["R@1"]["score"] == pytest.approx(10 / 12)  # all but the third and the fourth
    assert found["to photo"]["R@5"]["score"] == pytest.approx(11 / 12)  # the fourth finds its own as the ninth
    assert found["to photo"]["R@10"]["score"] == 1
    assert found["from photo"]["R@1"]["score"] == pytest.approx(11 / 12)  # of that at 30 the third is nearest
    assert [found["to photo"][f"R@{k}"]["chance"] for k in (1, 5, 10)] == pytest.approx([1 / 12, 5 / 12, 10 / 12])


def test_several_photos_may_be_right():
    found = retrieval(angle(0, 90, 0, 90), angle(80, 10, 100, 190), ["a", "b", "a", "b"])
    # a at 0: nearest is 10, a b; b at 90: nearest are 80 and 100, both a.
    assert found["to photo"]["R@1"]["score"] == 0
    assert found["to photo"]["R@1"]["chance"] == pytest.approx(2 / 4)
    found = retrieval(angle(0, 90, 0, 90), angle(10, 80, 100, 190), ["a", "b", "a", "b"])
    assert found["to photo"]["R@1"]["score"] == 1


def blobs(labels: str, groups: str, seed: int, spread: float = 0.02) -> tuple[list[Item], np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = np.stack([np.eye(4)["abcd".index(label)] for label in labels]) + rng.normal(0, spread, (len(labels), 4))
    return items(*labels, groups=groups), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_few_examples_are_drawn_from_other_folds_alone():
    # Fold 2 has the labels of a and b swapped: whoever learns from the tested fold would name half of it right.
    known, rows = blobs("aabbcc" * 2, "1" * 6 + "2" * 6, 0)
    swapped = {"a": "b", "b": "a", "c": "c"}
    known = known[:6] + [Item(i.name, (swapped[i.labels[0]],), i.load, i.group) for i in known[6:]]
    data = PublishedSet({label: (label,) for label in "abc"}, known, known, folds=True)
    steps: list[int] = []
    found = few_shot(data, rows, rows, shots=[1, 2], draws=3, step=lambda: steps.append(1))
    for head in ("prototype", "ridge", "logistic"):
        for k in ("1", "2"):
            assert found[head][k]["score"] == pytest.approx(1 / 3)  # c alone
            assert found[head][k]["folds"] == {"1": pytest.approx(1 / 3), "2": pytest.approx(1 / 3)}
            assert found[head][k]["deviation"] == pytest.approx(0)
    assert len(steps) == 2 * 2 * 3


def test_examples_of_a_training_part_are_as_many_as_asked_for_and_differ_from_draw_to_draw():
    known, rows = blobs("abcd" * 8, "", 1, spread=0.4)
    tested, seen = blobs("abcd" * 30, "", 2, spread=0.4)
    data = PublishedSet({label: (label,) for label in "abcd"}, tested, known)
    found = few_shot(data, seen, rows, shots=[1, 8], draws=6, step=lambda: None)
    for head in found.values():
        assert head["1"]["deviation"] > 0 and head["8"]["deviation"] == pytest.approx(0)  # 8 of 8 are always the same
        assert head["8"]["score"] > head["1"]["score"] > 0.4
        assert "folds" not in head["8"]
    with pytest.raises(InputError, match="wanted 9 examples of a to learn from, there are 8; give fewer --shots"):
        few_shot(data, seen, rows, shots=[9], draws=1, step=lambda: None)


def test_the_curve_shows_every_head_and_zero_shot_at_none():
    rows = {k: {"score": 0.1 * int(k), "deviation": 0.05} for k in ("1", "2", "4")}
    told = {"paper": 0.669, "zero-shot": {"score": 0.5, "chance": 0.02}, "few-shot": {"ridge": rows, "logistic": rows}}
    axes = curve(told, "x").axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert {"ridge", "logistic", "words alone, zero-shot", "paper, zero-shot, whole set", "chance"} == set(labels)
    star = next(line for line in axes.lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0, 50)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "4"]
