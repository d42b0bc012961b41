from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.mini.evaluate.verdicts import Verdicts, auroc, nearest_class, nearest_item, rank_one_chance

CLASSES = ("sea", "cow", "dog")


def test_perfect_embeddings_score_all_and_each_concept_fully():
    wanted = np.array(["dog", "sea", "cow", "dog"])
    embeds = torch.eye(3)[[CLASSES.index(name) for name in wanted]]
    answers = nearest_class(embeds, torch.eye(3), wanted, CLASSES)
    assert answers.accuracy() == 1 and answers.mean_over_concepts() == 1
    assert np.array_equal(answers.confusion(), np.eye(3))
    answers = nearest_item(embeds, embeds, wanted, wanted, CLASSES)
    assert answers.accuracy() == 1


def test_the_mean_over_concepts_does_not_follow_the_largest_one():
    """Nine of ten are cows, and all is called a cow: 90 % right, half of the concepts."""
    answers = Verdicts(np.array(["cow"] * 9 + ["sea"]), np.array(["cow"] * 10), CLASSES)
    assert answers.accuracy() == pytest.approx(0.9)
    assert answers.by_concept() == {"sea": 0.0, "cow": 1.0}  # dogs were not asked for
    assert answers.mean_over_concepts() == 0.5


def test_the_confusion_matrix_has_what_was_wanted_in_rows():
    answers = Verdicts(np.array(["sea", "sea", "cow", "cow"]), np.array(["dog", "sea", "cow", "cow"]), CLASSES)
    assert answers.confusion().tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0]]


def test_retrieval_answers_with_the_concept_of_the_nearest_item():
    gallery = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=1)
    concepts = np.array(["sea", "cow", "dog"])
    queries = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [0.2, 1.0], [1.0, 0.9]]), dim=1)
    answers = nearest_item(queries, gallery, np.array(["sea", "sea", "dog"]), concepts, CLASSES)
    assert answers.found.tolist() == ["sea", "cow", "dog"]
    assert answers.accuracy() == pytest.approx(2 / 3)


def test_chance_at_rank_one_is_what_random_answers_score():
    concepts = np.array(["sea"] * 6 + ["cow"] * 3 + ["dog"])
    wanted = np.array(["sea", "sea", "cow", "dog"])
    picked = np.random.default_rng(0).choice(concepts, (20_000, 4))
    assert rank_one_chance(wanted, concepts) == pytest.approx((picked == wanted).mean(), abs=0.01)


def test_auroc_counts_pairs_and_halves_ties():
    higher, lower = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in higher for b in lower]
    assert auroc(higher, lower) == pytest.approx(sum(pairs) / 6)
    assert auroc(lower, higher) == pytest.approx(1 - sum(pairs) / 6)
