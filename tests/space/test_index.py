"""Search among embeddings: exact, by sums, and varied."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bind2gen.errors import InputError, NonFiniteError, ShapeError
from bind2gen.space import arithmetic
from bind2gen.space.index import EmbeddingIndex

WIDTH = 32


@pytest.fixture
def gallery():
    """Three concepts of twenty items each, and between the first two things that are a little of everything."""
    noise = torch.Generator().manual_seed(3)
    concepts = F.normalize(torch.randn(3, WIDTH, generator=noise), dim=1)
    items = [c + 0.08 * torch.randn(20, WIDTH, generator=noise) for c in concepts]
    between = concepts[:2].sum(0) + 0.08 * torch.randn(20, WIDTH, generator=noise)
    return concepts, torch.cat([*items, between])


def test_finds_the_nearest_by_cosine_whatever_the_lengths(gallery):
    _, items = gallery
    query = items[[4, 33]] * torch.tensor([[0.2], [9.0]])
    hits = EmbeddingIndex(3 * items).search(query, 7)
    expected = (F.normalize(query, dim=1) @ F.normalize(items, dim=1).T).topk(7)
    assert torch.equal(hits.places, expected.indices)
    assert torch.allclose(hits.scores, expected.values, atol=1e-6)
    assert hits.places[:, 0].tolist() == [4, 33]


def test_a_query_leaves_itself_out_and_small_galleries_give_what_they_hold(gallery):
    _, items = gallery
    index = EmbeddingIndex(items[:4])
    hits = index.search(items[[1, 2]], 9, leave_out=torch.tensor([1, -1]))
    assert hits.places.shape == (2, 3) and 1 not in hits.places[0] and hits.places[1, 0] == 2
    varied = index.search(items[[1, 2]], 9, leave_out=torch.tensor([1, -1]), diversity=0.5)
    assert sorted(varied.places[0].tolist()) == [0, 2, 3]


def test_items_are_added_and_removed_as_if_the_gallery_had_been_made_so(gallery):
    concepts, items = gallery
    for whiten in (False, True, items[10:50]):
        index = EmbeddingIndex(items[:30], whiten=whiten)
        assert index.add(items[30:].numpy()).tolist() == list(range(30, 80))
        index.remove([0, 79, 5])
        wanted = EmbeddingIndex(torch.cat([items[1:5], items[6:79]]), whiten=whiten)
        found, expected = (one.search(concepts, 5) for one in (index, wanted))
        assert torch.equal(found.places, expected.places) and torch.allclose(found.scores, expected.scores, atol=1e-6)
    with pytest.raises(ShapeError, match=rf"\(N, {WIDTH}\), got \(2, 3\)"):
        index.add(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="M >= 1"):
        index.remove(range(len(index)))


def test_a_query_leaves_several_out(gallery):
    _, items = gallery
    hits = EmbeddingIndex(items[:6]).search(items[[1, 2]], 9, leave_out=torch.tensor([[1, 3], [2, -1]]))
    assert hits.places.shape == (2, 4) and not {1, 3} & set(hits.places[0].tolist()) and 2 not in hits.places[1]


def test_a_sum_is_the_blend_of_its_parts(gallery):
    concepts, items = gallery
    index = EmbeddingIndex(items)
    parts = [concepts[:1], concepts[2:]]
    assert torch.equal(
        index.search(parts, weights=[0.8, 0.2]).places, index.search(arithmetic.blend(parts, [0.8, 0.2])).places
    )


def test_diversity_finds_both_things_of_a_sum_where_the_nearest_are_all_in_between(gallery):
    concepts, items = gallery
    index = EmbeddingIndex(items)
    parts = [concepts[:1], concepts[1:2]]

    def kinds(**options):
        return set((index.search(parts, 5, **options).places[0] // 20).tolist())

    assert kinds() == {3}
    assert kinds(diversity=0.6) >= {0, 1}


def test_diversity_of_one_takes_what_is_least_alike_after_the_nearest():
    items = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.05], [0.0, 1.0]]), dim=1)
    assert EmbeddingIndex(items).search(items[:1], 3, diversity=1.0).places.tolist() == [[0, 2, 3]]


def test_whitening_evens_out_what_all_items_share():
    noise = torch.Generator().manual_seed(0)
    items = torch.randn(4000, 8, generator=noise) * torch.tensor([4.0, 1, 1, 1, 1, 1, 1, 1]) + torch.tensor([9.0] * 8)
    index = EmbeddingIndex(items, whiten=True)
    covariance = torch.cov(index.items.T)
    assert covariance.diag().max() < 1.5 * covariance.diag().min()
    assert index.items.mean(0).abs().max() < 0.05
    assert EmbeddingIndex(items).items.mean(0).min() > 0.2
    assert torch.equal(index.search(items[:50], 1).places[:, 0], torch.arange(50))


def test_bad_arguments_are_named(gallery):
    _, items = gallery
    index = EmbeddingIndex(items)
    with pytest.raises(ShapeError, match=r"\(M, D\)"):
        EmbeddingIndex(items[0])
    with pytest.raises(ShapeError, match="M >= 1"):
        EmbeddingIndex(items[:0])
    with pytest.raises(NonFiniteError):
        EmbeddingIndex(items * float("nan"))
    with pytest.raises(ShapeError, match=rf"\({WIDTH},\), got \(1, 3\)"):
        index.search(torch.ones(1, 3))
    with pytest.raises(ShapeError, match="one place a query"):
        index.search(items[:2], leave_out=torch.tensor([0]))
    with pytest.raises(InputError, match="count"):
        index.search(items[:1], 0)
    with pytest.raises(InputError, match=r"diversity: wanted 0..1, got 1.5"):
        index.search(items[:1], diversity=1.5)


@pytest.mark.parametrize("options", [{}, {"diversity": 0.4}, {"leave_out": 3}])
def test_arrays_and_single_queries_find_what_tensors_in_batches_find(gallery, options):
    concepts, items = gallery
    wanted = EmbeddingIndex(items, whiten=True).search([items[3:4], concepts[:1]], 4, **options)
    index = EmbeddingIndex(items.numpy(), whiten=True)
    batch = index.search([items[3:4].numpy(), concepts[:1].numpy()], 4, **options)
    single = index.search([items[3], concepts[0].numpy()], 4, **options)
    assert torch.equal(batch.places, wanted.places) and torch.equal(batch.scores, wanted.scores)
    assert single.places.shape == (4,) and torch.equal(single.places, wanted.places[0])
    assert torch.allclose(single.scores, wanted.scores[0], atol=1e-6)
    assert index.search(items[5].numpy(), 1).places.tolist() == [5]
