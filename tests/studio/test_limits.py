"""What visitors may ask for: every bound holds, and what is refused is said in their words."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from bind2gen.errors import EmptyInputError, InputError, TooLargeError, UnreadableError
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.depth import DepthSettings
from bind2gen.preprocess.image import ImageSettings
from bind2gen.preprocess.imu import ImuSettings
from bind2gen.studio import limits
from bind2gen.studio.limits import MAX_SEED, Limits, for_visitors, seed_of, weights_of


def test_an_upload_is_read_under_its_own_name_and_no_folder_shows(tmp_path):
    path = tmp_path / "a b.wav"
    path.write_bytes(b"12345")
    file = Limits().upload(path)
    assert (file.read(), file.name) == (b"12345", "a b.wav")
    path.write_bytes(b"")
    with pytest.raises(EmptyInputError, match=r"^a b\.wav: the file is empty"):
        Limits().upload(path)
    with pytest.raises(UnreadableError, match=r"^gone\.wav: cannot be read"):
        Limits().upload(tmp_path / "gone.wav")


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path):
    with open(tmp_path / "huge.wav", "wb") as file:
        file.truncate(500 << 20)  # sparse
    with pytest.raises(TooLargeError, match=r"^huge\.wav: wanted at most 20 MB, got 500 MB"):
        Limits().upload(tmp_path / "huge.wav")
    with open(tmp_path / "exact.wav", "wb") as file:
        file.truncate(20 << 20)
    assert len(Limits().upload(tmp_path / "exact.wav").getvalue()) == 20 << 20


def test_decoding_is_bounded_by_the_stricter_of_limit_and_setting():
    strict = Limits(seconds=60, motion_seconds=600, pixels=1000)
    assert strict.settings("audio", AudioSettings()).max_seconds == 60
    assert strict.settings("audio", AudioSettings(max_seconds=5)).max_seconds == 5
    assert strict.settings("imu", ImuSettings()).max_seconds == 600
    assert strict.settings("image", ImageSettings()).max_pixels == 1000
    assert strict.settings("depth", DepthSettings()) == DepthSettings()


@pytest.mark.parametrize(
    ("call", "good", "bad"),
    [
        (Limits().steps_of, {1: 1, 50.0: 50}, (0, 51, 2.5, "3", None, True, float("nan"))),
        (Limits().pictures_of, {1: 1, 4: 4}, (0, 5, -1)),
        (Limits().slide_of, {2: 2, 9: 9}, (1, 10)),
        (Limits().guidance_of, {None: None, 0: 0, 20: 20, 7.5: 7.5}, (-1, 21, "x", float("inf"))),
        (seed_of, {0: 0, MAX_SEED: MAX_SEED}, (-1, MAX_SEED + 1, 0.5)),
    ],
)
def test_numbers_hold_to_their_range(call, good, bad):
    assert {value: call(value) for value in good} == good
    for value in bad:
        with pytest.raises(InputError, match="wanted") as caught:
            call(value)
        assert ".." not in str(caught.value) and "e+" not in str(caught.value)


def test_weights_count_for_what_is_given_only():
    sliders = {"audio": 0.7, "text": 9e9, "image": None}
    assert weights_of(sliders, {"audio": ...}) == {"audio": 0.7}
    assert weights_of(None, {"audio": ..., "text": ...}) == {"audio": 1.0, "text": 1.0}
    with pytest.raises(InputError, match="weight of text"):
        weights_of(sliders, {"audio": ..., "text": ...})
    with pytest.raises(InputError, match="at least one above zero, among audio"):
        weights_of({"audio": -1}, {"audio": ...})


def test_a_long_text_is_refused_and_blanks_do_not_count():
    assert Limits(characters=3).text("  abc ") == "abc"
    with pytest.raises(TooLargeError, match="at most 3 characters, got 4"):
        Limits(characters=3).text("abcd")


def test_a_sound_of_far_too_many_channels_is_refused_before_memory_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_VALUES", 4000)
    soundfile.write(tmp_path / "many.wav", np.zeros((600, 8)), 8000)
    with pytest.raises(TooLargeError, match=r"^many\.wav: 8 channels are too many; mix them down to one or two$"):
        Limits().sound(tmp_path / "many.wav", AudioSettings())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("a.wav: 99 s; cut it, or raise max_seconds in AudioSettings", "a.wav: 99 s; cut it"),
        ("x; shrink it, or raise max_pixels in ImageSettings and PIL.Image.MAX_IMAGE_PIXELS", "x; shrink it"),
        ("a.wav: wanted a sound", "a.wav: wanted a sound"),
        ("d.png: all lies beyond 9 m; is the unit right (unit=)?", "d.png: all lies beyond 9 m; is the unit right?"),
        ("d.png: multiples of eight; say encoding='sun_rgbd' if it is one", "d.png: multiples of eight"),
        (
            "m.csv: 700 s of motion; cut it, stream it with embed_timeline, or raise max_seconds in ImuSettings",
            "m.csv: 700 s of motion; cut it",
        ),
        (
            "m.csv: row 5 has no time; remove such rows, or give sampling_rate= in Hz",
            "m.csv: row 5 has no time; remove such rows",
        ),
        (
            "a_b.csv: no accelerometer among x_1, y_1; name them, e.g. columns={'time': 't'}",
            "a_b.csv: no accelerometer among x_1, y_1",
        ),
        (
            "m.csv: no gyroscope in it; pass (accelerometer file, gyroscope file), or missing_gyroscope='zeros' in "
            "ImuSettings",
            "m.csv: no gyroscope in it",
        ),
    ],
)
def test_visitors_get_no_advice_for_programmers(ours, theirs):
    assert for_visitors(ours) == theirs
