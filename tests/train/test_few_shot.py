"""Heads on made-up clusters: what they find, what folds by source keep apart, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError, ShapeError
from bind2gen.space.arithmetic import normalize
from bind2gen.space.classifier import EmbeddingClassifier
from bind2gen.train.few_shot import HEADS, fit_classifier, write_classifier

WIDTH = 16


def clusters(labels: int, each: int, *, spread: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    """(labels * each, D) around as many orthogonal directions."""
    torch.manual_seed(seed)
    rows = torch.eye(WIDTH)[:labels].repeat_interleave(each, 0) + spread * torch.randn(labels * each, WIDTH) / 4
    return rows, [f"label {k}" for k in range(labels) for _ in range(each)]


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_names_what_it_has_not_seen(head, count):
    rows, labels = clusters(count, 6)
    made, report = fit_classifier(rows, labels, modality="audio", head=head)
    new, wanted = clusters(count, 20, seed=1)
    assert made(new).first == tuple(wanted)
    assert report.kept == made.config.head == head and report.folds == 5
    assert report.heads[head].accuracy == 1.0 and report.heads[head].log_loss < 0.1


def test_the_linear_layer_decides_as_scikit_learns_own_classifiers():
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neighbors import NearestCentroid

    rows, labels = clusters(4, 5, spread=2.0)
    new = normalize(clusters(4, 50, spread=2.0, seed=1)[0]).numpy()
    options = {"class_weight": "balanced"}
    own = {
        "prototype": NearestCentroid(), "ridge": RidgeClassifier(alpha=1.0, **options),
        "logistic": LogisticRegression(C=10.0, max_iter=2000, **options),
    }  # fmt: skip
    for head, estimator in own.items():
        wanted = estimator.fit(normalize(rows).numpy(), labels).predict(new)
        found = fit_classifier(rows, labels, modality="audio", head=head)[0](new).probabilities.argmax(1)
        assert np.mean(wanted == np.array([f"label {k}" for k in found])) > 0.99, head  # of equals float32 may differ


def test_probabilities_are_calibrated_on_what_was_left_out():
    """Labels that are wrong for a third: nobody can be surer than that, and the classifier is not."""
    rows, labels = clusters(2, 150, spread=0.1)
    swapped = np.random.default_rng(0).random(len(labels)) < 1 / 3
    noisy = [f"label {1 - int(one[-1])}" if swap else one for one, swap in zip(labels, swapped, strict=True)]
    made, report = fit_classifier(rows, noisy, modality="audio", head="prototype")
    assert report.heads["prototype"].accuracy == pytest.approx(2 / 3, abs=0.06)
    assert made(rows).probabilities.max(1).values.mean() == pytest.approx(2 / 3, abs=0.08)


def test_pieces_of_one_recording_are_never_on_both_sides():
    """Labels that say nothing, in pieces that are all but equal: only folds that leak find anything."""
    torch.manual_seed(0)
    recordings = torch.randn(12, WIDTH)
    rows = recordings.repeat_interleave(5, 0) + 0.01 * torch.randn(60, WIDTH)
    labels = [f"label {k % 2}" for k in range(12) for _ in range(5)]
    groups = [f"recording {k}" for k in range(12) for _ in range(5)]
    leaking = fit_classifier(rows, labels, modality="audio")[1]
    apart = fit_classifier(rows, labels, modality="audio", groups=groups)[1]
    assert leaking.heads["logistic"].accuracy > 0.95
    assert apart.heads["logistic"].accuracy < 0.8
    assert apart.groups == {"label 0": 6, "label 1": 6} and apart.folds == 5


def test_one_source_of_a_label_leaves_nothing_to_judge_by():
    rows, labels = clusters(3, 2)
    made, report = fit_classifier(rows, labels, modality="audio", groups=labels, scale=7.0)
    assert (report.folds, report.heads, report.kept) == (0, {}, "prototype")
    assert made.config.scale == 7.0 and made.config.threshold == 0.0
    assert "nothing could be left out" in report.table()


def test_the_threshold_keeps_all_but_a_twentieth_of_the_right_answers():
    rows, labels = clusters(4, 50, spread=1.0)
    made, report = fit_classifier(rows, labels, modality="audio", head="logistic")
    assert made.config.threshold == report.heads["logistic"].threshold > 0.3
    nothing = made(torch.ones(1, WIDTH))  # as far from all of them
    assert nothing.first == (None,)
    kept = [one is not None for one in made(clusters(4, 50, spread=1.0, seed=1)[0]).first]
    assert 0.85 < np.mean(kept) <= 1.0


def test_the_labels_as_words_are_scored_beside():
    rows, labels = clusters(3, 4, spread=0.1)
    words = {f"label {k}": torch.eye(WIDTH)[(k + (k == 2)) % 3] for k in range(3)}  # the third one says the first
    report = fit_classifier(rows, labels, modality="audio", words=words)[1]
    assert report.zero_shot == pytest.approx(2 / 3)
    assert "no examples | 66.7%" in report.table()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"] * 6}, "at least two labels, got a"),
        ({"labels": ["a", "b"]}, "2 labels"),
        ({"groups": ["g"]}, "1 groups"),
        ({"head": "svm"}, "prototype, ridge, logistic, got 'svm'"),
        ({"folds": 1}, "2 or more"),
        ({"embeds": torch.full((6, WIDTH), torch.nan)}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    rows, labels = clusters(2, 3)
    with pytest.raises((InputError, ShapeError), match=message):
        fit_classifier(**{"embeds": rows, "labels": labels, "modality": "audio"} | change)


def test_the_folder_holds_classifier_figures_and_card(tmp_path):
    rows, labels = clusters(2, 6)
    made, report = fit_classifier(rows, labels, modality="audio")
    files = write_classifier(tmp_path / "new", made, report, encoder="mini")
    assert {path.name for path in files} == {
        "README.md", "config.json", "diffusion_pytorch_model.safetensors", "metrics.json",
    }  # fmt: skip
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert metrics["counts"] == {"label 0": 6, "label 1": 6} and metrics["heads"]["ridge"]["accuracy"] == 1.0
    assert "- label 1: 6 examples, 6 sources" in (tmp_path / "new" / "README.md").read_text()
    assert EmbeddingClassifier.from_pretrained(tmp_path / "new")(rows).first == tuple(labels)
