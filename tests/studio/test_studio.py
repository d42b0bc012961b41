"""The studio on the toy pipeline: what visitors get, in what order, and what they cannot do to each other."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.errors import EmptyInputError, InputError, ModalityError, TooLargeError, UnreadableError
from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.space.arithmetic import normalize, slerp, subtract
from bind2gen.space.everyday import EVERYDAY_WORDS, NAMES_FILE, words_of
from bind2gen.space.vocabulary import Vocabulary
from bind2gen.studio import Drawing, Limits, Progress, Slide, Studio, denoising
from bind2gen.studio.animation import there_and_back
from bind2gen.studio.words import NearestWords

RATE = 16_000  # Hz
WORDS = ("a", "bee", "cab", "dad")
PATIENCE = 30  # s, before a test that waits for a thread gives up


@pytest.fixture(scope="module")
def studio(tiny_pipeline):
    studio = Studio(tiny_pipeline, words=WORDS, batch_size=2)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(3 * RATE) / 6), RATE)
    return str(path)


def last(news):
    return list(news)[-1]


def pixels(pictures):
    return np.stack([np.asarray(picture, dtype=int) for picture in pictures])


# ---- drawing ----


def test_a_drawing_is_what_the_pipeline_draws_of_the_same_blend(studio, sound, tiny_pipeline):
    weights = {"audio": 0.8, "text": 0.4}
    call = dict(seed=3, steps=3, guidance=2.0, pictures=3)
    drawing = last(studio.draw({"audio": sound, "text": " a cab "}, weights=weights, **call))
    assert isinstance(drawing, Drawing) and drawing.seeds == (3, 4, 5) and not drawing.stopped
    output = tiny_pipeline(
        audio=sound, text="a cab", weights=weights, num_inference_steps=3, guidance_scale=2.0, num_images_per_prompt=3,
        generator=[torch.Generator().manual_seed(seed) for seed in drawing.seeds],
    )  # fmt: skip
    assert abs(pixels(drawing.pictures) - pixels(output.images)).max() <= 1
    embeds = tiny_pipeline.embed(image=list(drawing.pictures))["image"]
    cosines = (embeds @ normalize(output.image_embeds).T)[:, 0]
    assert drawing.round_trip == pytest.approx(cosines.tolist(), abs=1e-5)


def test_progress_counts_every_step_of_every_batch_and_previews_grow(studio, sound, monkeypatch):
    monkeypatch.setattr(denoising, "PAUSE", 0)
    news = list(studio.draw({"audio": sound}, steps=6, pictures=3))
    assert [item.step for item in news[:-1]] == [0, *range(1, 7), *range(7, 13)]  # two batches: of two and of one
    assert {item.steps for item in news[1:-1]} == {12}
    shown = [len(item.pictures) for item in news[:-1]]
    assert shown[0] == 0 and max(shown[1:7]) == 2 and max(shown[7:]) == 3
    assert news[11].pictures[0].tobytes() == news[-1].pictures[0].tobytes()  # a finished batch is shown as it is


def test_words_of_a_text_are_that_text(studio):
    assert next(iter(studio.hear({"text": "dad"}))) == "dad"
    heard = studio.hear({"text": "dad"})
    assert list(heard.values()) == sorted(heard.values(), reverse=True)
    assert sum(heard.values()) == pytest.approx(1, abs=1e-5)


def test_nearest_words_are_softmax_of_scaled_cosines_after_the_adapter(tiny_pipeline):
    nearest = NearestWords.for_pipeline(tiny_pipeline, WORDS)
    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    cosines = normalize(vectors) @ nearest.vectors.T
    scale = tiny_pipeline.imagebind.logit_scale("text").item()
    assert torch.allclose(nearest.probabilities(7 * vectors), (scale * cosines).softmax(1), atol=1e-5)
    assert nearest.first(nearest.vectors) == WORDS
    with pytest.raises(InputError, match="at least two"):
        NearestWords.for_pipeline(tiny_pipeline, ["a"])


def test_what_is_heard_is_told_before_anchors_make_one_thing_of_it(studio, sound, tiny_pipeline, monkeypatch):
    width = tiny_pipeline.imagebind.config.embed_dim
    means = dict.fromkeys(("image", "audio", "text"), torch.zeros(width))
    parts = {"maps": {"audio": torch.eye(width)}}
    monkeypatch.setattr(tiny_pipeline, "adapter", EmbeddingAdapter.from_means(means, **parts))
    heard = studio.hear({"audio": sound})
    anchor = torch.eye(width)[:1]
    monkeypatch.setattr(tiny_pipeline, "adapter", EmbeddingAdapter.from_means(means, **parts, anchors=(anchor, anchor)))
    drawn = last(studio.draw({"audio": sound}, steps=1))
    assert drawn.heard == studio.hear({"audio": sound}) == pytest.approx(heard, abs=1e-4)


def test_names_beside_an_encoder_take_the_place_of_everyday_words(tiny_pipeline, tmp_path):
    """With the embeddings that lie there: nothing is embedded again."""
    assert words_of(tmp_path) == EVERYDAY_WORDS and len(set(EVERYDAY_WORDS)) == len(EVERYDAY_WORDS)
    vectors = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    Vocabulary(("bee", "cab"), vectors).save(tmp_path / NAMES_FILE)
    nearest = NearestWords.for_pipeline(tiny_pipeline, words_of(tmp_path))
    assert nearest.words == ("bee", "cab")
    assert torch.allclose(nearest.vectors, tiny_pipeline.adapter.shift("text", normalize(vectors)), atol=1e-6)


def test_notes_tell_what_was_assumed(studio, tmp_path):
    soundfile.write(tmp_path / "still.wav", np.zeros(RATE), RATE)
    drawing = last(studio.draw({"audio": str(tmp_path / "still.wav")}, steps=1))
    assert len(drawing.notes) == 1 and drawing.notes[0].startswith("still.wav: the sound is silent")


def test_depth_maps_take_a_camera_by_name(studio, tmp_path):
    Image.fromarray(np.full((48, 64), 2000, np.uint16)).save(tmp_path / "wall.png")
    inputs = {"depth": str(tmp_path / "wall.png")}
    known = studio.hear(inputs, depth_sensor="kinect_v2")
    assert known != studio.hear(inputs, depth_sensor="realsense_d435")
    with pytest.raises(InputError, match="depth camera: wanted one of kinect_v1"):
        studio.hear(inputs, depth_sensor="eye")


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_depth_map_of_eight_bits_is_taken_for_a_drawing_and_that_is_told(studio, tmp_path, kind):
    picture = Image.fromarray(np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1)))
    picture.save(tmp_path / f"drawn.{kind}")
    inputs = {"depth": str(tmp_path / f"drawn.{kind}")}
    drawing = last(studio.draw(inputs, depth_sensor="kinect_v1", steps=1))
    assert any("taken for a drawing in which white is near" in note for note in drawing.notes)
    told = last(studio.draw(inputs, depth_sensor="drawn", steps=1))
    assert told.heard == drawing.heard and len(told.notes) == len(drawing.notes) - 1


def test_of_a_long_sound_the_beginning_is_heard_and_that_is_told(studio, tmp_path):
    rng = np.random.default_rng(0)
    loud = rng.uniform(-0.5, 0.5, 61 * RATE)
    soundfile.write(tmp_path / "long.wav", loud, RATE)
    soundfile.write(tmp_path / "cut.wav", loud[: 60 * RATE], RATE)
    long, cut = (last(studio.draw({"audio": str(tmp_path / name)}, steps=1)) for name in ("long.wav", "cut.wav"))
    assert long.notes == ("long.wav: only the first 60 s were heard, the rest was cut off", *cut.notes)
    assert long.heard == cut.heard and long.pictures[0].tobytes() == cut.pictures[0].tobytes()


# ---- what is refused ----


def bomb(path):
    Image.new("1", (14_000, 14_000)).save(path)


BAD = {
    "text.wav": (lambda path: path.write_text("no sound " * 50), "audio", UnreadableError),
    "empty.wav": (lambda path: path.write_bytes(b""), "audio", EmptyInputError),
    "bomb.png": (bomb, "image", TooLargeError),
    "bomb16.png": (bomb, "thermal", TooLargeError),
    "text.png": (lambda path: path.write_text("no picture"), "image", UnreadableError),
    "text.csv": (lambda path: path.write_text("no motion"), "imu", InputError),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_is_one_line_that_names_the_file_and_no_folder(name, studio, tmp_path):
    make, modality, kind = BAD[name]
    make(tmp_path / name)
    with pytest.raises(kind) as caught:
        list(studio.draw({modality: str(tmp_path / name)}))
    message = str(caught.value)
    assert message.startswith(name) and str(tmp_path) not in message
    assert "\n" not in message and "Settings" not in message
    assert not studio.worker.busy


def test_requests_out_of_range_are_refused_before_any_work(studio, sound):
    for call in ({"steps": 51}, {"pictures": 5}, {"seed": -1}, {"guidance": 99}):
        with pytest.raises(InputError, match="wanted"):
            list(studio.draw({"audio": sound}, **call))
    with pytest.raises(InputError, match="nothing was given for the picture"):
        list(studio.draw({"audio": None, "text": "  "}))
    with pytest.raises(InputError, match="nothing was given for the second thing"):
        list(studio.slide({"text": "a"}, {}))
    with pytest.raises(InputError, match="amount"):
        list(studio.slide({"text": "a"}, {"text": "b"}, amount=2))
    with pytest.raises(ModalityError, match="smell"):
        list(studio.draw({"smell": sound}))


# ---- slides ----


def test_a_slide_goes_along_the_sphere_with_one_seed(studio, sound, tiny_pipeline):
    slide = last(studio.slide({"text": "a bee"}, {"audio": sound}, pictures=3, amount=0.4, seed=5, steps=2, guidance=2))
    assert isinstance(slide, Slide) and slide.fractions == (0.0, 0.5, 1.0) and len(slide.words) == 3
    one, two = (normalize(tiny_pipeline.condition(tiny_pipeline.embed(**x))) for x in (
        {"text": "a bee"}, {"audio": sound}))  # fmt: skip
    rows = torch.cat([one, slerp(one, two, 0.5), two, subtract(one, two, 0.4), subtract(two, one, 0.4)])
    output = tiny_pipeline(
        image_embeds=rows, num_inference_steps=2, guidance_scale=2,
        generator=[torch.Generator().manual_seed(5) for _ in rows],
    )  # fmt: skip
    assert abs(pixels(slide.pictures + slide.differences) - pixels(output.images)).max() <= 1
    assert slide.words[0] == tiny_words(studio, one)


def tiny_words(studio, row):
    return studio.words.first(row)[0]


def test_a_slide_between_equal_things_has_no_differences(studio):
    slide = last(studio.slide({"text": "a"}, {"text": "a"}, pictures=2, amount=1.0, steps=1))
    assert len(slide.pictures) == 2 and slide.differences == ()
    assert abs(np.diff(pixels(slide.pictures), axis=0)).max() <= 1


def test_the_animation_shows_every_picture_there_and_back():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    with Image.open(io.BytesIO(there_and_back([Image.new("RGB", (32, 32), c) for c in colours]))) as moving:
        seen = []
        for frame in range(moving.n_frames):
            moving.seek(frame)
            seen.append(moving.convert("RGB").getpixel((16, 16)))
        assert moving.info["loop"] == 0
    nearest = [min(range(3), key=lambda k: sum(abs(a - b) for a, b in zip(c, colours[k], strict=True))) for c in seen]
    order = [k for i, k in enumerate(nearest) if i == 0 or nearest[i - 1] != k]
    assert order == [0, 1, 2, 1, 0][: len(order)] and set(order) == {0, 1, 2}


def test_large_pictures_move_small():
    with Image.open(io.BytesIO(there_and_back([Image.new("RGB", (800, 400), c) for c in ("red", "blue")]))) as moving:
        assert moving.size == (384, 192)


# ---- stopping, many at once ----


def test_stopping_ends_after_the_step_at_hand_and_gives_what_there_is(studio, sound):
    news, seen = studio.draw({"audio": sound}, steps=50, pictures=2, session="me"), []
    for item in news:
        seen.append(item)
        if isinstance(item, Progress) and item.step == 4:
            assert not studio.stop("somebody else")
            assert studio.stop("me")
    drawing = seen[-1]
    assert drawing.stopped and len(drawing.pictures) == len(drawing.round_trip) == 2
    assert len(seen) < 50
    assert not studio.stop("me") and not studio.worker.busy
    again = last(studio.draw({"audio": sound}, steps=2, session="me"))
    assert not again.stopped  # the next drawing is not affected


def test_who_leaves_stops_his_drawing(studio, sound):
    news = studio.draw({"audio": sound}, steps=50, session="gone")
    assert next(news).step == 0
    news.close()
    assert not studio.worker.busy
    assert not last(studio.draw({"text": "a"}, steps=1)).stopped


def test_many_visitors_at_once_get_their_own_pictures(studio):
    wanted = [last(studio.draw({"text": "abcdefgh"[k]}, seed=k, steps=2)).pictures[0] for k in range(8)]
    got = [None] * 8

    def visit(k):
        got[k] = last(studio.draw({"text": "abcdefgh"[k]}, seed=k, steps=2, session=str(k))).pictures[0]

    threads = [threading.Thread(target=visit, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert abs(pixels(got) - pixels(wanted)).max() == 0


def test_limits_of_ones_own(tiny_pipeline):
    strict = Studio(tiny_pipeline, words=WORDS, limits=Limits(steps=2, characters=3))
    with pytest.raises(InputError, match="steps: wanted a whole number from 1 to 2, got 20"):
        list(strict.draw({"text": "a"}))
    with pytest.raises(TooLargeError, match="3 characters"):
        list(strict.draw({"text": "abcd"}, steps=1))
    strict.warm()
    strict.close()
