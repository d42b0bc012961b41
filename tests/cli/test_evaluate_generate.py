"""``eval generate``: the figures are those of the library on the encoder's and on other networks' embeddings."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from bind2gen.evaluate.generation import distances, likeness
from bind2gen.files.films import save_film
from bind2gen.train.maps.spaces import TargetEncoder

COUNT, RATE = 4, 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four tones, a picture and a photo for each, all in one csv; and films of two of them in another."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    rows = ["sound,made,real"]
    for k in range(COUNT):
        wave = 0.3 * np.sin(2 * np.pi * 300 * (k + 1) * np.arange(2 * RATE) / RATE)
        soundfile.write(folder / f"{k}.wav", wave, RATE)
        for kind in ("made", "real"):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{kind}-{k}.png")
        rows.append(f"{k}.wav,made-{k}.png,real-{k}.png")
    (folder / "pairs.csv").write_text("\n".join(rows))
    for k in range(2):
        frames = [Image.fromarray(np.full((32, 32, 3), 20 * number, np.uint8)) for number in range(8)]
        save_film(folder / f"{k}.mp4", frames[:: 1 - 2 * k], fps=4)
    (folder / "films.csv").write_text("sound,made\n0.wav,0.mp4\n1.wav,1.mp4\n")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
        projection_dim=24,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def scored(run, tiny_folder, *words) -> dict:
    code, stdout, stderr = run("eval", "generate", "--model", tiny_folder, *words, "--json")
    assert (code, stderr) == (0, ""), stderr
    return json.loads(stdout)


def close(found: dict, wanted: object) -> bool:
    return all(found[name] == pytest.approx(value, abs=1e-3) for name, value in asdict(wanted).items())


def test_without_other_networks_all_is_in_the_encoders_space(run, tiny_folder, tiny_pipeline, folder, tmp_path):
    told = scored(run, tiny_folder, "--pairs", folder / "pairs.csv", "--out", tmp_path / "x.json")
    assert scored(run, tiny_folder, "--pairs", folder / "pairs.csv", "--out", tmp_path / "x.json") == told
    assert json.loads((tmp_path / "x.json").read_text()) == told
    files = {name: [str(folder / f"{name}-{k}.png") for k in range(COUNT)] for name in ("made", "real")}
    sounds = tiny_pipeline.embed(audio=[str(folder / f"{k}.wav") for k in range(COUNT)])["audio"]
    made, real = (tiny_pipeline.embed(image=files[name])["image"] for name in ("made", "real"))
    name, metrics = told["model"], told["metrics"]
    assert list(metrics) == [
        f"ImageBind score ({name})", f"the same, real pictures ({name})", f"IIS ({name}, not CLIP)",
        f"distances ({name})",
    ]  # fmt: skip
    wanted = likeness(sounds, made), likeness(sounds, real), likeness(made, real), distances(made, real)
    assert all(close(found, one) for found, one in zip(metrics.values(), wanted, strict=True))
    assert told["pairs"] == COUNT and told["made"] == "image"


def test_clip_by_its_folder(run, tiny_folder, folder, clip):
    metrics = scored(run, tiny_folder, "--pairs", folder / "pairs.csv", "--clip", clip)["metrics"]
    target = TargetEncoder(clip)
    made, real = (
        target.embed([Image.open(folder / f"{name}-{k}.png") for k in range(COUNT)]) for name in ("made", "real")
    )
    assert close(metrics["IIS (CLIP)"], likeness(made, real))
    assert close(metrics["distances (CLIP)"], distances(made, real))
    assert not any("not CLIP" in name for name in metrics)


def test_films_are_seen_as_films_and_it_is_said_how(run, tiny_folder, tiny_pipeline, folder):
    told = scored(run, tiny_folder, "--pairs", folder / "films.csv")
    settings = tiny_pipeline.processor.video
    assert told["made"] == "video"
    assert told["video"] == {"clips": settings.num_clips, "frames": settings.num_frames, "crops": settings.num_crops}
    films = [str(folder / f"{k}.mp4") for k in range(2)]
    rows = tiny_pipeline.embed(audio=[str(folder / f"{k}.wav") for k in range(2)], video=films)
    [found] = told["metrics"].values()
    assert found["cosine"] == pytest.approx(likeness(rows["audio"], rows["video"]).cosine, abs=1e-3)


def test_the_table_names_every_figure(run, tiny_folder, folder):
    code, stdout, _ = run("eval", "generate", "--model", tiny_folder, "--pairs", folder / "pairs.csv")
    assert code == 0 and stdout.startswith("4 pairs by pipe")
    assert all(words in stdout for words in ("ImageBind score", "real pictures", "not CLIP", "Fréchet"))


@pytest.mark.parametrize(
    ("table", "words", "code", "message"),
    [
        (None, [], 1, "wanted a csv with the columns sound and made (No such file"),
        ("sound,picture\n", [], 1, "made is missing"),
        ("sound,made\n", [], 1, "wanted a row a picture"),
        ("sound,made\n0.wav,nothing.png\n", [], 1, "nothing.png: no such file"),
        ("sound,made\n0.wav,made-0.png\n1.wav,0.mp4\n", [], 1, "holds films and pictures"),
        ("sound,made\n0.wav,made-0.png\n", ["--wav2clip", "x.pt"], 1, "--wav2clip x.pt: no such file"),
        ("sound,made\n0.wav,made-0.png\n", ["--wav2clip", "HERE"], 2, "--wav2clip: wanted --clip too"),
        ("sound,made\n0.wav,made-0.png\n", ["--clip", "missing"], 1, "missing"),
    ],
)
def test_bad_pairs_are_one_line(table, words, code, message, run, tiny_folder, folder):
    file = folder / "bad.csv"
    file.unlink(missing_ok=True)
    if table is not None:
        file.write_text(table)
    words = [str(folder / "0.wav") if word == "HERE" else word for word in words]
    got, stdout, stderr = run("eval", "generate", "--model", tiny_folder, "--pairs", file, *words)
    assert (got, stdout) == (code, "") and message in stderr and stderr.count("\n") == 1
