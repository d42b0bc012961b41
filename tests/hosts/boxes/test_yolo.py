"""YOLO with vectors: boxes by the paper's formula, pictures of any shape, prompts that do not disturb each other."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bind2gen.errors import CheckpointError, HostError, InputError
from bind2gen.hosts.boxes.detections import Detections
from bind2gen.hosts.boxes.loading import load_detector
from bind2gen.hosts.boxes.yolo import YoloConfig, YoloDetector, YoloModel
from bind2gen.hosts.boxes.yolo.detector import GREY, lettered, without_parts

TINY = YoloConfig(
    (4, 4, 4, 4, 6, 6, 8), squeezed=6, coarse=8, lateral=4, fine=8, coarse_anchors=(30, 40, 90, 60),
    fine_anchors=(10, 12, 20, 16), answers=3, context=4, embed_dim=5, long_side=96, objectness=1e-6,
)  # fmt: skip


def toy() -> YoloDetector:
    torch.manual_seed(0)
    return YoloDetector(YoloModel(TINY))


def noise(width: int = 90, height: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def classes(count: int = 3) -> torch.Tensor:
    return torch.randn(count, TINY.embed_dim, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_boxes_are_those_of_the_papers_formula():
    """bx = sigmoid(tx) + cx, bw = pw exp(tw) (arXiv 1804.02767, section 2.1), in cells and in pixels."""
    model = YoloModel(replace(TINY, proposal_iou=1.0)).eval()
    maps = torch.randn(1, TINY.fine, 4, 6)
    boxes, objectness, answers = model._level(maps, 16, TINY.anchors[1], 1)
    raw, told = model.boxes[1](maps)[0], model.answers[1](maps)[0]
    anchor, row, column = 1, 2, 5
    x, y, w, h, o = raw[5 * anchor : 5 * anchor + 5, row, column].double()
    middle = ((x.sigmoid() + column) * 16, (y.sigmoid() + row) * 16)
    sides = (20 * w.exp(), 16 * h.exp())
    wanted = [middle[0] - sides[0] / 2, middle[1] - sides[1] / 2, middle[0] + sides[0] / 2, middle[1] + sides[1] / 2]
    at = (anchor * 4 + row) * 6 + column
    assert boxes[0, at].tolist() == pytest.approx([value.item() for value in wanted], rel=1e-5)
    assert objectness[0, at].item() == pytest.approx(o.item(), rel=1e-6)
    assert torch.equal(answers[0, at], told[3 * anchor : 3 * anchor + 3, row, column])


@torch.no_grad()
def test_context_is_the_mean_of_what_lies_in_the_box():
    model = YoloModel(TINY).eval()
    last = torch.zeros(8, 4, 4)
    last[3, 1:3, 2:4] = 1.0  # pixels 64..128 across, 32..96 down
    boxes = torch.tensor([[64.0, 32, 128, 96], [0.0, 32, 64, 96]])
    found = model._kept(boxes, torch.tensor([2.0, 1.0]), torch.zeros(2, 3), last)
    inside, beside = found.context[:, 3].tolist()
    assert inside > 0.7 > 0.3 > beside  # interpolated between the middles of cells, so that edges are blurred


def test_a_score_is_objectness_times_the_answer_to_the_vector():
    detector = toy()
    encoded, embeds = detector.encode_image(noise()), classes()
    assert len(encoded.boxes) > 3
    logits = encoded.vectors.double() @ F.normalize(embeds.double(), dim=1).T + detector.model.bias.item()
    wanted = encoded.objectness.double().sigmoid()[:, None] * logits.sigmoid()
    assert torch.allclose(
        detector.model.scores(encoded.vectors, encoded.objectness, embeds).double(), wanted, atol=1e-6
    )
    found = detector.detect(encoded, 7 * embeds, threshold=0.0, one_class_per_proposal=False)
    assert found.scores.max() == pytest.approx(wanted.max().item(), abs=1e-6)


def test_prompts_do_not_disturb_each_other_unless_a_box_answers_one_only():
    detector = toy()
    encoded, embeds = detector.encode_image(noise()), classes()
    together = detector.detect(encoded, embeds, threshold=0.0, one_class_per_proposal=False)
    for k in range(3):
        alone = detector.detect(encoded, embeds[k : k + 1], threshold=0.0)
        assert np.array_equal(alone.xyxy, together.of(k).xyxy)
    best = detector.detect(encoded, embeds, threshold=0.0)
    assert len(best) <= len(encoded.boxes) and len(np.unique(best.xyxy, axis=0)) == len(best)


def test_what_lies_within_a_better_box_of_its_prompt_is_a_part():
    boxes = [[0, 0, 50, 50], [10, 10, 20, 20], [40, 40, 60, 60], [5, 5, 15, 15], [0, 0, 90, 90]]
    found = Detections(np.array(boxes), np.linspace(0.9, 0.5, 5), np.array([0, 0, 0, 1, 0]), ("car", "dog"), (90, 90))
    assert without_parts(found).xyxy.tolist() == [boxes[k] for k in (0, 2, 3, 4)]
    assert len(without_parts(found[[]])) == 0


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (500, 20), (7, 7)])
def test_boxes_lie_in_pictures_of_any_shape(size):
    detector = toy()
    encoded = detector.encode_image(noise(*size))
    found = detector.propose(encoded)
    assert encoded.image_size == size and len(found) == len(encoded.boxes) > 0
    assert (found.xyxy >= 0).all() and (found.xyxy <= [*size, *size]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_a_picture_is_lettered_in_the_middle_of_grey():
    pixels, factor, (left, top) = lettered(Image.new("RGB", (40, 10), (255, 0, 0)), 96)
    assert pixels.shape == (1, 3, 32, 96) and factor == pytest.approx(2.4) and (left, top) == (0, 4)
    assert pixels[0, :, 16, 48].tolist() == [1, 0, 0]
    assert pixels[0, :, 1, 48].tolist() == pytest.approx([value / 255 for value in GREY])


def test_a_saved_detector_gives_the_same_boxes(tmp_path):
    toy().save_pretrained(tmp_path)
    first, again = toy(), load_detector(tmp_path)
    assert isinstance(again, YoloDetector) and again.embed_dim == TINY.embed_dim
    found = [d.detect(d.encode_image(noise()), classes(), threshold=0.0) for d in (first, again)]
    assert len(found[0])
    assert np.allclose(found[0].xyxy, found[1].xyxy, atol=1e-3) and np.allclose(found[0].scores, found[1].scores)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model_type", "bert", "of another model"),
        ("colour", 3, "colour"),
        ("widths", [1, 2], "seven widths"),
        ("fine_anchors", [10, 12, 20], "pairs of sides"),
        ("long_side", 100, "multiple of 32"),
        ("coarse", 10**8, r"wanted shape \(100000000,"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, key, value, words):
    toy().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {key: value}))
    with pytest.raises(CheckpointError, match=words):
        YoloDetector.from_pretrained(tmp_path)


def test_class_vectors_and_pictures_of_others_are_refused():
    detector = toy()
    with pytest.raises(HostError, match="wanted class embeddings of width 5, got 4"):
        detector.detect(detector.encode_image(noise()), torch.ones(1, 4))
    with pytest.raises(InputError, match="wanted what encode_image gives"):
        detector.propose("picture")
    other = YoloDetector(YoloModel(replace(TINY, embed_dim=6)))
    with pytest.raises(HostError, match="another network"):
        detector.propose(other.encode_image(noise()))
