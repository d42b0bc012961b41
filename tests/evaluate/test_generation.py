"""Scores of generated pictures against formulas written out: cosines, ranks, distances; and weights by path."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from bind2gen.errors import CheckpointError, InputError, ShapeError
from bind2gen.evaluate import generation
from bind2gen.evaluate.generation import distances, likeness


def test_likeness_by_hand():
    given = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, 3]])
    made = torch.tensor([[1.0, 1, 0], [0, 1, 0], [1, 0, 0]])  # the third one is of the first
    half = 0.5**0.5
    similar = np.array([[half, 0, 1], [half, 1, 0], [0, 0, 0]])
    found = likeness(given, made)
    own = similar.diagonal()
    assert found.cosine == pytest.approx(own.mean())
    assert found.error == pytest.approx(own.std(ddof=1) / 3**0.5)
    wanted = [(own[i] - others.mean()) / max(others.std(), 1e-12)
              for i in range(3) for others in [np.delete(similar[i], i)]]  # fmt: skip
    assert found.standardised == pytest.approx(np.mean(wanted))
    assert (found.first, found.median_rank) == (2 / 3, 1.0)  # row 0: rank 2; rows 1 and 2: nothing is nearer


def test_likeness_of_few_and_of_what_does_not_go_together():
    assert likeness(torch.ones(2, 3), torch.ones(2, 3)).standardised is None
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(3, 3\)"):
        likeness(torch.ones(2, 3), torch.ones(3, 3))


def test_distances_are_those_of_the_formulas():
    torch.manual_seed(0)
    made, real = torch.randn(40, 5) @ torch.randn(5, 5), torch.randn(60, 5) + 0.5
    found = distances(made, real)
    a, b = made.double().numpy(), real.double().numpy()
    covariances = np.cov(a.T), np.cov(b.T)
    frechet = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real
    )
    assert found.frechet == pytest.approx(frechet, rel=1e-6)
    same = distances(made, made)
    assert abs(same.frechet) < 1e-6
    # All of both sets in every subset: the unbiased estimate with the cubic kernel, and no deviation.
    even = distances(made, real[:40])

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / 5 + 1) ** 3

    b = b[:40]
    inner = [(k.sum() - np.trace(k)) / (40 * 39) for k in (kernel(a, a), kernel(b, b))]
    assert even.kernel == pytest.approx(sum(inner) - 2 * kernel(a, b).mean(), rel=1e-6)
    assert even.kernel_deviation == pytest.approx(0, abs=1e-9)


def test_distances_do_not_depend_on_the_seed_nor_change_it():
    made, real = torch.randn(30, 4), torch.randn(50, 4)
    torch.manual_seed(1)
    first = distances(made, real)
    after = torch.rand(1)
    torch.manual_seed(2)
    assert distances(made, real) == first
    torch.manual_seed(1)
    assert torch.rand(1) == after
    with pytest.raises(InputError, match="2 pictures of each set or more, got 1 and 50"):
        distances(made[:1], real)


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """Of torch-fidelity's network, drawn at random, with its names."""
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Random(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        network = Random("made", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


def test_inception_takes_its_weights_from_a_file(inception_weights):
    features = generation.inception(inception_weights)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    rows = features([Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())])
    assert rows.shape == (2, 2048) and bool(rows.isfinite().all()) and not torch.equal(rows[0], rows[1])


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_weights_that_are_programs_or_of_another_network_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Evil()}, "evil.pth")
    torch.save({"x": torch.ones(2)}, "other.pth")
    with pytest.raises(CheckpointError, match="evil.pth: wanted weights"):
        generation.inception(tmp_path / "evil.pth")
    assert not (tmp_path / "made-by-a-pickle").exists()
    with pytest.raises(CheckpointError, match="other.pth: wanted torch-fidelity's InceptionV3"):
        generation.inception(tmp_path / "other.pth")
