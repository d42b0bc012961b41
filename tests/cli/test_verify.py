"""``bind2gen verify`` with a toy encoder against tables that NumPy computes from its embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.imagebind import published
from bind2gen.imagebind.processor import ImageBindProcessor

RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    """Files of the right names, sounds of several clips each."""
    folder, noise = tmp_path_factory.mktemp("assets"), np.random.default_rng(0)
    for k, (picture, sound) in enumerate(zip(published.FILES["image"], published.FILES["audio"], strict=True)):
        Image.fromarray(noise.integers(0, 256, (40, 50, 3), np.uint8)).save(folder / picture)
        # Short, and off zero: the reference's overlapping clips change each other then.
        soundfile.write(folder / sound, 0.3 + 0.1 * noise.standard_normal((6 + k) * RATE // 10), RATE)
    return folder


@pytest.fixture(scope="module")
def encoder(make_imagebind, tmp_path_factory) -> Path:
    model, folder = make_imagebind(), tmp_path_factory.mktemp("encoder")
    model.save_pretrained(folder)
    ImageBindProcessor.for_config(model.config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tables(make_imagebind, assets) -> dict[tuple[str, str], np.ndarray]:
    """Clip by clip: unit norm, times the reference's factor, mean; then products and softmax, in double precision."""
    model = make_imagebind()
    processor = ImageBindProcessor.for_config(model.config, audio={"policy": "reference"})
    rows = {}
    for name, given in {"text": list(published.TEXTS), **published.FILES}.items():
        given = given if name == "text" else [str(assets / file) for file in given]
        rows[name] = []
        for one in given:  # alone, so that nothing pads
            (clips,) = processor(**{name: [one]}).values()
            with torch.no_grad():
                unit = model.encode(name, clips, pool=False)[0].double().numpy()
            rows[name].append((unit * model.logit_scale(name).item()).mean(0))
    products = {pair: np.stack(rows[pair[0]]) @ np.stack(rows[pair[1]]).T for pair in published.PUBLISHED}
    powers = {pair: np.exp(x - x.max(1, keepdims=True)) for pair, x in products.items()}
    return {pair: x / x.sum(1, keepdims=True) for pair, x in powers.items()}


def test_sounds_are_cut_as_the_reference_cuts_them(make_imagebind, assets, tables):
    model, apart = make_imagebind(), {}
    for policy in ("reference", "even"):
        processor = ImageBindProcessor.for_config(model.config, audio={"policy": policy})
        found = published.similarity_tables(model, processor, assets)  # whatever its own is
        apart[policy] = max(abs(found[pair].double().numpy() - table).max() for pair, table in tables.items())
    assert max(apart.values()) < 1e-6


def put(monkeypatch, tables, *, off: float = 0.0) -> None:
    """Publish ``tables``, rounded; ``off`` is added to one value of the last."""
    made = {}
    for number, (pair, table) in enumerate(tables.items()):
        rows = np.round(table, 4)
        rows[1, 2] += off * (number == len(tables) - 1)
        made[pair] = published.Table(tuple(map(tuple, rows.tolist())), 4)
    monkeypatch.setattr(published, "PUBLISHED", made)


def test_an_installation_that_gives_the_numbers_says_so(run, assets, encoder, tables, monkeypatch):
    put(monkeypatch, tables)
    words = ["verify", "--imagebind", encoder, "--assets", assets]
    code, stdout, stderr = run(*words, "--json")
    found = json.loads(stdout)
    assert (code, stderr, found["agrees"]) == (0, "", True)
    assert [one["decimals"] for one in found["tables"]] == [4, 4, 4]
    for one in found["tables"]:
        assert abs(np.array(one["here"]) - tables[one["rows"], one["columns"]]).max() < 1e-5
    code, stdout, _ = run(*words)
    assert code == 0 and "Vision x Audio (published | here): 4 of 4 decimals agree" in stdout
    assert stdout.strip().endswith("gives the published numbers here")


@pytest.mark.parametrize(("off", "decimals", "code"), [(0.0004, 3, 0), (0.004, 2, 1), (0.2, 0, 1)])
def test_a_difference_is_measured_in_decimals(run, assets, encoder, tables, monkeypatch, off, decimals, code):
    put(monkeypatch, tables, off=off)
    got, stdout, stderr = run("verify", "--imagebind", encoder, "--assets", assets, "--json")
    found = json.loads(stdout)
    assert got == code and [one["decimals"] for one in found["tables"]] == [4, 4, decimals]
    assert found["tables"][2]["difference"] == pytest.approx(off, abs=1e-4)
    if code:
        assert stderr.count("\n") == 1 and "does not give the published numbers (Vision x Audio)" in stderr


def test_other_weights_do_not_pass(run, assets, encoder):
    code, stdout, stderr = run("verify", "--imagebind", encoder, "--assets", assets)
    assert code == 1 and "Vision x Text, Audio x Text, Vision x Audio" in stderr and "gives the" not in stdout


def test_all_missing_files_are_named_at_once(run, assets, encoder, tmp_path):
    for file in ("dog_image.jpg", "car_audio.wav"):
        (tmp_path / file).write_bytes((assets / file).read_bytes())
    code, stdout, stderr = run("verify", "--imagebind", encoder, "--assets", tmp_path)
    missing = ("car_image.jpg", "bird_image.jpg", "dog_audio.wav", "bird_audio.wav")
    assert (code, stdout, stderr.count("\n")) == (1, "", 1) and all(name in stderr for name in missing)
    assert "dog_image.jpg" not in stderr and "car_audio.wav" not in stderr
    assert run("verify", "--imagebind", encoder, "--assets", tmp_path / "none")[0] == 1


def test_published_rows_are_shares():
    for table in published.PUBLISHED.values():
        for row in table.values:
            assert sum(row) == pytest.approx(1, abs=1.5 * 10**-table.decimals)
