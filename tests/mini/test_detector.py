"""The bundled detector's lessons: where a label goes, what YOLO's answers become, and that vectors can be taught."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.hosts.boxes.yolo import YoloConfig, YoloModel
from bind2gen.hosts.boxes.yolo.network import Regions
from bind2gen.mini.detect import class_vectors, rounded
from bind2gen.mini.detector import BIAS, begin, lesson_losses, train_detector
from bind2gen.mini.detector_lessons import Lessons, Shown, lesson, likeliest, shown
from bind2gen.mini.detector_words import Words, evening
from bind2gen.mini.teachers import YOLO_EPSILON, YOLO_FILE, yolo_tiny
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.train.loop import LoopConfig

TINY = YoloConfig(
    (4, 4, 4, 4, 6, 6, 8), squeezed=6, coarse=8, lateral=4, fine=8, coarse_anchors=(30, 40), fine_anchors=(10, 12),
    answers=3, context=6, embed_dim=16, long_side=96,
)  # fmt: skip
COCO = ("dog", "car", "person")
NAMES = ("lobster", *COCO, "crayfish")
# The largest likely region, one on it, one beside it, a small one elsewhere.
BOXES = torch.tensor([[10.0, 10, 90, 90], [12, 12, 90, 90], [55, 55, 100, 100], [0, 0, 8, 8]])
LOGITS = torch.tensor([0.0, -1.0, 0.5, -2.0])


def directions(count: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(count, TINY.embed_dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def words() -> Words:
    return Words.of(NAMES, directions(len(NAMES)), COCO, torch.eye(TINY.embed_dim))


def found(answers: torch.Tensor | None = None) -> Regions:
    answers = torch.tensor([[2.0, -2, -3], [1, -2, -3], [-2, -2, 2], [-4, -4, -4]]) if answers is None else answers
    return Regions(BOXES, LOGITS, answers, torch.zeros(4, 8))


def taught(*said: str, boxes: np.ndarray | None = None) -> Lessons:
    one = Shown(Image.new("RGB", (100, 100)), said, boxes, 96)
    return lesson(found(), BOXES, one, likeliest(BOXES, LOGITS, (100, 100))[:1], directions(1, 5), words())


def test_class_vectors_are_what_differs_from_the_mean_image_in_every_modality():
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(2, 8), dim=1) * 0.5
    adapter = EmbeddingAdapter.from_means({"image": image, "text": text})
    away = F.normalize(torch.randn(3, 8), dim=1)
    seen = class_vectors({"image": F.normalize(image + 0.4 * away, dim=1)}, adapter)
    said = class_vectors({"text": F.normalize(text + 0.4 * away, dim=1)}, adapter)
    assert torch.allclose(seen.norm(dim=1), torch.ones(3), atol=1e-6)
    cosines = seen @ said.T
    assert (cosines.argmax(1) == torch.arange(3)).all() and cosines.diagonal().min() > 0.6


def test_darknets_weights_are_read_with_their_norms(tmp_path):
    """The first convolution with its norm, and one head's anchor, against the numbers of the file."""
    network, rng = YoloModel(TINY), np.random.default_rng(0)
    size = sum(p.numel() for name, p in network.named_parameters() if name.split(".")[0] in PARTS)
    norms = 3 * sum(layer.out_channels for layer in (*network.trunk, *(getattr(network, name) for name in NECK)))
    values = rng.uniform(0.5, 1.5, size + norms).astype(np.float32)
    path = tmp_path / YOLO_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(20) + values.tobytes())
    (path.parent / "coco.names").write_text("person\naeroplane\ntvmonitor\n")
    assert yolo_tiny(tmp_path, network) == ("person", "airplane", "tv")
    shift, scale, mean, variance = values[:16].reshape(4, 4)
    kernel, pixels = values[16 : 16 + 4 * 27].reshape(4, 3, 3, 3), torch.rand(1, 3, 5, 5)
    plain = F.conv2d(pixels, torch.from_numpy(kernel), padding=1)[0]
    std = np.sqrt(variance) + YOLO_EPSILON
    wanted = [(plain[k] - mean[k]) / std[k] * scale[k] + shift[k] for k in range(4)]
    assert torch.allclose(network.trunk[0](pixels)[0], torch.stack(wanted), rtol=1e-4, atol=1e-5)
    last = torch.from_numpy(values[-8 * TINY.fine :]).view(8, TINY.fine)  # of the fine level: a box, an object, three
    heads = torch.cat([network.boxes[1].weight, network.answers[1].weight]).flatten(1)
    assert torch.equal(heads, last)
    path.write_bytes(bytes(20) + values[:-1].tobytes())
    with pytest.raises((InputError, RuntimeError, ValueError)):
        yolo_tiny(tmp_path, network)


NECK = ("squeeze", "coarse", "lateral", "fine")
PARTS = {"trunk", "boxes", "answers", *NECK}


def test_all_directions_of_names_become_equally_frequent():
    names = directions(400) * torch.linspace(0.2, 1, TINY.embed_dim) + 0.3
    made = names @ evening(names).T
    spread = torch.linalg.eigvalsh(made.T @ made / len(made))
    before = torch.linalg.eigvalsh(names.T @ names / len(names))
    assert spread.max() / spread.min() < 2 < before.max() / before.min()


@torch.no_grad()
def test_cocos_names_answer_as_before_and_others_are_not_there():
    network = YoloModel(TINY)
    begin(network, words())
    answers = torch.tensor([[6.0, -7, -7], [-7, 2, -3]])
    vectors, objectness = network.told(Regions(torch.zeros(2, 4), torch.tensor([0.5, 1.0]), answers, torch.rand(2, 8)))
    logits = vectors @ words().classes(words().directions).T + network.bias
    assert torch.allclose(logits[:, 1:4], answers, atol=0.5) and torch.allclose(objectness, torch.tensor([0.5, 1.0]))
    assert (logits[:, [0, 4]] < 0).all() and (logits[:, [0, 4]] - BIAS).abs().max() < 3


def test_the_label_goes_to_the_largest_likely_region():
    assert likeliest(BOXES, LOGITS, (100, 100)) == [0, 2]
    made = taught("lobster")
    assert (made.wanted[:2, 0] == 1).all() and (made.wanted[:2, 1:4] == 0).all()  # it is no dog, though YOLO said so
    assert made.thing.tolist() == [1, 1, -1, pytest.approx(torch.tensor(-2.0).sigmoid().item())]
    assert made.wanted[3, 1:4].float().tolist() == pytest.approx([torch.tensor(-4.0).sigmoid().item()] * 3, rel=1e-3)
    assert made.open[:3, 4].tolist() == [True, True, True] and not made.open[3].any()  # it may be called a crayfish
    assert made.open[2, 0] and not made.open[0, 0]
    assert made.seen[0].norm() == pytest.approx(1, abs=1e-3) and not made.seen[1:].any()


def test_of_cocos_names_yolo_knows_better_where_they_are():
    made = taught("dog")
    assert made.wanted[:2, 1].float().tolist() == pytest.approx(torch.tensor([2.0, 1]).sigmoid().tolist(), abs=1e-3)
    assert (made.wanted[:2, [0, 2, 3, 4]] == 0).all()
    assert made.thing.tolist() == pytest.approx(LOGITS.sigmoid().tolist())


def test_known_boxes_are_believed():
    made = taught("lobster", boxes=np.array([[0, 0, 8, 8]], np.float32))
    assert made.wanted[:, 0].tolist() == [0, 0, 0, 1]


def many(count: int = 60) -> Lessons:
    """What is a lobster shows in the context, what is a dog in YOLO's answers."""
    rng, made = np.random.default_rng(0), []
    for k in range(count):
        answers = torch.full((4, 3), -4.0)
        answers[:2, 0] = 3.0 if k % 2 else -4.0
        context = torch.from_numpy(rng.normal(size=(4, 8)).astype(np.float32))
        context[:2, 0] = -4.0 if k % 2 else 4.0
        one = Shown(Image.new("RGB", (100, 100)), ("dog" if k % 2 else "lobster",), None, 96)
        made.append(lesson(Regions(BOXES, LOGITS, answers, context), BOXES, one, [0], directions(1, k), words()))
    return Lessons.joined(made)


def test_a_word_that_yolo_never_knew_is_taught_beside_those_it_knows(tmp_path):
    torch.manual_seed(0)
    network, all_words = YoloModel(TINY), words()
    begin(network, all_words)
    data = many()
    data.save(tmp_path / "lessons.safetensors")
    data = Lessons.load(tmp_path / "lessons.safetensors")

    def worth() -> tuple[float, float, float]:
        with torch.no_grad():
            vectors, objectness = network.told(
                Regions(data.context, data.objectness, data.answers.float(), data.context.float())
            )
            losses = lesson_losses(vectors, objectness, network.bias, all_words, data)
            logits = vectors @ all_words.classes(all_words.directions).T + network.bias
        lobsters, dogs = data.wanted[:, 0] == 1, data.wanted[:, 1] > 0.9
        apart = logits[lobsters, 0].mean() - logits[~lobsters, 0].mean()
        return losses["words"].item(), apart.item(), (logits[dogs, 1].mean() - logits[lobsters, 1].mean()).item()

    before = worth()
    train_detector(network, all_words, data, LoopConfig(120, 64, 1e-2, warmup_steps=5), tmp_path / "run")
    after = worth()
    assert after[0] < 0.7 * before[0]
    assert after[1] > before[1] + 2 and after[2] > 3
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"words", "objects", "seen"} <= rows[0].keys()


def test_pictures_to_learn_from_are_those_that_are_not_held_out(data):
    found = list(shown(data))
    labels = {"dog", "cat", "anchor", "barrel", "cannon", "chair"}
    assert {name for one in found for name in one.words} == labels | {"sea", "seashore", "drone"}
    large = [one for one in found if set(one.words) & labels]
    assert 50 < len(large) < 12 * 6 and all(one.boxes is None for one in large)
    assert all(one.boxes.tolist() == [[8, 8, 30, 30]] for one in found if one.words == ("drone",))


def test_a_scene_without_words_keeps_what_yolo_answers():
    one = Shown(Image.new("RGB", (100, 100)), (), None, 96)
    made = lesson(found(), BOXES, one, [], torch.zeros(0, TINY.embed_dim), words())
    assert torch.allclose(made.wanted[:, 1:4].float(), found().answers.sigmoid(), atol=1e-3)
    assert not made.wanted[:, [0, 4]].any() and not made.open.any() and not made.seen.any()
    assert torch.allclose(made.thing, LOGITS.sigmoid())


@torch.no_grad()
def test_rounded_weights_are_even_steps_that_half_precision_holds():
    network = YoloModel(TINY)
    before = network.trunk[2].weight.clone()
    after = rounded(network).trunk[2].weight
    for old, new in zip(before, after.float(), strict=True):
        steps = new.unique()
        assert len(steps) <= 2 * 128 + 1
        assert (old - new).abs().max() <= old.abs().max() / 128 + 1e-7
    assert after.dtype == torch.float16
