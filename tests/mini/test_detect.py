"""The bundled detector's class vectors and its judge."""

import numpy as np
import torch

from bind2gen.hosts.boxes.detic.model import DeticModel
from bind2gen.mini.data import Sample
from bind2gen.mini.detect import HeldOutScenes, class_vectors, truth
from bind2gen.mini.mosaics import BoxedSet, Mosaics, Scene
from bind2gen.mini.recipe import JUDGED, detector_config
from bind2gen.space.adapter import EmbeddingAdapter


def test_class_vectors_are_what_differs_from_the_mean_image_in_every_modality():
    torch.manual_seed(0)
    image, text = torch.nn.functional.normalize(torch.randn(2, 8), dim=1) * 0.5
    adapter = EmbeddingAdapter.from_means({"image": image, "text": text})
    away = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    seen = class_vectors({"image": torch.nn.functional.normalize(image + 0.4 * away, dim=1)}, adapter)
    said = class_vectors({"text": torch.nn.functional.normalize(text + 0.4 * away, dim=1)}, adapter)
    assert torch.allclose(seen.norm(dim=1), torch.ones(3), atol=1e-6)
    cosines = seen @ said.T
    assert (cosines.argmax(1) == torch.arange(3)).all() and cosines.diagonal().min() > 0.6


class Made:
    """What HeldOutScenes asks of the data, with pictures of two concepts."""

    def scenes(self, part: int, half: int | None = None) -> Mosaics:
        assert part == 1 and half is None
        rng = np.random.default_rng(0)
        pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(4)]
        boxes = [np.array([[8, 8, 56, 56]], np.float32)] * 4
        samples = [Sample(str(i), ("dog", "car")[i % 2], {}) for i in range(4)]
        return Mosaics(BoxedSet(pictures, boxes, samples), None, detector_config().short_side)

    def held_out_vectors(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        vectors = torch.nn.functional.normalize(torch.randn(len(JUDGED), 256), dim=1)
        return vectors, [v[None] for v in vectors]


def test_the_same_vectors_score_the_same_whether_said_or_heard():
    torch.manual_seed(0)
    judge = HeldOutScenes(Made(), count=3)
    scores = judge(DeticModel(detector_config()).eval())
    for name in ("ap50", "recall", "threshold"):
        assert scores[f"text_{name}"] == scores[f"audio_{name}"]
    assert 0 <= scores["text_ap50"] < 0.3  # nothing has been learned


def test_classes_are_numbered_as_the_judged_concepts_are():
    scene = Scene(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 4), np.float32), np.array(["drone", "dog"]))
    assert [JUDGED[k] for k in truth(scene).classes] == ["drone", "dog"]
