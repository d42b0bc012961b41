"""The paper's sets in miniature, as they are published: what is read of them, in metres, pixels and seconds."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from bind2gen.errors import InputError, UnreadableError
from bind2gen.evaluate.paper import audioset, ego4d, esc50, llvip, nyu, places, sun_rgbd, vggsound
from bind2gen.evaluate.paper.contract import Item, PublishedSet
from bind2gen.preprocess.depth import DepthSettings, disparity_of

sys.path.insert(0, str(Path(__file__).parent))
import paper_folders as made  # noqa: E402

READERS = (sun_rgbd, nyu, llvip, ego4d, places, esc50, audioset, vggsound)


# ---- SUN RGB-D ----


def test_a_frame_of_sun_rgbd_is_metres_with_its_own_focal_length_and_its_sensors_baseline(tmp_path):
    millimetres = np.random.default_rng(0).integers(600, 7990, made.SIZE).astype(np.uint16)
    millimetres[:4, :4], millimetres[4:8, :4] = 8000, 31_000  # 31 m is stored with its highest bits at the end
    names = [f"{name}-0" for name in made.FRAMES]
    for number, name in enumerate(names):
        made.write_frame(tmp_path / "SUNRGBD", name, "kitchen", millimetres, 0, rows=number % 2 == 1)
    made.write_split(tmp_path, names, [])
    data = sun_rgbd.read(tmp_path)
    baselines = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}
    assert [item.group for item in data.items] == [name.split("/")[0] for name in names]
    for item in data.items:
        depth = item.load()
        assert (depth.fx, depth.baseline) == (pytest.approx(made.FOCAL[item.group]), baselines[item.group])
        wanted = np.minimum(millimetres, 8000) / 1000
        np.testing.assert_allclose(depth.metres.numpy(), wanted, atol=1e-6)
        # Pixels of disparity, over 75: 0.075 m x 518.86 px / 8 m = 4.864 px where it is farther than 8 m.
        far = baselines[item.group] * made.FOCAL[item.group] / 8 / 75
        assert float(disparity_of(depth, DepthSettings())[6, 2]) == pytest.approx(far, rel=1e-5)
    assert list(data.classes) == sorted(data.classes) and len(data.classes) == 19
    assert data.classes["dining_area"] == ("dining area",)


def test_frames_of_other_scenes_are_left_out_and_missing_ones_are_told(tmp_path):
    made.sun_rgbd(tmp_path, [(0, 0), (1, 1), (2, 2)], sun_rgbd.SCENES[:2] + ("cafeteria",))
    split = tmp_path / "SUNRGBDtoolbox"
    (tmp_path / "SUNRGBD" / f"{made.FRAMES[0]}-0" / "depth_bfx" / "0000103.png").unlink()
    data = sun_rgbd.read(tmp_path)
    assert [(item.labels, item.group) for item in data.items] == [(("bedroom",), "kv2")]
    assert data.notes == (
        f"1 of 3 frames are missing, the first is {made.FRAMES[0]}-0", "1 of 3 frames are of other scenes than the 19",
    )  # fmt: skip
    assert {item.labels[0] for item in data.training} == {"bathroom", "bedroom"} and len(data.training) == 4
    assert made.seen("image", data.pairs[0].photo()) == 1
    # The folder of the frames alone will do, with the toolbox beside it.
    assert len(sun_rgbd.read(tmp_path / "SUNRGBD").items) == 1 and split.is_dir()
    (tmp_path / "SUNRGBD" / f"{made.FRAMES[1]}-1" / "intrinsics.txt").write_text("none")
    with pytest.raises(UnreadableError, match="intrinsics.txt: wanted a camera matrix"):
        data.items[0].load()


# ---- NYU-v2 ----


def test_a_frame_of_nyu_lies_as_people_see_it_and_numbers_count_from_one(tmp_path):
    data = nyu.read(made.nyu(tmp_path, ["kitchen", "cafe", "home_office"], [3, 4, 5], [2, 3]))
    assert [item.labels for item in data.items] == [("others",), ("home_office",)]
    depth = data.items[0].load()
    assert depth.metres.shape == made.SIZE and (depth.fx, depth.baseline) == (518.857901, 0.075)
    wanted = np.full(made.SIZE, 1.8)
    wanted[:, :8] *= 1.01  # the strip is at the left
    np.testing.assert_allclose(depth.metres.numpy(), wanted, rtol=1e-6)
    photo = data.items[0].photo()
    assert photo.shape == (*made.SIZE, 3) and made.seen("image", photo) == 4
    assert len(data.classes) == 10 and len(data.classes["others"]) == 18
    assert data.classes["home_office"] == ("home office",)


# ---- LLVIP ----


def test_people_are_cut_out_as_annotated_and_backgrounds_are_as_large_and_meet_nobody(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60, (80, 100), np.uint8)
    boxes = [(10, 20, 22, 50), (70, 5, 90, 60)]
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = 224
    made.write_llvip(tmp_path, "190001", pixels, boxes, 3)
    data = llvip.read(tmp_path)
    assert [item.labels[0] for item in data.items] == ["person", "background"] * 2
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        person, other = (item.load().values[0] for item in data.items[2 * number : 2 * number + 2])
        assert person.shape == other.shape == (y1 - y0, x1 - x0)
        assert abs(255 * float(person.mean()) - 224) < 2 and float(other.max()) < 0.5  # JPEG blurs a little
    again = llvip.read(tmp_path)
    assert all(bool((a.load().values == b.load().values).all()) for a, b in zip(data.items, again.items, strict=True))
    (pair,) = data.pairs
    assert pair.load().values.shape == (1, 80, 100) and made.seen("image", pair.photo()) == 3
    assert data.classes["person"] == ("person", "man", "woman", "people")


def test_where_a_person_fills_the_picture_there_is_no_background(tmp_path):
    made.write_llvip(tmp_path, "190002", np.zeros((40, 30), np.uint8), [(1, 1, 29, 39)], 0)
    made.write_llvip(tmp_path, "190003", np.zeros((40, 30), np.uint8), [(1, 1, 9, 9)], 0)
    (tmp_path / "Annotations" / "190003.xml").unlink()
    (tmp_path / "visible" / "test" / "190003.jpg").unlink()
    data = llvip.read(tmp_path)
    assert [item.name for item in data.items] == ["190002 person 0"]
    assert data.notes == (
        "1 of 2 annotations are missing, the first is 190003", "1 of 1 backgrounds found no room",
        "1 of 2 photos are missing, the first is 190003",
    )  # fmt: skip
    (tmp_path / "Annotations" / "190002.xml").write_text("<annotation>")
    with pytest.raises(UnreadableError, match="190002.xml: wanted a VOC annotation"):
        llvip.read(tmp_path)


# ---- Ego4D ----


def ramp(seconds: float) -> np.ndarray:
    """Motion whose value is the time in s."""
    rows = made.motion(seconds, 0)
    rows[:, 1] = rows[:, 0] / 1000
    return rows


def test_windows_lie_around_narrated_moments_that_have_motion_all_through(tmp_path):
    rows = ramp(40)
    rows = rows[(rows[:, 0] < 20_000) | (rows[:, 0] > 24_000)]  # nothing from 20 to 24 s
    rows[[100, 101]] = rows[[101, 100]]  # packets out of order
    rows = np.concatenate([[[np.nan, 99.0]], rows, [[np.nan, 99.0]]])  # outside of the trimmed film
    made.write_film(tmp_path, "one", rows)
    made.write_film(tmp_path, "two", ramp(20))
    films = [("one", 40, ["Cooking"]), ("two", 20, ["Cooking", "Eating"]), ("gone", 20, ["Walking"])]
    made.write_ego4d(tmp_path, films, {"one": [1.0, 7.25, 18.0, 22.0, 39.0], "two": [8.0], "gone": [9.0]})
    data = ego4d.read(tmp_path)
    assert [item.name for item in data.items] == ["one 0.0 s", "one 4.8 s"]  # 15.5 to 20.5 s has a hole in it
    for item, start in zip(data.items, (0.0, 4.75), strict=True):
        motion = item.load()
        assert motion.seconds == pytest.approx(5, abs=0.01)
        assert motion.samples.shape == (6, 1000)
        np.testing.assert_allclose(motion.samples[0], start + np.arange(1000) / 200, atol=2e-3)
        assert motion.samples[2].mean() == pytest.approx(9.81) and motion.samples[3].mean() == pytest.approx(0.01)
    assert list(data.classes) == ["Cooking", "Eating", "Walking"]  # of all films
    assert data.notes == ("1 of 2 films' IMU files are missing, the first is gone",)


def test_without_narrations_windows_follow_each_other(tmp_path):
    made.write_film(tmp_path / "v2", "one", ramp(13))
    made.write_ego4d(tmp_path / "v2", [("one", 13, ["Cooking"])], None)
    data = ego4d.read(tmp_path)
    assert [round(float(item.load().samples[0, 0]), 2) for item in data.items] == [0, 5]
    assert data.notes == ("no annotations/narration.json: windows of 5 s follow each other",)


# ---- photos and sounds ----


def test_places_are_worded_as_people_say(tmp_path):
    categories = ["/a/airfield", "/a/apartment_building/outdoor"]
    data = places.read(made.places(tmp_path, [(0, 0), (1, 1), (1, 0)], categories))
    assert data.classes == {categories[0]: ("airfield",), categories[1]: ("outdoor apartment building",)}
    assert [(item.labels, made.seen("image", item.load())) for item in data.items] == [
        ((categories[0],), 0), ((categories[1],), 1), ((categories[0],), 1)
    ]  # fmt: skip
    (tmp_path / "val_256" / data.items[1].name).unlink()
    assert places.read(tmp_path).notes == ("1 of 3 photos are missing, the first is Places365_val_00000002.jpg",)
    (tmp_path / "places365_val.txt").write_text("a.jpg 2\n")
    with pytest.raises(UnreadableError, match="category 2"):
        places.read(tmp_path)


def test_sounds_are_found_by_the_names_that_they_are_given(tmp_path):
    for name in ("esc", "audioset", "vgg"):
        (tmp_path / name).mkdir()
    names = ["dog", "chirping_birds"]
    data = esc50.read(made.esc50(tmp_path / "esc", [(0, 0, 1), (1, 1, 5)], names))
    assert [(item.labels[0], item.group) for item in data.items] == [("dog", "1"), ("chirping_birds", "5")]
    assert data.classes["chirping_birds"] == ("chirping birds",) and data.folds and data.training == data.items
    folder = made.audioset(tmp_path / "audioset", [(k, [k % 2, 1]) for k in range(4)], ["Speech", "Male speech, man"])
    data = audioset.read(folder)
    assert [made.seen("audio", item.load()) for item in data.items] == [0, 1, 2, 3]
    assert data.items[0].labels == ("Speech", "Male speech, man") and data.notes == ()
    rows = [(0, 0, "test"), (1, 1, "test"), (2, 2, "train")]
    data = vggsound.read(made.vggsound(tmp_path / "vgg", rows, ["dog barking", "rain, heavy", "cat purring"]))
    assert [(made.seen("audio", item.load()), item.labels[0]) for item in data.items] == [
        (0, "dog barking"), (1, "rain, heavy")
    ]  # fmt: skip
    assert len(data.classes) == 3  # of both parts


# ---- all ----


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.split(".")[-1])
def test_a_folder_of_something_else_is_one_line_with_what_is_there(reader, tmp_path):
    for number in range(9):
        (tmp_path / f"photo{number}.jpg").touch()
    with pytest.raises(UnreadableError, match=r"is missing, found photo0.jpg, .* and 3 more") as error:
        reader.read(tmp_path)
    assert reader.LAYOUT in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("reader", "file", "content"),
    [
        (sun_rgbd, "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat", b"no matrix"), (nyu, "splits.mat", b"no matrix"),
        (nyu, "nyu_depth_v2_labeled.mat", b"no matrix"), (places, "places365_val.txt", b"a.jpg first\n"),
        (places, "categories_places365.txt", b"\xff 1\n"), (esc50, "meta/esc50.csv", b"filename,fold\na,1\n"),
        (audioset, "eval_segments.csv", b"a, start, end, labels\n"), (vggsound, "vggsound.csv", b"a,b\n"),
        (ego4d, "ego4d.json", b"[1]"), (ego4d, "annotations/narration.json", b'{"one": {"narration_pass_1": [1]}}'),
        (ego4d, "imu/one.csv", b"a,b\n1,2\n"),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_named(reader, file, content, tmp_path):
    made.sun_rgbd(tmp_path, [(0, 0)], sun_rgbd.SCENES[:1])
    made.nyu(tmp_path, ["kitchen"], [0], [1])
    made.places(tmp_path, [(0, 0)], ["/a/attic"])
    made.esc50(tmp_path, [(0, 0, 1)], ["dog"])
    made.audioset(tmp_path, [(0, [0])], ["Speech"])
    made.vggsound(tmp_path, [(0, 0, "test")], ["dog"])
    made.write_film(tmp_path, "one", ramp(6))
    made.write_ego4d(tmp_path, [("one", 6, ["Cooking"])], {"one": [3.0]})
    assert len(reader.read(tmp_path).items) == 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(
        UnreadableError, match=Path(file).name.split(".")[0] if reader is not nyu else "wanted"
    ) as error:
        reader.read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_labelled_file_is_told_of_as_a_whole_or_by_its_frame(tmp_path):
    made.nyu(tmp_path, ["kitchen", "office"], [1, 2], [1, 2])
    file = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(file, "r+") as opened:
        depths = opened["depths"][:]
        del opened["depths"]
        packed = opened.create_dataset("depths", data=depths, chunks=(1, *depths.shape[1:]), compression="gzip")
        place = packed.id.get_chunk_info(1).byte_offset
    content = bytearray(file.read_bytes())
    content[place + 4 : place + 12] = b"damaged!"
    file.write_bytes(content)
    first, second = nyu.read(tmp_path).items
    assert made.seen("depth", first.load()) == 1
    with pytest.raises(UnreadableError, match="nyu_depth_v2_labeled.mat: frame 2 cannot be read"):
        second.load()


def test_a_labelled_file_that_broke_off_is_told(tmp_path):
    made.nyu(tmp_path, ["kitchen"], [1], [1])
    file = tmp_path / "nyu_depth_v2_labeled.mat"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UnreadableError, match="wanted depths, images, sceneTypes and testNdxs"):
        nyu.read(tmp_path)


def test_a_part_of_a_set_is_the_same_each_time_and_unknown_groups_are_refused():
    items = [Item(str(k), ("a",), lambda: None, "kv1" if k % 2 else "xtion") for k in range(20)]
    data = PublishedSet({"a": ("a",)}, items, items, items)
    part = data.narrowed(["kv1"], 5)
    assert len(part.items) == 5 and {item.group for item in part.items} == {"kv1"}
    assert part.items == data.narrowed(["kv1"], 5).items == part.pairs and part.training == items
    with pytest.raises(InputError, match="group kv2: wanted one of kv1, xtion; did you mean kv1"):
        data.narrowed(["kv2"])


def test_an_infrared_picture_in_false_grey_is_read_as_grey(tmp_path):
    made.write_llvip(tmp_path, "1", np.full((20, 20), 100, np.uint8), [(2, 2, 8, 8)], 0)
    tinted = np.full((20, 20, 3), 100, np.uint8)
    tinted[..., 2] = 130  # by more than the tolerance of pictures whose palette is to be found out
    Image.fromarray(tinted).save(tmp_path / "infrared" / "test" / "1.jpg", quality=100)
    assert float(llvip.read(tmp_path).items[0].load().values.mean()) == pytest.approx(110 / 255, abs=0.01)
