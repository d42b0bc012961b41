"""Our towers against outputs of the reference implementation on the same made-up parameters and inputs."""

from __future__ import annotations

import gc
from pathlib import Path

import cases
import numpy as np
import pytest
import torch

FLOAT32 = 1e-5  # relative error; 1e-6 is measured
BFLOAT16 = 2e-2
CASES = ("text", "image", "video", "audio", "depth", "thermal", "imu")
TOWERS = {name: (name,) for name in ("text", "audio", "depth", "thermal", "imu")} | {"vision": ("image", "video")}


@pytest.mark.parametrize("case", CASES)
def test_small_towers_give_the_reference_output(case):
    model = cases.filled_model("small", [case])
    with torch.inference_mode():
        got = model.encode(case, cases.inputs("small")[case], reference_scale=True)
    assert cases.relative_error(got, np.load(cases.GOLDEN["small"])[case]) < FLOAT32


@pytest.fixture(scope="module", params=TOWERS)
def full_tower(request):
    """One tower of the released size at a time; the vision tower alone is 2.5 GB."""
    model = cases.filled_model("huge", [request.param])
    yield request.param, model
    del model
    gc.collect()


@pytest.mark.full_size
def test_full_size_towers_give_the_reference_output(full_tower):
    tower, model = full_tower
    golden = np.load(cases.GOLDEN["huge"])
    with torch.inference_mode():
        for case in TOWERS[tower]:
            got = model.encode(case, cases.inputs("huge")[case], reference_scale=True)
            assert cases.relative_error(got, golden[case]) < FLOAT32, case
        if tower == "text":  # real sentences: non-Latin, empty, too long
            ids = torch.from_numpy(golden["recorded.text.tokens"])[:, None]
            got = model.encode("text", ids, reference_scale=True)
            assert cases.relative_error(got, golden["recorded.text.embed"]) < FLOAT32


@pytest.mark.full_size
@pytest.mark.parametrize("full_tower", ["vision", "audio"], indirect=True)
def test_full_size_towers_on_the_reference_sample_files(full_tower, recorded_inputs: Path):
    tower, model = full_tower
    recorded = np.load(recorded_inputs)
    with torch.inference_mode():
        if tower == "vision":
            got = model.encode("image", torch.from_numpy(recorded["vision.pixel_values"]).float()[:, None])
        else:
            got = model.encode("audio", torch.from_numpy(recorded["audio.mel"]), reference_scale=True)
    assert cases.relative_error(got, np.load(cases.GOLDEN["huge"])[f"recorded.{tower}.embed"]) < FLOAT32


@pytest.mark.full_size
def test_full_size_towers_in_bfloat16_stay_near_the_reference(full_tower):
    tower, model = full_tower
    half = cases.cast(model, torch.bfloat16)
    golden = np.load(cases.GOLDEN["huge"])
    with torch.inference_mode():
        for case in TOWERS[tower]:  # the last of each batch: many processors lack bfloat16 and take ten times as long
            x, wanted = cases.inputs("huge")[case][-1:], golden[case][-1:]
            if case == "video":  # the reference's is the mean of three views; one will do
                x = x[:, :1]
                wanted = model.encode(case, x, reference_scale=True).numpy()
            got = half.encode(case, x, reference_scale=True)
            assert cases.relative_error(got, wanted) < BFLOAT16, case
