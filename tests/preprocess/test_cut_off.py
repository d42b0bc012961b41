"""Pictures whose end is missing, and pictures as datasets hand them over undecoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bind2gen.errors import Bind2GenWarning, InputError, UnreadableError
from bind2gen.preprocess import audio, depth, image, thermal


def photo(grey: bool = False) -> Image.Image:
    small = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((200, 120), Image.Resampling.BICUBIC)
    return picture.convert("L") if grey else picture


def saved(picture: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2, 22])
def test_a_picture_that_lacks_its_last_bytes_is_read_with_a_warning(tmp_path, missing, progressive):
    data = saved(photo(), quality=90, progressive=progressive)
    path = tmp_path / "cut.jpg"
    path.write_bytes(data[:-missing])
    whole = np.asarray(image.load(data))
    for source in (path, data[:-missing], Image.open(path)):
        with pytest.warns(Bind2GenWarning, match="the file is cut off"):
            found = np.asarray(image.load(source))
        assert found.shape == whole.shape and np.array_equal(found[:64], whole[:64])
        if missing <= 2:  # of the mark at the end
            assert np.array_equal(found, whole)
    grey = saved(photo(grey=True), quality=90)
    with pytest.warns(Bind2GenWarning, match="cut off"):
        found = thermal.load(grey[:-missing])
    assert np.array_equal(found.values[0, :64], thermal.load(grey).values[0, :64])


def test_rows_that_are_missing_are_counted_and_many_are_refused():
    data = saved(photo(), quality=95, subsampling=0)
    with pytest.warns(Bind2GenWarning, match=r"cut off; 8 of its 120 rows stay grey"):
        found = np.asarray(image.load(data[: int(0.91 * len(data))]))
    assert (found[-8:] == 128).all()
    for load in (image.load, thermal.load):
        with pytest.raises(UnreadableError, match=r"bytes: .*cut off: \d\d of its 120 rows are missing; copy it again"):
            load(data[: len(data) // 2])


def test_an_undecoded_picture_of_datasets_is_the_picture():
    data = saved(photo(), "PNG")
    for source in ({"bytes": data, "path": "a.png"}, {"bytes": data, "path": None}, {"bytes": bytearray(data)}):
        assert np.array_equal(np.asarray(image.load(source)), np.asarray(photo()))
    grey = photo(grey=True)
    assert (thermal.load({"bytes": saved(grey, "PNG"), "path": None}).values == thermal.load(grey).values).all()
    metres = np.random.default_rng(0).integers(500, 5000, (12, 16)).astype(np.uint16)
    found = depth.load({"bytes": saved(Image.fromarray(metres), "PNG")}, sensor="xtion").metres
    assert np.allclose(found, metres / 1000)


def test_an_undecoded_input_is_named_by_its_path(tmp_path, write_sound, sine):
    path = tmp_path / "a.png"
    path.write_bytes(saved(photo(), "PNG"))
    assert image.load({"bytes": None, "path": str(path)}).size == (200, 120)
    with pytest.raises(UnreadableError, match="^b.png: wanted a picture, its format"):
        image.load({"bytes": b"no picture", "path": "b.png"})
    for wrong, words in (({"array": 1}, "got array"), ({}, "got no keys"), ({"bytes": "text"}, "got str")):
        with pytest.raises(InputError, match=f"dict: wanted bytes .*{words}"):
            image.load(wrong)
    sound = write_sound(tmp_path / "a.m4a", sine(1.0, 16_000), 16_000)
    read = audio.load({"bytes": sound.read_bytes(), "path": "a.m4a"})
    assert read.name == "a.m4a" and (read.samples == audio.load(sound).samples).all()
