"""What must not matter: how many are done at a time, in which order, and by how many threads.

Products of matrices add up in another order for another number of rows or threads, so the last digits differ: 2e-6 of
unit vectors is 16 units in the last place of 1; of pictures one grey level of 255, of boxes a hundredth of a pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bind2gen import ImageBindDetectionPipeline, ImageBindModel, ImageBindProcessor, bundled_path
from bind2gen.files.bundled import example_sounds
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.pipelines.drawing import draw

EMBEDDING, GREY, PIXELS, SCORE = 2e-6, 1, 0.01, 1e-4
PICTURE = str(Path(__file__).parents[1] / "demos" / "pictures" / "three.webp")


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bundled() -> tuple[ImageBindModel, ImageBindProcessor]:
    folder = bundled_path("mini")
    model = ImageBindModel.from_pretrained(folder / "imagebind", modalities=["audio", "image", "text"])
    return model.eval(), ImageBindProcessor.from_pretrained(folder / "processor")


def test_embeddings_by_batch_order_and_threads(bundled):
    sounds = [str(path) for path in list(example_sounds().values())[:5]]
    inputs = {"audio": sounds, "text": ["a dog", "rain on a roof", "x", "the sea", "a very long sentence about cats"]}

    def apart(name: str, at: int) -> torch.Tensor:
        return torch.cat([
            embed_inputs(*bundled, {name: inputs[name][k : k + at]})[name] for k in range(0, len(inputs[name]), at)
        ])  # fmt: skip

    for name in inputs:
        torch.set_num_threads(1)
        alone = apart(name, 1)
        assert (alone @ alone.T - torch.eye(5)).max() < 0.999  # five things
        ways = {f"batches of {at}": apart(name, at) for at in (2, 5)}
        ways["backwards"] = embed_inputs(*bundled, {name: inputs[name][::-1]})[name].flip(0)
        torch.set_num_threads(3)
        ways["threads"] = apart(name, 1)
        for way, found in ways.items():
            assert (found - alone).abs().max() < EMBEDDING, (name, way)


def test_pictures_by_batch_order_and_threads(tiny_pipeline):
    torch.manual_seed(0)
    rows = tiny_pipeline.condition({"image": torch.nn.functional.normalize(torch.randn(5, 32), dim=1)})

    def drawn(order: list[int], at: int) -> np.ndarray:
        parts = draw(tiny_pipeline, rows[order], order, batch_size=at, num_inference_steps=3)
        found = np.stack([np.asarray(image, np.int16) for images in parts for image in images])
        return found[np.argsort(order)]

    torch.set_num_threads(1)
    alone = drawn([0, 1, 2, 3, 4], 1)
    assert min(np.abs(alone[i] - alone[j]).max() for i in range(5) for j in range(i)) > 5 * GREY
    assert np.array_equal(alone, drawn([3, 0, 4, 2, 1], 1))
    ways = {"batches of 2": drawn([0, 1, 2, 3, 4], 2), "backwards, of 3": drawn([4, 3, 2, 1, 0], 3)}
    torch.set_num_threads(3)
    ways["threads"] = drawn([0, 1, 2, 3, 4], 1)
    for way, found in ways.items():
        assert np.abs(found - alone).max() <= GREY, way


def test_detections_by_batch_order_and_threads():
    finder, words = ImageBindDetectionPipeline.from_pretrained(), ["a clock", "a dog", "a bird"]

    def found(order: list[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        one = finder(PICTURE, text=order, threshold=0.02)
        return {word: (one.of(word).xyxy, one.of(word).scores) for word in words}

    torch.set_num_threads(1)
    wanted = found(words)
    assert sum(len(boxes) for boxes, _ in wanted.values()) >= 2
    ways = {"backwards": found(words[::-1]), "as one of two": None}
    second = finder([PICTURE, PICTURE], text=words, threshold=0.02)[1]
    ways["as one of two"] = {word: (second.of(word).xyxy, second.of(word).scores) for word in words}
    torch.set_num_threads(3)
    ways["threads"] = found(words)
    for way, one in ways.items():
        for word, (boxes, scores) in wanted.items():
            assert boxes.shape == one[word][0].shape, (way, word)
            assert len(boxes) == 0 or np.abs(one[word][0] - boxes).max() < PIXELS, (way, word)
            assert len(boxes) == 0 or np.abs(one[word][1] - scores).max() < SCORE, (way, word)
