from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError, NonFiniteError, ShapeError
from bind2gen.space.arithmetic import blend, gap_shift, match_norm, normalize, slerp, subtract


def unit(seed: int, *shape: int) -> torch.Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def test_blend_is_the_papers_sum_of_halves():
    a, b = unit(0, 4, 16), unit(1, 4, 16)
    wanted = 0.5 * a + 0.5 * b
    assert torch.allclose(blend([3 * a, 7 * b]), wanted / wanted.norm(dim=-1, keepdim=True), atol=1e-6)


def test_a_weight_of_zero_removes_a_part_exactly():
    a, b = unit(0, 4, 16), unit(1, 4, 16)
    assert torch.equal(blend([a, b], [1, 0]), blend([a]))
    assert torch.equal(blend([a, b], [2, 0]), blend([a], [2]))


def test_subtracting_lowers_the_likeness():
    a, b = unit(0, 4, 16), unit(1, 4, 16)
    both = blend([a, b])
    assert ((subtract(both, b) * b).sum(-1) < (both * b).sum(-1)).all()


def test_slerp_moves_at_constant_angular_speed():
    a, b = unit(0, 1, 16), unit(1, 1, 16)
    points = [slerp(a, b, f) for f in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert torch.allclose(points[0], a, atol=1e-6) and torch.allclose(points[-1], b, atol=1e-6)
    angles = [float((p * q).sum().clamp(-1, 1).acos()) for p, q in zip(points, points[1:], strict=False)]
    assert max(angles) - min(angles) < 1e-3
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-6)


def test_gap_shift_moves_one_mean_onto_the_other():
    sounds = unit(0, 5000, 16) + 0.8 * unit(3, 1, 16)
    sounds, target = normalize(sounds), 0.5 * unit(4, 16)
    shifted = gap_shift(sounds, sounds.mean(0), target, 1.0)
    before = (sounds.mean(0) - target).norm()
    assert (shifted.mean(0) - target).norm() < 0.35 * before  # not exactly: rows are normalised again
    assert torch.allclose(gap_shift(sounds, sounds.mean(0), target, 0.0), sounds, atol=1e-6)


def test_match_norm_sets_the_length_and_keeps_the_direction():
    a = unit(0, 3, 16)
    long = match_norm(a * 5, 28.0)
    assert torch.allclose(long.norm(dim=-1), torch.full((3,), 28.0), rtol=1e-5)
    assert torch.allclose(normalize(long), a, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: blend([]), ShapeError, "at least one"),
        (lambda: blend([unit(0, 2, 4)], [1, 2]), ShapeError, "2 for 1"),
        (lambda: blend([unit(0, 2, 4), unit(0, 2, 5)]), ShapeError, "equal shapes"),
        (lambda: blend([unit(0, 2, 4)], [0]), InputError, "above zero"),
        (lambda: blend([unit(0, 2, 4), unit(1, 2, 4)], [-1, 0]), InputError, "above zero"),
        (lambda: blend([unit(0, 2, 4)], [float("inf")]), InputError, "finite"),
        (lambda: blend([unit(0, 2, 4)], ["1"]), InputError, "finite numbers"),
        (lambda: blend([unit(0, 2, 4), -unit(0, 2, 4)]), ShapeError, "cancel"),
        (lambda: normalize(torch.tensor([[float("nan"), 1.0]])), NonFiniteError, "NaN"),
        (lambda: normalize(torch.zeros(1, 3)), ShapeError, "no direction"),
        (lambda: slerp(unit(0, 1, 4), -unit(0, 1, 4), 0.5), ShapeError, "opposite"),
        (lambda: gap_shift(unit(0, 1, 4), torch.zeros(3), torch.zeros(4)), ShapeError, "width 4"),
    ],
)
def test_bad_arguments_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_arrays_give_what_tensors_give():
    a, b = unit(0, 4, 16), unit(1, 4, 16)
    for call in (
        lambda x, y: blend([x, y], [0.3, 0.7]),
        lambda x, y: slerp(x, y, 0.25),
        subtract,
        lambda x, y: gap_shift(x, y.mean(0), x.mean(0)),
        lambda x, y: match_norm(x[0], 3.0),
    ):
        assert torch.equal(call(a.numpy(), b.numpy()), call(a, b))
    frozen = a.numpy().copy()
    frozen.flags.writeable = False  # as np.load gives with mmap_mode="r"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(normalize(frozen[::-1]), normalize(a.flip(0)))
    assert torch.equal(normalize(np.array([[3, 4]])), torch.tensor([[0.6, 0.8]]))
    with pytest.raises(ShapeError, match="a tensor or an array .*, got list"):
        normalize([[1.0, 0.0]])
