"""The stream: any step's batch follows from the seed alone, whoever reads it and wherever reading begins."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.errors import Bind2GenWarning, UnreadableError
from bind2gen.imagebind.config import TINY
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.train.recipe import AugmentPart, DataPart, Recipe, SchedulePart
from bind2gen.train.shards import open_pairs
from bind2gen.train.stream import Batches, PairDataset, sample_shapes

RECIPE = Recipe("thermal", 0.1, SchedulePart(batch_size=4, epochs=1, learning_rate=1e-3), data=DataPart(workers=0))


def stream(folder, recipe: Recipe = RECIPE, *, processes: int = 1, process: int = 0) -> Batches:
    torch.manual_seed(0)
    model = ImageBindModel(TINY(["image", "thermal"])).eval()
    pairs = open_pairs(folder, recipe.modality, recipe.anchor, split="train", by_concept=False, buffer=4)
    shapes = sample_shapes(model, recipe.modality, recipe.anchor)
    dataset = PairDataset(pairs, recipe, ImageBindProcessor.for_config(model.config), shapes)
    return Batches(dataset, model, processes=processes, process=process)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("inputs", "anchors", "groups"))


@pytest.mark.parametrize("form", ["csv", "shards"])
def test_a_restart_at_any_step_goes_on_with_the_same_samples(csv_folder, shard_folder, form):
    folder = csv_folder(7) if form == "csv" else shard_folder((4, 3))
    straight = stream(folder)
    batches = [straight.at(step) for step in range(6)]
    for step in (5, 2, 3):
        assert same(stream(folder).at(step), batches[step])
    assert same(straight.at(1), batches[1])  # back and forth in one stream, too
    assert not torch.equal(batches[0].inputs, batches[1].inputs)


def test_worker_processes_change_nothing(shard_folder):
    folder = shard_folder((5, 4))
    alone, helped = stream(folder), stream(folder, replace(RECIPE, data=DataPart(workers=2)))
    torch.manual_seed(4)
    before = torch.get_rng_state()
    assert all(same(alone.at(step), helped.at(step)) for step in (3, 4, 5))
    assert torch.equal(torch.get_rng_state(), before)  # what dropout draws does not depend on where reading began


def test_workers_that_are_told_to_stop_with_all_others_wait_for_the_stream_to_end(shard_folder):
    batches = stream(shard_folder((5, 4)), replace(RECIPE, data=DataPart(workers=1)))
    batches.at(0)
    for worker in batches._iterator._workers:
        for kind in (signal.SIGINT, signal.SIGTERM):
            os.kill(worker.pid, kind)
    assert len(batches.at(1).inputs) == len(batches.at(9).inputs) == 4


def test_workers_end_with_the_stream(shard_folder):
    """Not when garbage is collected, which waits five seconds for each."""
    batches = stream(shard_folder((5, 4)), replace(RECIPE, data=DataPart(workers=1)))
    batches.at(0)
    workers = batches._iterator._workers
    del batches
    assert workers and not any(worker.is_alive() for worker in workers)


def test_processes_share_the_batch_of_one(csv_folder):
    folder = csv_folder(6)
    whole = stream(folder).at(2)
    parts = [stream(folder, processes=2, process=rank).at(2) for rank in range(2)]
    assert torch.equal(torch.cat([p.inputs for p in parts]), whole.inputs)
    assert torch.equal(torch.cat([p.groups for p in parts]), whole.groups)
    assert torch.allclose(torch.cat([p.anchors for p in parts]), whole.anchors, atol=1e-6)


def test_every_pair_comes_once_in_each_pass(csv_folder):
    batches = stream(csv_folder(6))
    groups = torch.cat([batches.at(step).groups for step in range(6)]).tolist()  # 24 places: four passes
    passes = [groups[i : i + 6] for i in range(0, 24, 6)]
    assert all(sorted(p) == list(range(6)) for p in passes) and len({tuple(p) for p in passes}) > 1


def test_unreadable_samples_are_named_and_replaced(csv_folder):
    folder = csv_folder(8)
    (folder / "2_ir.png").write_bytes(b"no picture")
    (folder / "5.png").unlink()
    batches = stream(folder)
    with pytest.warns(Bind2GenWarning) as caught:
        groups = torch.cat([batches.at(step).groups for step in range(4)])
    words = sorted(str(w.message) for w in caught)
    assert len(words) == 2  # each is named once, though two passes met it
    assert "line 4 (2_ir.png): skipped" in words[0] and "its format is not known" in words[0]
    assert "line 7 (5_ir.png): skipped" in words[1] and "5.png: wanted a picture, there is no such file" in words[1]
    assert len(groups) == 16 and not {2, 5} & set(groups.tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)
        assert torch.equal(stream(folder).at(3).groups, groups[12:])  # the same ones come in their place


@pytest.mark.parametrize("broken", [3, 8])
def test_too_many_unreadable_samples_stop_the_run(csv_folder, broken):
    folder = csv_folder(8)
    for i in range(broken):
        (folder / f"{i}.png").write_bytes(b"")
    batches = stream(folder, replace(RECIPE, data=DataPart(workers=0, max_unreadable=2)))
    words = r"wanted at most 2 unreadable samples, met [3-8]: pairs.csv line \d.*the file is empty.*data.max_unreadable"
    with pytest.warns(Bind2GenWarning, match="skipped"), pytest.raises(UnreadableError, match=words):
        for step in range(4):
            batches.at(step)


def test_data_without_one_readable_sample_stops_the_run(csv_folder):
    folder = csv_folder(2)
    for path in folder.glob("*_ir.png"):
        path.unlink()
    with (
        pytest.warns(Bind2GenWarning, match="skipped"),
        pytest.raises(UnreadableError, match="met no readable one: pairs.csv line 2.*pairs.csv line 3|line 3.*line 2"),
    ):
        stream(folder, replace(RECIPE, data=DataPart(workers=0, max_unreadable=5))).at(0)


def test_aligned_pictures_get_one_crop(tmp_path):
    """Where infrared and photo are the same grey picture, their views are the same up to normalisation."""
    y, x = np.mgrid[:32, :32]
    Image.fromarray(((y * 37 + x * x * 11) % 256).astype(np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("image,thermal\na.png,a.png\n")
    gaps = {}
    for aligned in (True, False):
        part = AugmentPart(aligned=aligned, colour=0.0)
        batches = stream(tmp_path, replace(RECIPE, augment=part))
        batches.dataset.shapes = {"image": (3, 32, 32), "thermal": (1, 32, 32)}
        settings = batches.dataset.settings["image"]
        batches.dataset.settings["image"] = replace(settings, size=32)
        sample = batches.dataset[3]
        photo = sample.anchor[0, 0] * settings.std[0] + settings.mean[0]
        gaps[aligned] = float((photo - sample.input[0, 0]).abs().mean())
    assert gaps[True] < 1e-5 and gaps[False] > 0.02


def test_settings_of_a_row_reach_the_front_end(tmp_path):
    metres = np.full((40, 40), 2.0, np.float32)
    np.save(tmp_path / "d.npy", metres)
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text(
        "image,depth,depth.fx,depth.baseline\na.png,d.npy,300,0.1\na.png,d.npy,600,0.1\n"
    )
    model = ImageBindModel(TINY(["image", "depth"]))
    recipe = replace(RECIPE, modality="depth", augment=AugmentPart(inputs=False, anchors=False))
    pairs = open_pairs(tmp_path, "depth", "image", split="train", by_concept=False, buffer=1)
    processor = ImageBindProcessor.for_config(model.config)
    dataset = PairDataset(pairs, recipe, processor, sample_shapes(model, "depth", "image"))
    values = {sample.group: sample.input for sample in (dataset[0], dataset[1])}
    for row, fx in ((0, 300), (1, 600)):
        disparity = values[row] * processor.depth.std + processor.depth.mean
        assert torch.allclose(disparity, torch.tensor(0.1 * fx / 2.0 / processor.depth.max_disparity), atol=1e-5)


def test_a_settings_mistake_in_a_row_is_an_unreadable_sample(tmp_path, csv_folder):
    folder = csv_folder(2)
    table = (folder / "pairs.csv").read_text(encoding="utf-8-sig").replace("note", "thermal.size")
    (folder / "pairs.csv").write_text(table.replace('"a, b"', "16"))
    batches = stream(folder, replace(RECIPE, data=DataPart(workers=0, max_unreadable=0)))
    with (
        pytest.warns(Bind2GenWarning, match="thermal became"),
        pytest.raises(UnreadableError, match="the tower takes .1, 32, 32."),
    ):
        batches.at(0)
