"""Proposals, cascade, suppression and masks: each step against its definition or another implementation."""

from __future__ import annotations

import math

import detic_cases as cases
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms, roi_align

from bind2gen.errors import TooLargeError
from bind2gen.hosts.boxes.detic.cascade import apply_deltas, pool_regions
from bind2gen.hosts.boxes.detic.masks import paste_masks
from bind2gen.hosts.boxes.detic.proposals import LevelOutput, ProposalGenerator
from bind2gen.hosts.boxes.detic.suppression import suppress


def level(heat: float | torch.Tensor, distances: list[float], stride: int, size: tuple[int, int]) -> LevelOutput:
    heatmap = torch.full((1, 1, *size), heat) if isinstance(heat, float) else heat
    return LevelOutput(heatmap, torch.tensor(distances)[None, :, None, None].expand(1, 4, *size), stride)


def test_a_proposal_spans_its_distances_around_the_middle_of_its_cell():
    heat = torch.full((1, 1, 2, 3), -20.0)
    heat[0, 0, 1, 2] = 0.0  # probability one half
    decoded = ProposalGenerator(cases.TOYS["basic"]).decode([level(heat, [1.0, 2.0, 0.5, 0.25], 8, (2, 3))])[0]
    x, y = 2 * 8 + 4, 1 * 8 + 4
    assert decoded.boxes.tolist() == [[x - 8, y - 16, x + 4, y + 2]]  # beyond the upper edge: proposals are not cut
    assert decoded.scores.tolist() == pytest.approx([math.sqrt(0.5)])


def test_a_proposal_without_extent_gets_a_hundredth_of_a_pixel():
    heat = torch.full((1, 1, 1, 1), 1.0)
    boxes = ProposalGenerator(cases.TOYS["basic"]).decode([level(heat, [0.0] * 4, 8, (1, 1))])[0].boxes
    assert boxes.tolist()[0] == pytest.approx([4, 4, 4.01, 4.01])


def test_proposals_that_score_like_the_last_one_stay():
    distances = [0.4, 0.4, 0.4, 0.4]  # boxes that do not touch
    few = ProposalGenerator(cases.TOYS["basic"])
    limit = few.config.proposals
    assert len(few.decode([level(1.0, distances, 8, (20, 20))])[0].boxes) == 400 > limit
    heat = torch.linspace(-1, 1, 400).reshape(1, 1, 20, 20)
    assert len(few.decode([level(heat, distances, 8, (20, 20))])[0].boxes) == limit


def test_nothing_above_the_least_probability_is_no_proposal_and_no_detection(detector):
    head = detector.model.proposal_generator
    assert len(head.decode([level(-20.0, [1.0] * 4, 8, (4, 4))])[0].boxes) == 0
    boxes, regions = detector.model.roi_heads.refine(
        tuple(torch.zeros(1, 32, s, s) for s in (16, 8, 4)), [torch.zeros(0, 4)], [(128, 128)]
    )
    assert boxes[0].shape == (0, 4) and regions[0].shape == (3, 0, 24)


def test_a_stage_lets_a_box_grow_at_most_sixty_two_and_a_half_times():
    box = torch.tensor([[0.0, 0.0, 2.0, 4.0]])
    moved = apply_deltas(torch.tensor([[0.0, 0.0, 1e4, 0.0]]), box, 10.0)
    assert (moved[0, 2] - moved[0, 0]).item() == pytest.approx(2 * 62.5)
    assert (moved[0, 3] - moved[0, 1]).item() == pytest.approx(4)


def test_regions_are_read_off_the_level_of_their_size_in_the_order_of_the_boxes():
    pyramid = tuple(torch.full((1, 1, 512 // s, 512 // s), float(s)) for s in (8, 16, 32))
    # 224 pixels and more are p4's, twice that is p5's, anything below 224 is p3's; empty boxes give zeros.
    boxes = [(10, 10, 458, 458), (10, 10, 200, 200), (5, 5, 5, 90), (100, 100, 350, 350), (9, 9, 20, 20)]
    pooled = pool_regions(pyramid, [torch.tensor(boxes, dtype=torch.float32)], 7)
    assert pooled.amax((1, 2, 3)).tolist() == [32, 8, 0, 16, 8]
    assert pooled[2].abs().max() == 0


def test_regions_of_a_batch_come_from_their_own_picture():
    maps = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
    box = torch.tensor([[8.0, 8.0, 60.0, 60.0]])
    pooled = pool_regions((maps, maps, maps), [box, box], 7)
    assert pooled.mean((1, 2, 3)).tolist() == [0, 1]
    gradients = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
    came = pool_regions((gradients,) * 3, [box], 7)
    torch.testing.assert_close(came, roi_align(gradients, [box], 7, 1 / 8, sampling_ratio=0, aligned=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 7), st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_equals_nms_class_by_class(seed, count, classes, iou):
    draw = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 4, generator=draw) * torch.tensor([50.0, 50.0, 40.0, 40.0])
    boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:].floor()], 1)  # some of them empty
    # Whole sizes make overlaps of exactly the limit, which torchvision rounds otherwise.
    assume(not ((box_iou(boxes, boxes) - iou).abs() < 1e-5).any())
    scores = torch.rand(count, classes, generator=draw)
    thresholds = torch.rand(classes, generator=draw) * 0.6
    stays = suppress(boxes, scores, thresholds, iou)
    for c in range(classes):
        rows = (scores[:, c] > thresholds[c]).nonzero()[:, 0]
        wanted = rows[nms(boxes[rows], scores[rows, c], iou)]
        assert stays[:, c].nonzero()[:, 0].tolist() == sorted(wanted.tolist())


def test_suppression_is_exact_where_shifted_coordinates_round():
    """An overlap of exactly one half stays; moved by 600 classes' offsets in float32 it would not be exact."""
    boxes = torch.tensor([[0.1, 0.1, 1333.1, 10.1], [0.1, 0.1, 666.6, 10.1]])
    overlap = float(torch.ops.torchvision.nms(boxes, torch.tensor([2.0, 1.0]), 0.5).numel())
    scores = torch.zeros(2, 1200)
    scores[:, 1100] = torch.tensor([0.9, 0.8])
    assert suppress(boxes, scores, torch.full((1200,), 0.5), 0.5)[:, 1100].sum() == overlap


def test_masks_equal_grid_sampling_over_the_whole_picture():
    draw = torch.Generator().manual_seed(0)
    masks = torch.rand(6, 28, 28, generator=draw)
    boxes = torch.tensor(
        [
            [0, 0, 60, 40],
            [10.3, 5.7, 30.2, 39.9],
            [-0.0, 12, 3.4, 13.1],
            [55.5, 1, 60, 40],
            [2, 2, 58, 4],
            [20, 8, 21, 9],
        ]
    )
    pasted = paste_masks(masks, boxes, (60, 40))
    x, y = torch.arange(60) + 0.5, torch.arange(40) + 0.5
    for mask, (x0, y0, x1, y1), came in zip(masks, boxes.tolist(), pasted, strict=True):
        gx, gy = (x - x0) / (x1 - x0) * 2 - 1, (y - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(gx, gy, indexing="xy"), -1)[None]
        wanted = F.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
        clear = ((wanted - 0.5).abs() > 1e-4).numpy()
        assert np.array_equal(came[clear], (wanted >= 0.5).numpy()[clear])
        outside = (x < x0 - 1) | (x > x1 + 1)
        assert not came[:, outside.numpy()].any()


def test_masks_of_gigabytes_are_refused():
    with pytest.raises(TooLargeError, match="masks=False"):
        paste_masks(torch.zeros(300, 28, 28), torch.zeros(300, 4), (8000, 6000))
