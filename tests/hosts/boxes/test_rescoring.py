"""Rescoring with an encoder that can be reckoned by hand: the mean colour of a cut-out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bind2gen.errors import EmptyInputError, HostError, InputError, NonFiniteError, ShapeError
from bind2gen.hosts.boxes.detections import Proposals
from bind2gen.hosts.boxes.rescoring import RescoringDetector, RescoringSettings, crop_box
from bind2gen.hosts.boxes.selection import select
from bind2gen.hosts.boxes.windows import GridProposer

RED, GREEN, BLUE = torch.eye(3)
RED_BOX, GREEN_BOX = [10, 10, 30, 30], [60, 20, 90, 50]
EXACT = RescoringSettings(margin=0, square=False)


def scene() -> Image.Image:
    """A red and a green rectangle on blue."""
    image = Image.new("RGB", (100, 60), (0, 0, 255))
    image.paste((255, 0, 0), tuple(RED_BOX))
    image.paste((0, 255, 0), tuple(GREEN_BOX))
    return image


class Fixed:
    """A proposer that always says the same, and counts."""

    def __init__(self, boxes: list[list[float]], scores: list[float] | None = None) -> None:
        self.found = Proposals(np.array(boxes).reshape(-1, 4), np.ones(len(boxes)) if scores is None else scores)
        self.asked = 0

    def encode_image(self, image: Image.Image) -> None:
        self.asked += 1

    def propose(self, encoded: None, *, max_proposals: int = 256) -> Proposals:
        return Proposals(self.found.xyxy[:max_proposals], self.found.scores[:max_proposals])


class MeanColour:
    """Crops -> their mean colour (N, 3), times 5; keeps the sizes of the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, crops: list[Image.Image]) -> torch.Tensor:
        self.batches.append(len(crops))
        return torch.tensor(np.array([np.asarray(c, np.float32).mean((0, 1)) for c in crops])) * 5


def rescoring(boxes=(RED_BOX, GREEN_BOX, [0, 0, 100, 60]), scores=None, *, settings=EXACT, **options):
    return RescoringDetector(Fixed(list(boxes), scores), MeanColour(), embed_dim=3, settings=settings, **options)


def test_each_prompt_finds_its_own_box():
    detector = rescoring()
    found = detector.detect(detector.encode_image(scene()), torch.stack([GREEN, RED]), labels=("green", "red"))
    assert found.of("red").xyxy.tolist() == [RED_BOX] and found.of("green").xyxy.tolist() == [GREEN_BOX]
    assert found.masks is None and found.image_size == (100, 60)


def test_a_score_is_the_sigmoid_of_the_scaled_cosine():
    detector = rescoring(settings=RescoringSettings(margin=0, square=False, offset=0.3, scale=4))
    prompt = torch.tensor([[3.0, 4.0, 0.0]])  # cosine 0.6 with red, 0.8 with green
    scores = detector.scores(detector.encode_image(scene()), prompt)[:2, 0]
    assert torch.allclose(scores, torch.tensor([4 * (0.6 - 0.3), 4 * (0.8 - 0.3)]).sigmoid())


def test_with_a_background_a_score_is_a_share_among_itself_and_the_background():
    settings = RescoringSettings(margin=0, square=False, temperature=0.5)
    detector = rescoring(settings=settings, background=torch.stack([9 * BLUE, BLUE]))
    encoded = detector.encode_image(scene())
    scores = detector.scores(encoded, torch.stack([RED, GREEN]))
    e = float(np.exp(2))
    assert torch.allclose(scores[:2], torch.tensor([[e / (e + 2), 1 / 3], [1 / 3, e / (e + 2)]]))
    assert torch.allclose(detector.scores(encoded, RED[None]), scores[:, :1])  # prompts do not compete


def test_what_of_the_background_means_the_prompt_is_no_rival():
    with_itself = rescoring(background=torch.stack([BLUE, 3 * RED])), rescoring(background=BLUE[None])
    scores = [d.scores(d.encode_image(scene()), torch.stack([RED, GREEN])) for d in with_itself]
    assert torch.allclose(scores[0][:, 0], scores[1][:, 0]) and not torch.allclose(scores[0][:, 1], scores[1][:, 1])


def test_what_is_more_like_the_background_gets_no_box():
    prompt = torch.tensor([[1.0, 0, 1.0]])  # half red, half blue
    plain, against = rescoring(), rescoring(background=BLUE[None])
    boxes = [tuple(box) for box in plain.detect(plain.encode_image(scene()), prompt).xyxy.tolist()]
    assert (0, 0, 100, 60) in boxes
    found = against.detect(against.encode_image(scene()), prompt)
    assert found.xyxy.tolist() == [RED_BOX]


def test_objectness_enters_as_a_geometric_mean():
    settings = RescoringSettings(margin=0, square=False, objectness=0.5)
    weighed, plain = rescoring(scores=[0.9, 0.4, 0.1], settings=settings), rescoring()
    scores, bare = (d.scores(d.encode_image(scene()), RED[None])[:, 0] for d in (weighed, plain))
    assert torch.allclose(scores, (bare * torch.tensor([0.9, 0.4, 0.1])).sqrt())


def test_a_picture_is_embedded_once_and_in_batches():
    settings = RescoringSettings(batch_size=4, max_proposals=10)
    detector = rescoring([[i, 0, i + 5, 5] for i in range(12)], settings=settings)
    encoded = detector.encode_image(scene())
    for prompt in (RED, GREEN, BLUE):
        detector.detect(encoded, prompt[None])
    assert detector.embed_crops.batches == [4, 4, 2] and detector.proposer.asked == 1
    assert torch.allclose(encoded.embeds.norm(dim=1), torch.ones(10))
    assert len(detector.propose(encoded, max_proposals=3)) == 3


def test_no_proposals_are_no_detections():
    detector = rescoring([])
    encoded = detector.encode_image(scene())
    assert len(detector.detect(encoded, RED[None])) == 0 and detector.embed_crops.batches == []
    assert len(rescoring([], background=BLUE[None]).detect(encoded, RED[None])) == 0


def test_a_threshold_can_be_one_a_prompt():
    detector = rescoring()
    found = detector.detect(detector.encode_image(scene()), torch.stack([RED, GREEN]), threshold=torch.tensor([1, 0.5]))
    assert set(found.prompts.tolist()) == {1}


# ---- cut-outs ----


def test_cut_outs_are_the_boxes_with_context():
    assert crop_box((10, 10, 30, 20), (100, 100), 0, False) == (10, 10, 30, 20)
    assert crop_box((10, 10, 30, 20), (100, 100), 0.1, False) == (8, 9, 32, 21)
    assert crop_box((10, 10, 30, 20), (100, 100), 0, True) == (10, 5, 30, 25)
    assert crop_box((0, 0, 20, 2), (100, 100), 0, True) == (0, 0, 20, 20)  # moved into the picture
    assert crop_box((0, 0, 20, 2), (100, 10), 0, True) == (0, 0, 20, 10)  # and cut where it is too low


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.tuples(*[st.floats(-20, 70)] * 4),
    st.floats(0, 1),
    st.booleans(),
)
def test_cut_outs_lie_in_the_picture_and_have_pixels(size, corners, margin, square):
    box = (min(corners[::2]), min(corners[1::2]), max(corners[::2]), max(corners[1::2]))
    left, top, right, bottom = crop_box(box, size, margin, square)
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]


# ---- windows ----


def test_rescoring_works_without_a_detector():
    settings = RescoringSettings(margin=0, square=False, max_proposals=400, offset=0.7)
    proposer = GridProposer(scales=(1, 0.5, 0.3), overlap=0.7)
    detector = RescoringDetector(proposer, MeanColour(), embed_dim=3, settings=settings)
    best = detector.detect(detector.encode_image(scene()), RED[None]).xyxy[0]
    inside = np.prod(np.minimum(best[2:], RED_BOX[2:]) - np.maximum(best[:2], RED_BOX[:2]))
    assert inside / np.prod(best[2:] - best[:2]) > 0.7


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_windows_of_every_scale_cover_the_picture(width, height):
    proposer = GridProposer()
    encoded = proposer.encode_image(Image.new("L", (width, height)))
    found = proposer.propose(encoded, max_proposals=10_000)
    assert found.xyxy[0].tolist() == [0, 0, width, height]
    assert found.xyxy.min() >= 0 and (found.xyxy[:, 2:] <= [width, height]).all()
    areas = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(1)
    assert (np.diff(areas) <= 1e-3 * width * height).all() or width != height
    alone = GridProposer(scales=(0.5,), aspects=(1,)).propose(encoded, max_proposals=10_000).xyxy
    for axis, limit in enumerate((width, height)):
        spans = np.unique(alone[:, axis::2], axis=0)
        assert spans[0, 0] == 0 and spans[-1, 1] == pytest.approx(limit)
        assert (spans[1:, 0] <= spans[:-1, 1] + 1e-3).all()


def test_a_scale_that_does_not_fit_in_whole_is_thinned_out_evenly():
    proposer = GridProposer(scales=(1, 0.2), aspects=(1,))
    whole, cut = (proposer.propose((200, 200), max_proposals=n).xyxy for n in (999, 21))
    assert len(whole) == 82 and len(cut) == 21 and cut[0].tolist() == [0, 0, 200, 200]
    assert {tuple(box) for box in cut.tolist()} <= {tuple(box) for box in whole.tolist()}
    assert cut[1:, 1].min() == 0 and cut[1:, 3].max() == 200
    assert len(proposer.propose((200, 200), max_proposals=1)) == 1


def test_a_square_of_a_windows_size_is_met_by_half():
    """Neighbours overlap by half, so a square between four of them shares 9/16 of each: 9/23 in union."""
    found = GridProposer(scales=(0.25,), aspects=(1,)).propose((200, 200), max_proposals=1000).xyxy
    rng = np.random.default_rng(0)
    for left, top in rng.uniform(0, 150, (50, 2)):
        sides = np.minimum(found[:, 2:], [left + 50, top + 50]) - np.maximum(found[:, :2], [left, top])
        shared = sides.clip(0).prod(1)
        assert (shared / (5000 - shared)).max() >= 9 / 23 - 1e-6


# ---- choosing boxes ----


def test_overlaps_are_removed_within_a_prompt_only():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.6, 0.2]])
    options = {"labels": None, "image_size": (40, 40), "threshold": 0.5, "max_detections": 9}
    found = select(boxes, scores, nms_iou=0.5, **options)
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6]) and found.prompts.tolist() == [0, 1, 0]
    assert found.labels == ("prompt 1", "prompt 2")
    assert len(select(boxes, scores, nms_iou=None, **options)) == 4
    assert len(select(boxes, scores, nms_iou=None, **options | {"max_detections": 2})) == 2
    alone = select(boxes, scores, nms_iou=None, one_prompt_a_box=True, **options)
    assert alone.prompts.tolist() == [0, 0, 0]


def test_a_limit_cuts_what_there_is_without_one():
    generator = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(300, 2, generator=generator)
    boxes = torch.cat([corners, corners + 30], dim=1)  # crowded, so that the first look does not suffice
    scores = torch.rand(300, 3, generator=generator)
    options = {"labels": None, "image_size": (100, 100), "threshold": 0.0, "nms_iou": 0.2}
    whole = select(boxes, scores, max_detections=900, **options)
    assert 10 < len(whole) < 100
    for limit in (0, 1, 5, len(whole) - 1, len(whole)):
        assert select(boxes, scores, max_detections=limit, **options) == whole[:limit]


def test_overlaps_are_exact_far_from_the_origin():
    """Shifted by a class offset, these two would round to the same box."""
    boxes = torch.tensor([[4e5, 0, 4e5 + 1, 1], [4e5 + 0.25, 0, 4e5 + 1.25, 1]])
    scores = torch.tensor([[0.9] * 40, [0.8] * 40])
    found = select(boxes, scores, labels=None, image_size=(500_000, 2), threshold=0.5, max_detections=99, nms_iou=0.61)
    assert len(found) == 80  # they share 0.75 / 1.25 = 0.6


# ---- what is refused ----


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        (lambda crops: torch.ones(len(crops), 4), ShapeError, r"\(3, 3\) for 3 crops, got \(3, 4\)"),
        (lambda crops: [[1, 2, 3]], ShapeError, "got list"),
        (lambda crops: torch.full((len(crops), 3), torch.nan), NonFiniteError, "embed_crops gave NaN"),
    ],
)
def test_an_encoder_that_gives_something_else_is_named(made, error, says):
    detector = RescoringDetector(Fixed([RED_BOX] * 3), made, embed_dim=3)
    with pytest.raises(error, match=says):
        detector.encode_image(scene())


def test_limits_below_zero_are_refused():
    detector = RescoringDetector(GridProposer(), lambda crops: torch.ones(len(crops), 3), embed_dim=3)
    encoded = detector.encode_image(scene())
    for propose in (
        lambda n: detector.propose(encoded, max_proposals=n),
        lambda n: GridProposer().propose((9, 9), max_proposals=n),
    ):
        assert len(propose(0)) == 0
        with pytest.raises(InputError, match="max_proposals: wanted a whole number"):
            propose(-1)
    with pytest.raises(InputError, match="all zeros"):
        detector.detect(encoded, torch.zeros(1, 3))
    with pytest.raises(InputError, match="encode_image"):
        detector.detect("picture.jpg", torch.ones(1, 3))
    for bad in ({"max_proposals": 2.5}, {"temperature": "a"}):
        with pytest.raises(InputError, match="RescoringSettings"):
            RescoringSettings(**bad)


def test_wrong_widths_pictures_and_settings_are_refused():
    detector = rescoring()
    encoded = detector.encode_image(scene())
    with pytest.raises(HostError, match="width 3, got 512"):
        detector.detect(encoded, torch.ones(1, 512))
    with pytest.raises(EmptyInputError):
        detector.detect(encoded, torch.ones(0, 3))
    with pytest.raises(InputError, match="labels: wanted 1"):
        detector.detect(encoded, torch.ones(1, 3), labels=("a", "b"))
    with pytest.raises(HostError, match="background"):
        rescoring(background=torch.ones(2, 7))
    with pytest.raises(EmptyInputError, match="5 x 0"):
        detector.encode_image(Image.new("RGB", (5, 0)))
    for name, value in (("margin", -1), ("temperature", 0), ("nms_iou", float("nan")), ("batch_size", 0)):
        with pytest.raises(InputError, match=name):
            RescoringSettings(**{name: value})
    for bad in ({"scales": (2,)}, {"aspects": ()}, {"overlap": 1}):
        with pytest.raises(InputError, match=next(iter(bad))):
            GridProposer(**bad)
