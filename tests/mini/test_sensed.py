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

from bind2gen.mini import sensed
from bind2gen.mini.data import IMU_COLUMNS
from bind2gen.mini.recipe import IMU_SAMPLES, thermal_settings
from bind2gen.mini.sensed import HeldOut, held_out_items, source, synthetic_depth
from bind2gen.mini.shapes import SHAPES
from bind2gen.preprocess import thermal

CROPS, VIDEOS = 30, 15  # of each concept
KEPT_PERSON, OTHER_PERSON = "s03", "s01"


def grey(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)


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
            table.writerow(["timestamp", "label", *IMU_COLUMNS])
            for t, label in enumerate(["WALKING"] * 301 + ["SEATED"] * 101):
                table.writerow([10 * t, label, *(np.arange(6) + 1 + t)])
    return folder


def test_no_video_is_both_trained_and_judged_and_pictures_are_read_as_the_product_reads_them(data):
    inputs, concepts = held_out_items(data, "thermal")
    trained = source(data, "thermal")
    assert len(trained.samples) + len(concepts) == 2 * CROPS and set(concepts) == {"dog", "bird"}
    there = {sample.path for sample in trained.samples}
    kept = [number for number in range(2 * CROPS) if f"{number}.png" not in there]
    videos = {sample.row["video"] for sample in trained.samples}
    assert not videos & {f"{('dog', 'bird')[n // CROPS]}_{n % VIDEOS}" for n in kept}
    wanted = [thermal.transform(thermal.load(grey(n)), thermal_settings()) for n in kept]
    assert torch.equal(torch.cat(inputs)[:, 0], torch.stack(wanted))
    altered = trained.make(np.random.default_rng(0), np.arange(3))
    assert altered.shape == (3, 1, 1, 64, 64) and altered.min() >= 0 and altered.max() <= 1


def test_movements_of_people_who_are_kept_are_cut_or_padded(data):
    (clips,), concepts = held_out_items(data, "imu")
    assert clips.shape == (2, 1, 6, IMU_SAMPLES) and list(concepts) == ["walking", "sitting"]
    assert torch.equal(clips[0, 0, 0], torch.arange(1.0, IMU_SAMPLES + 1))
    length = int((clips[1, 0] != 0).any(0).sum())
    assert 95 <= length <= 101 and clips[1, 0, :, length:].abs().max() == 0
    assert {sample.row["person"] for sample in source(data, "imu").samples} == {OTHER_PERSON}


def test_synthetic_depth_is_the_same_every_time_and_judged_on_other_views(monkeypatch, tmp_path):
    monkeypatch.setattr(sensed, "SHAPES", {name: SHAPES[name] for name in ("car", "clock")})
    monkeypatch.setattr(sensed, "DEPTH_VIEWS", (3, 2))
    values, samples = synthetic_depth(3, 0)
    assert [sample.concept for sample in samples] == ["car"] * 3 + ["clock"] * 3
    assert torch.equal(values, synthetic_depth(3, 0)[0]) and values.shape == (6, 1, 64, 64)
    assert values.flatten(1).std(1).min() > 0  # something is to be seen in each
    (judged,), concepts = held_out_items(tmp_path, "depth")
    assert list(concepts) == ["car"] * 2 + ["clock"] * 2
    assert (judged[:, 0, None] - values[None]).abs().flatten(2).amax(2).min() > 0
    assert source(tmp_path, "depth").make(np.random.default_rng(0), np.array([0, 5])).shape == (2, 1, 1, 64, 64)


def test_accuracy_is_told_of_all_of_the_mean_and_of_each_concept():
    class Model:
        def encode(self, modality: str, x: torch.Tensor) -> torch.Tensor:
            assert modality == "thermal"
            return x[:, 0]

    embeds = torch.tensor([[1.0, 0.1], [0.9, 0.2], [0.8, 0.1], [0.3, 0.9], [0.9, 0.1]])[:, None]
    concepts = np.array(["bird", "bird", "bird", "dog", "dog"])
    judge = HeldOut("thermal", list(embeds.split(2)), concepts, lambda names: torch.eye(2))
    found = judge(Model())
    assert found == pytest.approx(
        {"thermal_to_text_top1": 0.8, "thermal_to_text_mean_class": 0.75, "bird": 1.0, "dog": 0.5}
    )
