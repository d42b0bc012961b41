"""What the small towers learn from and are judged on."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.imagebind.config import ImageBindConfig
from bind2gen.imagebind.embedding import encode_inputs
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.mini import sensed
from bind2gen.mini.data import Sample, load_imu, split
from bind2gen.mini.recipe import EMBED_DIM, SETTINGS, TOWERS
from bind2gen.mini.sensed import JUDGED, ZeroShot, items, source, synthetic_depth
from bind2gen.mini.shapes import SHAPES
from bind2gen.preprocess import depth, imu, thermal

CROPS, VIDEOS = 30, 15  # of each concept
KEPT_PERSON, OTHER_PERSON = "s03", "s01"


def grey(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)


def moved(t: int) -> np.ndarray:
    """(6,) of a phone that lies on its back and is moved a little."""
    return np.array([0, 0, 9.8, 0, 0, 0]) + 0.3 * np.sin(t / 20 + np.arange(6))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows, concepts = [], ("dog", "bird")
    with tarfile.open(folder / "crops.tar", "w") as tar:
        for number in range(2 * CROPS):
            concept, file = concepts[number // CROPS], io.BytesIO()
            Image.fromarray(grey(number)).save(file, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = file.tell()
            tar.addfile(member, io.BytesIO(file.getvalue()))
            video = f"{concept}_{number % VIDEOS}"
            rows.append({"path": member.name, "concept": concept, "modality": "thermal", "video": video})
    with open(folder / "crops.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    (folder / "imu").mkdir()
    for person in (KEPT_PERSON, OTHER_PERSON):
        with gzip.open(folder / f"imu/{person}_01.csv.gz", "wt", newline="") as file:
            table = csv.writer(file)
            table.writerow(["timestamp", "label", "x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro"])
            for t, label in enumerate(["WALKING"] * 301 + ["SEATED"] * 101):
                table.writerow([10 * t, label, *moved(t)])
    return folder


def test_no_video_is_both_trained_and_judged_and_pictures_are_read_as_the_product_reads_them(data):
    raws, judged = items(data, "thermal", JUDGED)
    concepts = [sample.concept for sample in judged]
    trained = source(data, "thermal")
    assert len(trained.samples) + len(concepts) == 2 * CROPS and set(concepts) == {"dog", "bird"}
    there = {sample.path for sample in trained.samples}
    kept = [number for number in range(2 * CROPS) if f"{number}.png" not in there]
    videos = {sample.row["video"] for sample in trained.samples}
    assert not videos & {f"{('dog', 'bird')[n // CROPS]}_{n % VIDEOS}" for n in kept}
    wanted = [thermal.transform(thermal.load(grey(n)), SETTINGS["thermal"]) for n in kept]
    assert torch.equal(torch.stack([thermal.transform(raw, SETTINGS["thermal"]) for raw in raws]), torch.stack(wanted))
    altered = trained.make(np.random.default_rng(0), np.arange(3))
    assert altered.shape == (3, 1, 1, 64, 64) and altered.min() >= 0 and altered.max() <= 1


def test_stretches_of_people_who_are_kept_are_what_a_users_file_of_them_gives(data, tmp_path):
    kept = split(load_imu(data))[JUDGED]
    assert list(kept.concepts()) == ["walking", "sitting"]
    assert [round(r.seconds, 1) for r in kept.recordings] == [3.0, 1.0]
    file = tmp_path / "walk.csv"
    rows = [",".join(map(str, [10 * t, *moved(t)])) for t in range(301)]
    file.write_text("\n".join(["timestamp,x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro", *rows]))
    settings = SETTINGS["imu"]
    users = imu.transform(imu.load(file, accelerometer_unit="m/s^2", gyroscope_unit="rad/s"), settings)
    ours = imu.transform(kept.recordings[0], settings)
    assert ours.shape == users.shape == (2, 6, 200) and torch.allclose(ours, users, atol=1e-3)
    assert {sample.row["person"] for sample in source(data, "imu").samples} == {OTHER_PERSON}


def test_a_recording_without_times_or_labels_is_refused(tmp_path):
    (tmp_path / "imu").mkdir()
    names = ["x_acc", "y_acc", "z_acc", "x_gyro", "y_gyro", "z_gyro"]
    for more, says in (([], "sampling_rate"), (["timestamp"], "columns timestamp .* and label")):
        with gzip.open(tmp_path / "imu/s01_01.csv.gz", "wt", newline="") as file:
            table = csv.writer(file)
            table.writerow([*more, *names])
            table.writerows([[10 * t][: len(more)] + list(moved(t)) for t in range(200)])
        with pytest.raises(InputError, match=says):
            load_imu(tmp_path)


def disparities(maps: list[depth.DepthMap]) -> torch.Tensor:
    return torch.stack([depth.transform(seen, SETTINGS["depth"]) for seen in maps])


def test_synthetic_depth_is_the_same_every_time_and_judged_on_other_views(monkeypatch, tmp_path):
    monkeypatch.setattr(sensed, "SHAPES", {name: SHAPES[name] for name in ("car", "clock")})
    monkeypatch.setattr(sensed, "DEPTH_VIEWS", (3, 2))
    maps, samples = synthetic_depth(3, 0)
    values = disparities(maps)
    assert [sample.concept for sample in samples] == ["car"] * 3 + ["clock"] * 3
    assert torch.equal(values, disparities(synthetic_depth(3, 0)[0])) and values.shape == (6, 1, 64, 64)
    assert values.flatten(1).std(1).min() > 0  # something is to be seen in each
    judged, rows = items(tmp_path, "depth", JUDGED)
    assert [sample.concept for sample in rows] == ["car"] * 2 + ["clock"] * 2
    assert (disparities(judged)[:, None] - values[None]).abs().flatten(2).amax(2).min() > 0
    assert source(tmp_path, "depth").make(np.random.default_rng(0), np.array([0, 5])).shape == (2, 1, 1, 64, 64)


def test_accuracy_is_told_of_all_of_the_mean_and_of_each_concept():
    """Captions lie where an untrained tower puts a light and a dark picture, so that it is right on their like."""
    torch.manual_seed(0)
    model = ImageBindModel(ImageBindConfig(EMBED_DIM, {"thermal": TOWERS["thermal"]})).eval()
    light, dark = (thermal.load(np.random.default_rng(k).integers(low, low + 80, (64, 64), np.uint8)) for k, low in
                   enumerate((170, 0)))  # fmt: skip
    processor = ImageBindProcessor.for_config(model.config, thermal=SETTINGS["thermal"])
    with torch.no_grad():
        seen = dict(zip(("bird", "dog"), encode_inputs(model, processor, "thermal", [light, dark]), strict=True))

    def embed_text(texts: list[str]) -> torch.Tensor:
        return torch.stack([seen["bird" if "bird" in text else "dog"] for text in texts])

    rows = [Sample(str(i), concept, {}) for i, concept in enumerate(["bird", "bird", "bird", "dog", "dog"])]
    found = ZeroShot("thermal", [light, light, light, dark, light], rows, embed_text)(model)
    assert found == pytest.approx(
        {"thermal_to_text_top1": 0.8, "thermal_to_text_mean_class": 0.75, "bird": 1.0, "dog": 0.5}
    )
