"""``fit-map``: pictures by two encoders, an adapter that another space's host takes, and going on after a stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from bind2gen.space.adapter import EmbeddingAdapter
from bind2gen.train.maps.spaces import LEAST_PICTURES, TargetEncoder

WIDTH = 48
KILLED = """
import os, signal, sys
from bind2gen.cli import main
from bind2gen.train.maps.spaces import TargetEncoder
embed, seen = TargetEncoder.embed, []
def until_the_fifth(self, pictures):
    seen.append(len(pictures)) if len(seen) < 4 else os.kill(os.getpid(), signal.SIGKILL)
    return embed(self, pictures)
TargetEncoder.embed = until_the_fifth
main(sys.argv[1:])
"""  # as where the machine goes off


@pytest.fixture(scope="module")
def there(tmp_path_factory, make_kandinsky) -> Path:
    """Photos, one broken, another encoder, and a host that takes its embeddings."""
    folder, noise = tmp_path_factory.mktemp("map"), np.random.default_rng(0)
    (folder / "photos").mkdir()
    for k in range(LEAST_PICTURES + 5):
        small = Image.fromarray(noise.integers(0, 256, (3, 3, 3), np.uint8))
        small.resize((32, 32)).save(folder / "photos" / f"{k:03}.png")
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=WIDTH,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "other")
    make_kandinsky("kandinsky", width=WIDTH).save_pretrained(folder / "host")
    return folder


def test_pictures_make_an_adapter_by_which_another_spaces_host_draws(run, there, tiny_folder, tmp_path, monkeypatch):
    words = ["fit-map", "--images", there / "photos", "--to", there / "other", "--imagebind", tiny_folder / "imagebind"]
    words += ["--batch-size", "8", "--out", tmp_path / "map"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    embed, seen = TargetEncoder.embed, [8] * 4
    monkeypatch.setattr(TargetEncoder, "embed", lambda self, p: seen.append(len(p)) or embed(self, p))
    code, out, err = run(*words, "--json")
    assert code == 1 and "broken.png" in err, err  # left out, listed
    assert sum(seen) == LEAST_PICTURES + 5  # none was embedded twice
    assert not (tmp_path / "map" / "embedded").exists() and len(json.loads(out)["skipped"]) == 1
    adapter = EmbeddingAdapter.from_pretrained(tmp_path / "map")
    assert adapter.width == WIDTH and set(adapter.config.encoder) == {"vision"} and adapter.negative is not None
    drawn = ["generate", "--host", there / "host", "--imagebind", tiny_folder / "imagebind", "--adapter"]
    drawn += [tmp_path / "map", "--image", there / "photos" / "000.png", "--steps", "2", "--out", tmp_path / "x.png"]
    code, _, err = run(*drawn, "-q")
    assert code == 0, err
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 1


def test_what_is_no_clip_or_too_few_or_another_encoders_is_one_line(run, there, tiny_folder, tmp_path):
    few = sorted((there / "photos").glob("00*.png"))
    EmbeddingAdapter(24).save_pretrained(tmp_path / "narrow")
    other = EmbeddingAdapter.from_means({"image": torch.ones(32)})
    other.register_to_config(encoder={"vision": [1.0] * 8})
    other.save_pretrained(tmp_path / "other")
    given = ["--images", there / "photos", "--to", there / "other", "--adapter"]
    for words, told in (
        (["--images", there / "photos", "--to", there / "photos"], "wanted a CLIP image encoder"),
        (["--images", *few, "--to", there / "other"], f"wanted at least {LEAST_PICTURES}"),
        (["--images", there / "nothing", "--to", there / "other"], "no such file"),
        ([*given, tmp_path / "narrow"], "made for embeddings of width 24, the encoder's are 32"),
        ([*given, tmp_path / "other"], "measured on another encoder; measure one on this"),
    ):
        code, _, err = run("fit-map", *words, "--model", tiny_folder, "--out", tmp_path / "map", "-q")
        assert code == 1 and told in err and "Traceback" not in err, err
