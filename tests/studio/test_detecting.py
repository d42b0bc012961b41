"""Detection for visitors, on a toy encoder and a toy detector: what is found, filtered, told, refused and stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.errors import EmptyInputError, InputError, TooLargeError, UnreadableError
from bind2gen.files.bundled import example_sounds
from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.hosts.boxes.drawing import PALETTE
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini.scenes import Recipe, make_scenes
from bind2gen.pipelines.calibration import Calibration
from bind2gen.pipelines.class_prompts import ClassPrompter
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.studio import DetectionStudio, Limits, Progress, Spotting
from bind2gen.studio.detecting import FLOOR, KEPT, known_weakness
from bind2gen.studio.scenes import INDEX, Scene, read_scenes

RATE = 16_000  # Hz
WORDS = ("a", "bee", "cab", "dad")


@torch.no_grad()
def toy_detector(width, mask_width):
    """Untrained, with spreads so wide that it finds many different boxes."""
    config = DeticConfig(
        "resnet", (1, 1, 1, 1), (8, 8, 8, 8), fpn_width=16, fc_width=16, mask_width=mask_width, embed_dim=width,
        norm_groups=4, short_side=64, long_side=96, stage_weights=(10.0,), proposals=20, temperature=5.0,
    )  # fmt: skip
    model, draw = DeticModel(config), torch.Generator().manual_seed(0)
    for name, values in model.named_parameters():
        if values.ndim > 1:
            values.normal_(std=(2 / values[0].numel()) ** 0.5, generator=draw)
        elif name.endswith("centernet_head.bbox_pred.bias"):
            values.fill_(1.0)  # strides from the middle to each side
    return DeticDetector(model)


@pytest.fixture(scope="module")
def pipe(make_imagebind):
    encoder = make_imagebind()
    width = encoder.config.embed_dim
    means = 0.3 * torch.randn(3, width, generator=torch.Generator().manual_seed(2)) / width**0.5
    adapter = EmbeddingAdapter.from_means(dict(zip(("image", "audio", "text"), means, strict=True)))
    prompter = ClassPrompter(encoder, ImageBindProcessor.for_config(encoder.config), route="joint", adapter=adapter)
    return ImageBindDetectionPipeline(toy_detector(width, 8), prompter, calibration=Calibration(threshold=FLOOR))


@pytest.fixture
def studio(pipe):
    studio = DetectionStudio(pipe, words=WORDS)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detecting")
    for name, pitch in (("low", 20), ("high", 3)):
        soundfile.write(folder / f"{name}.wav", 0.3 * np.sin(np.arange(3 * RATE) / pitch), RATE)
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    Image.fromarray(noise).resize((400, 300)).save(folder / "large.png")
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.png").write_bytes(b"")
    return folder


def found(studio, picture, *sounds, **options):
    *news, last = studio.find(str(picture), [s and str(s) for s in sounds], **options)
    assert all(isinstance(item, Progress) for item in news) and isinstance(last, Spotting)
    return last


def test_boxes_are_the_pipelines_at_any_threshold(studio, pipe, files):
    spotting = found(studio, files / "noise.png", files / "low.wav", None, files / "high.wav", words="a cab,  dad, dad")
    assert [p.label for p in spotting.prompts] == ["sound 1", "sound 3", "a cab", "dad"]
    every = spotting.at(0).shown
    assert len(every) > 3 and every.masks is not None
    for threshold in (FLOOR, float(np.median(every.scores)), 1.0):
        direct = pipe(
            files / "noise.png", audio=[str(files / "low.wav"), str(files / "high.wav")], text=["a cab", "dad"],
            threshold=threshold, max_detections=studio.limits.boxes, labels=every.labels,
        )  # fmt: skip
        assert spotting.at(threshold).shown == direct
    assert spotting.threshold == pytest.approx(FLOOR)


def test_moving_the_threshold_hides_boxes_and_says_which_prompts_have_none(studio, files):
    spotting = found(studio, files / "noise.png", files / "low.wav", files / "high.wav")
    scores = spotting.at(0).shown.scores
    counts = [sum(count for _, _, count in spotting.at(t).legend()) for t in (0, float(scores[0]) - 1e-4, 1)]
    assert counts == [len(scores), int((scores > scores[0] - 1e-4).sum()), 0]
    nothing = spotting.at(1)
    assert nothing.boxes() == [] and [count for *_, count in nothing.legend()] == [0, 0]
    assert [colour for _, colour, _ in nothing.legend()] == list(PALETTE[:2])
    plain, drawn = (np.asarray(s.draw(), int) for s in (nothing, spotting.at(0)))
    assert plain.shape == drawn.shape and abs(plain - drawn).max() > 50
    for bad in (-0.1, 1.1, float("nan"), "0.5", None):
        with pytest.raises(InputError, match="threshold: wanted a number from 0 to 1"):
            spotting.at(bad)


def test_a_finding_takes_little_memory_though_masks_are_large(studio, files):
    spotting = found(studio, files / "large.png", files / "low.wav")
    masks = spotting.at(0).shown.masks
    assert len(masks) > 3
    assert len(json.dumps(dict(spotting.packed))) < masks.nbytes / 10


def test_large_pictures_are_shrunk_and_boxes_are_told_in_the_uploads_pixels(pipe, files):
    small = DetectionStudio(pipe, words=WORDS, limits=Limits(shown=100))
    spotting = found(small, files / "large.png", files / "low.wav")
    assert spotting.picture.size == (100, 75) and spotting.size == (400, 300)
    boxes = np.array([box["xyxy"] for box in spotting.boxes()])
    assert np.allclose(boxes, spotting.shown.xyxy * 4, atol=0.051) and boxes.max() > 100
    small.close()


def test_a_picture_is_encoded_once_for_any_prompts(studio, pipe, files, monkeypatch, tmp_path):
    encoded, real = [], pipe.encode_image
    monkeypatch.setattr(pipe, "encode_image", lambda picture: (encoded.append(1), real(picture))[1])
    first = found(studio, files / "noise.png", files / "low.wav")
    again = found(studio, files / "noise.png", files / "low.wav", words="dad")
    assert len(encoded) == 1 and again.prompts[0] == first.prompts[0]
    for shade in range(KEPT):
        Image.new("RGB", (40, 40), (shade, 0, 0)).save(tmp_path / "shade.png")
        found(studio, tmp_path / "shade.png", words="dad")
    found(studio, files / "noise.png", words="dad")  # was let go for the others
    assert len(encoded) == 2 + KEPT


def test_nearest_words_of_a_word_are_that_word_and_of_the_words_route_what_it_took(studio, pipe, files):
    spotting = found(studio, files / "noise.png", words="dad, bee")
    assert [next(iter(prompt.nearest)) for prompt in spotting.prompts] == ["dad", "bee"]
    prompter = pipe.prompter
    vectors = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    blended = ClassPrompter(
        prompter.encoder, prompter.processor, route="words", vocabulary=Vocabulary(WORDS, vectors),
        adapter=prompter.adapter,
    )  # fmt: skip
    other = DetectionStudio(ImageBindDetectionPipeline(toy_detector(6, 0), blended))
    spotting = found(other, files / "noise.png", files / "low.wav")
    (words,) = blended.class_embeddings(audio=[str(files / "low.wav")]).words
    assert spotting.prompts[0].nearest == pytest.approx(dict(words[:3]))
    other.close()


@pytest.mark.parametrize(
    ("picture", "sounds", "words", "error", "says"),
    [
        (None, ["low.wav"], None, InputError, "no picture to search"),
        ("noise.png", [], " , ", InputError, "nothing to look for"),
        ("noise.png", ["text.wav"], None, UnreadableError, "^text.wav: "),
        ("empty.png", ["low.wav"], None, EmptyInputError, "^empty.png: "),
        ("low.wav", ["low.wav"], None, UnreadableError, "^low.wav: wanted a picture"),
        ("noise.png", [], "a,b,c,d,e,f,g,h", InputError, "at most 7 sounds and words, got 8"),
        ("noise.png", [], "x" * 301, TooLargeError, "300 characters"),
    ],
)
def test_what_cannot_be_searched_is_said(studio, files, picture, sounds, words, error, says):
    with pytest.raises(error, match=says) as caught:
        list(studio.find(picture and str(files / picture), [str(files / name) for name in sounds], words=words))
    assert str(files) not in str(caught.value)


def test_a_stopped_search_ends_after_its_stage(studio, files, monkeypatch):
    looked = []
    monkeypatch.setattr(studio, "_look", lambda path: looked.append(path))
    news = studio.find(str(files / "noise.png"), [str(files / "low.wav")], session="visitor")
    listen = studio._listen

    def stopped_while_listening(*given):
        assert studio.stop("visitor")
        return listen(*given)

    monkeypatch.setattr(studio, "_listen", stopped_while_listening)
    assert [item.doing for item in news] == ["Listening"] and looked == []
    assert not studio.stop("visitor") and not studio.worker.busy


def test_warming_does_not_fill_the_memory_of_pictures(studio):
    studio.warm()
    assert not studio.worker.busy and len(studio._encoded) == 0


def test_visitors_are_told_what_the_detector_was_measured_to_do(tmp_path):
    (tmp_path / "detector").mkdir()
    assert known_weakness(tmp_path) == ""
    scores = {"whole_photos": {"text": {"photos": 50, "found": 0.25, "photos_with_a_wrong_box": 0.125}}}
    (tmp_path / "detector" / "scores.json").write_text(json.dumps(scores))
    assert "On 50 whole photographs it finds 25% of what is there" in known_weakness(tmp_path)


# ---- example pictures ----


def test_scenes_are_drawn_alike_each_time_and_hold_what_they_name(pipe, tiny_pipeline, tmp_path):
    name = next(iter(example_sounds()))
    recipe = Recipe(Scene("a title", "one.webp", (name,), "dad"), "cab", 0, {"dad": (30, 40, 90)})
    for folder in ("a", "b"):
        made = make_scenes(tiny_pipeline, pipe, tmp_path / folder, recipes=[recipe], tries=2)
        assert made == [recipe.scene] == read_scenes(tmp_path / folder)
    assert (tmp_path / "a" / "one.webp").read_bytes() == (tmp_path / "b" / "one.webp").read_bytes()
    make_scenes(tiny_pipeline, pipe, tmp_path / "c", recipes=[Recipe(recipe.scene, "cab", 0, {})])
    bare, pasted = (np.asarray(Image.open(tmp_path / folder / "one.webp"), int) for folder in ("c", "a"))
    changed = np.argwhere(abs(bare - pasted).max(2) > 24)
    assert len(changed) > 500
    assert changed.min(0).tolist() >= [36, 26] and changed.max(0)[0] <= 134 and changed.max(0)[1] <= 124


def test_a_folder_without_scenes_has_none_and_a_damaged_index_is_said(tmp_path):
    assert read_scenes(tmp_path) == []
    (tmp_path / INDEX).write_text('[{"title": 3}]')
    with pytest.raises(UnreadableError, match="wanted an index"):
        read_scenes(tmp_path)
