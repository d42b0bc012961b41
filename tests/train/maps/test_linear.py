from __future__ import annotations

import pytest
import torch

from bind2gen.errors import NonFiniteError, ShapeError
from bind2gen.train.maps.linear import RIDGES, fit_linear_map, ridge_map


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_an_exact_linear_relation_is_found():
    source, true = draw(0, 200, 6), draw(1, 6, 6)
    assert torch.allclose(ridge_map(source, source @ true, 1e-9), true, atol=1e-4)


@pytest.mark.parametrize("rows", [50, 4])
def test_the_ridge_map_minimises_its_own_objective(rows):
    source, target, ridge = draw(0, rows, 6), draw(1, rows, 6), 0.3
    scale = (source.T @ source).diagonal().mean()

    def objective(w: torch.Tensor) -> float:
        return float((source @ w - target).square().sum() + ridge * scale * w.square().sum())

    best = ridge_map(source, target, ridge)
    assert all(objective(best) < objective(best + 0.01 * draw(seed, 6, 6)) for seed in range(2, 12))


def test_noise_is_met_with_a_stronger_ridge():
    true, groups = draw(1, 20, 20), torch.arange(60)
    source = draw(0, 60, 20)
    _, clean = fit_linear_map(source, source @ true, groups)
    _, noisy = fit_linear_map(source, draw(2, 60, 20), groups)
    assert clean == min(RIDGES) and noisy > clean


def test_unpaired_embeddings_are_refused():
    with pytest.raises(ShapeError, match="paired"):
        ridge_map(draw(0, 5, 4), draw(0, 6, 4), 0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_map_is_fitted_on_what_is_not_finite(value):
    source, target = draw(0, 60, 4), draw(1, 60, 4)
    source[3, 2] = value
    for pair in ((source, target), (target, source)):
        with pytest.raises(NonFiniteError, match="wanted finite embeddings, found NaN or infinity"):
            fit_linear_map(*pair, torch.arange(60))
