"""``bind2gen detect``: what is printed and drawn is what the pipeline finds; what does not go together is said."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.cli.detect import DATASETS
from bind2gen.hosts.boxes.detic import DeticConfig, DeticDetector, DeticModel
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.pipelines.calibration import Calibration
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.space.adapter import EmbeddingAdapter

LOW = 1e-6  # an untrained detector is sure of nothing


@pytest.fixture(scope="session")
def folder(tiny_folder, tmp_path_factory):
    """The toy pipeline with a toy detector in the encoder's space."""
    folder = tmp_path_factory.mktemp("with detector") / "toy"
    shutil.copytree(tiny_folder, folder)
    width = json.loads((folder / "imagebind" / "config.json").read_text())["embed_dim"]
    torch.manual_seed(0)
    config = DeticConfig(
        "resnet", (1, 1, 1, 1), (8, 8, 8, 8), fpn_width=16, fc_width=16, mask_width=0, embed_dim=width,
        norm_groups=4, short_side=64, long_side=96, stage_weights=(10.0,), proposals=20,
    )  # fmt: skip
    DeticDetector(DeticModel(config)).save_pretrained(folder / "detector")
    Calibration(threshold=LOW).save(folder / "detector")
    return folder


@pytest.fixture(scope="session")
def long_sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "long.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16_000 * 7), 16_000)
    return path


def test_what_is_told_is_what_the_pipeline_finds(run, folder, media, tmp_path):
    out = tmp_path / "boxes.png"
    argv = ["--image", media / "noise.png", "--audio", media / "low.wav", "--text", "a dog", "--model", folder]
    code, told, err = run("detect", *argv, "--out", out, "--json")
    assert (code, err) == (0, ""), err
    (row,) = json.loads(told)["pictures"]
    pipe = ImageBindDetectionPipeline.from_pretrained(folder)
    found = pipe(media / "noise.png", audio=str(media / "low.wav"), text="a dog", max_detections=100)
    assert found.labels == ("low", "a dog") and len(found) > 0
    assert [box["label"] for box in row["boxes"]] == list(found.names)
    assert np.allclose([box["xyxy"] for box in row["boxes"]], found.xyxy, atol=0.051)
    assert np.allclose([box["score"] for box in row["boxes"]], found.scores, atol=1e-4)
    drawn = Image.open(out)
    assert row["out"] == str(out) and drawn.width / drawn.height == pytest.approx(50 / 40, rel=0.1)


def test_thresholds_are_the_calibrated_ones_unless_told_otherwise(run, folder, media):
    argv = ["detect", "--image", media / "noise.png", "--text", "a dog", "--model", folder]
    assert run(*argv)[1].count(" at ") > 0
    code, out, _ = run(*argv, "--threshold", "0.999")
    assert code == 0 and out.strip().endswith("nothing found")


def test_mixed_prompts_are_one_and_differ_from_the_plain_one(run, folder, media):
    argv = ["detect", "--image", media / "noise.png", "--model", folder, "--json", "--audio", media / "low.wav"]
    plain, together, against = (
        json.loads(run(*argv, *more)[1])["pictures"][0]["boxes"]
        for more in ([], ["--text", "a dog", "--together"], ["--not-text", "a car"])
    )
    assert len({box["label"] for box in together}) == 1
    assert [b["score"] for b in plain] != [b["score"] for b in together] != [b["score"] for b in against]


def test_a_timeline_has_a_row_a_window(run, folder, media, long_sound):
    code, out, err = run(
        "detect", "--image", media / "noise.png", "--audio", long_sound, "--timeline", "--json", "--model", folder
    )
    assert (code, err) == (0, ""), err
    rows = json.loads(out)["windows"]
    assert rows[0]["start"] == 0 and rows[-1]["end"] == pytest.approx(7.0, abs=0.01)
    assert all(a["start"] < b["start"] for a, b in zip(rows, rows[1:], strict=False))
    assert any(row["boxes"] for row in rows)


def test_a_video_is_searched_frame_by_frame(run, folder, tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            pixels = np.full((48, 64, 3), 12 * i, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    code, out, err = run("detect", "--video", path, "--text", "a dog", "--every", "0.5", "--json", "--model", folder)
    assert (code, err) == (0, ""), err
    rows = json.loads(out)["frames"]
    assert [row["time"] for row in rows] == [0.0, 0.5, 1.0, 1.5]
    assert all(isinstance(box["track"], int) for row in rows for box in row["boxes"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "--image or --video"),
        (["--image", "{noise}"], "nothing to look for"),
        (["--image", "{noise}", "--text", "a", "--timeline"], "--timeline: wanted one --image and one --audio"),
        (["--image", "{noise}", "--text", "a", "--route", "words"], "add --detector"),
        (["--image", "{noise}", "--text", "a", "--detector", "grid"], "add --route rescoring"),
        (["--image", "{noise}", "--text", "a", "--class-map", "x"], "is for --route map"),
        (["--image", "{noise}", "--text", "a", "--detector", "x", "--route", "map"], "fit-class-map"),
        (["--image", "{noise}", "{noise}", "--text", "a", "--out", "x.png"], "name a folder"),
        (["--image", "{noise}", "--text", "a", "--imagebind", "x"], "add --detector"),
        (["--image", "{noise}", "--text", "a", "--adapter", "x"], "--adapter: the model's own detector brings"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(run, media, argv, words):
    code, _, err = run("detect", *[word.format(noise=media / "noise.png") for word in argv])
    assert code == 2 and words in err and err.count("\n") == 1


def test_missing_and_broken_files_are_one_line(run, folder, media, tiny_folder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for argv, words in (
        (["--image", broken, "--text", "a", "--model", folder], "broken.png"),
        (["--image", tmp_path / "no.png", "--text", "a", "--model", folder], "no such file"),
        (["--image", media / "noise.png", "--text", "a", "--model", tiny_folder], "found none"),
        (["--image", media / "noise.png", "--text", "a", "--detector", tmp_path / "x.pth"], "no Detic .pth"),
        (["--image", media / "noise.png", "--text", " ", "--model", folder], "empty"),
    ):
        code, _, err = run("detect", *argv)
        assert code == 1 and words in err and err.count("\n") == 1, err


def test_rescoring_finds_what_is_there_and_says_no_to_the_rest(run):
    """With the bundled encoder, on a picture of a clock, a bird and a cat."""
    picture = Path(__file__).parents[2] / "demos" / "pictures" / "three.webp"
    words = ["a cat", "a clock", "a train", "a cow", "a keyboard"]
    code, out, err = run("detect", "--image", picture, "--text", *words, "--route", "rescoring", "--json")
    assert (code, err) == (0, ""), err
    assert {box["label"] for box in json.loads(out)["pictures"][0]["boxes"]} == {"a cat", "a clock"}


def test_windows_and_rescoring_need_no_detector(run, folder, media):
    code, out, err = run(
        "detect", "--image", media / "noise.png", "--text", "a dog", "--detector", "grid", "--route", "rescoring",
        "--model", folder, "--threshold", "0.0", "--json",
    )  # fmt: skip
    assert (code, err) == (0, ""), err
    assert len(json.loads(out)["pictures"][0]["boxes"]) > 0


def test_an_adapter_that_was_measured_moves_prompts_of_its_own_encoder(run, folder, media, tmp_path, capsys):
    encoder, noise = ImageBindModel.from_pretrained(folder, subfolder="imagebind"), torch.Generator().manual_seed(0)
    means = {name: torch.randn(encoder.config.embed_dim, generator=noise) / 8 for name in ("image", "text")}
    adapter = EmbeddingAdapter.from_means(means)
    argv = ["detect", "--image", media / "noise.png", "--text", "a dog", "--model", folder, "--json"]
    argv += ["--detector", "grid", "--route", "rescoring", "--threshold", "0.0"]
    found = {}
    capsys.readouterr()  # what loading says
    for name in ("own", "gap"):
        if name == "gap":
            adapter.claim(encoder)
            adapter.save_pretrained(tmp_path / "gap")
            argv += ["--adapter", tmp_path / "gap"]
        code, out, err = run(*argv)
        assert (code, err) == (0, ""), err
        found[name] = np.array([box["score"] for box in json.loads(out)["pictures"][0]["boxes"]])
    assert len(found["own"]) != len(found["gap"]) or abs(found["own"] - found["gap"]).max() > 1e-4
    with torch.no_grad():
        for weight in encoder.towers["text"].parameters():
            weight.add_(1.0)
    other = EmbeddingAdapter.from_means(means)
    other.claim(encoder)
    other.save_pretrained(tmp_path / "gap")
    capsys.readouterr()
    code, _, err = run(*argv)
    assert code == 0 and err.count("\n") == 1 and "those of another encoder" in err, err


@pytest.fixture
def pictures(media, tmp_path):
    """Two pictures of different sizes, and one that cannot be read between them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(media / "noise.png", folder / "c.png")
    Image.open(media / "noise.png").resize((64, 30)).convert("RGB").save(folder / "a.jpg")
    (folder / "b.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture, and not taken for one")
    return folder


def test_a_folder_gives_a_row_a_picture_in_order_and_goes_on_after_a_broken_one(run, folder, pictures, tmp_path):
    argv = ["detect", pictures, "--text", "a dog", "--model", folder, "--json", "--out", tmp_path / "out"]
    code, out, err = run(*argv)
    told = json.loads(out)
    assert (
        code == 1 and "1 of 3 inputs" in err and [one["input"] for one in told["skipped"]] == [str(pictures / "b.png")]
    )
    assert [row["image"] for row in told["pictures"]] == [str(pictures / "a.jpg"), str(pictures / "c.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    for row in told["pictures"]:
        alone = json.loads(run("detect", row["image"], *argv[2:6], "--json")[1])["pictures"][0]
        assert row["boxes"] and row["boxes"] == alone["boxes"]
    code, out, err = run(*argv[:-2], "--no-keep-going")
    assert code == 1 and "b.png" in err and "--keep-going" in err


def test_a_list_gives_a_list_one_by_one_or_together(folder, pictures):
    pipe = ImageBindDetectionPipeline.from_pretrained(folder)
    files = [pictures / "a.jpg", pictures / "c.png", pictures / "a.jpg"]
    alone = [pipe(file, text="a dog", max_detections=5) for file in files]
    assert pipe(files, text="a dog", max_detections=5) == alone and alone[0] == alone[2] != alone[1]
    calls = []
    together = pipe.detector.encode_images
    pipe.detector.encode_images = lambda images: calls.append(len(images)) or together(images)
    batched = pipe(files, text="a dog", max_detections=5, batch_size=2)
    assert calls == [2, 1] and [found.image_size for found in batched] == [found.image_size for found in alone]
    assert pipe([], text="a dog") == []


@pytest.mark.parametrize("form", DATASETS)
def test_a_data_set_holds_the_boxes_that_were_found(run, folder, pictures, tmp_path, form):
    dataset = pytest.importorskip("supervision").DetectionDataset
    (pictures / "b.png").unlink()
    out = tmp_path / "set"
    argv = ["detect", pictures, "--text", "a dog", "a cat", "--model", folder, "--dataset", form, "--out", out]
    code, told, err = run(*argv, "--json")
    assert (code, err) == (0, ""), err
    read = {
        "coco": lambda: dataset.from_coco(str(out / "images"), str(out / "annotations.json")),
        "yolo": lambda: dataset.from_yolo(str(out / "images"), str(out / "labels"), str(out / "data.yaml")),
        "voc": lambda: dataset.from_pascal_voc(str(out / "images"), str(out / "annotations")),
    }[form]()
    rows = json.loads(told)["pictures"]
    assert json.loads(told)["dataset"] == str(out)
    assert len(read) == len(rows) == 2
    for row in rows:
        [found] = [boxes for name, boxes in read.annotations.items() if Path(name).name == Path(row["image"]).name]
        names = [read.classes[i] for i in found.class_id]
        assert sorted(names) == sorted(box["label"] for box in row["boxes"]) != []
        wanted = sorted(box["xyxy"] for box in row["boxes"])
        assert np.allclose(sorted(found.xyxy.tolist()), wanted, atol=1.06)  # VOC has whole pixels
    code, _, err = run(*argv)
    assert code == 1 and "wanted a new or an empty folder" in err
    shutil.copy(pictures / "a.jpg", pictures / "a.jpeg")
    assert "two pictures of one name" in run(*argv)[2]
