"""Our encoder on mteb's own task classes: answers known beforehand, and mteb's wrapper of the reference beside it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import bind2gen
from bind2gen.errors import InputError, ModalityError
from bind2gen.imagebind.config import HUGE_TOWERS, ImageBindConfig
from bind2gen.imagebind.embedding import embed_inputs
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import ImageBindProcessor
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.mel import log_mel

mteb = pytest.importorskip("mteb", minversion="2.26", reason="pip install 'bind2gen[mteb]'")
import datasets  # noqa: E402
from mteb.models.model_implementations.imagebind_models import ImageBindWrapper  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from bind2gen.evaluate import harness  # noqa: E402
from bind2gen.evaluate.mteb import HUGE, MINI, TRAINED_ON, ImageBindEncoder  # noqa: E402

NEAR = {"atol": 2e-6, "rtol": 0}
RATE = 16_000  # Hz
ESC = type(mteb.get_task("ESC50_Zeroshot"))
LABELS = ESC().get_candidate_labels()


@pytest.fixture(scope="module")
def thin() -> ImageBindEncoder:
    """The released model's inputs and blocks, few and narrow, in made-up weights."""
    small = {
        "vision": dict(width=32, depth=1, heads=2), "text": dict(width=16, depth=1, heads=2),
        "audio": dict(width=24, depth=1, heads=2),
    }  # fmt: skip
    torch.manual_seed(0)
    model = ImageBindModel(ImageBindConfig(24, {name: replace(HUGE_TOWERS[name], **s) for name, s in small.items()}))
    return ImageBindEncoder(model, ImageBindProcessor(audio=AudioSettings(policy="reference")))


def waves(count: int) -> list[np.ndarray]:
    """Sounds of 7 s, each with hums of its own."""
    times = np.arange(7 * RATE) / RATE
    rng = np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * 2 ** rng.uniform(6, 12) * times + k) * rng.uniform(0.05, 0.2) for k in range(3 * count)]
    return [sum(tones[3 * k : 3 * k + 3]).astype(np.float32) for k in range(count)]


def sounds_table(sounds: list[np.ndarray], **columns: list) -> datasets.Dataset:
    """Decoded sounds, as mteb's wrappers take them without torchcodec."""
    return datasets.Dataset.from_dict({"audio": [{"array": x, "sampling_rate": RATE} for x in sounds], **columns})


def zero_shot(sounds: list[np.ndarray], targets: list[int]) -> mteb.AbsTask:
    task = ESC()
    task.dataset, task.data_loaded = datasets.DatasetDict(train=sounds_table(sounds, target=targets)), True
    return task


def embedded(encoder: ImageBindEncoder, **inputs: list) -> dict[str, torch.Tensor]:
    return embed_inputs(encoder.module.model, encoder.module.front_ends, inputs)


def accuracy(scores: list[harness.Score]) -> float:
    (one,) = scores
    assert (one.metric, one.paper, one.wrapper) == ("accuracy", 0.669, 0.664)
    return one.score


# ---- answers that are known ----


def test_zero_shot_counts_the_sounds_whose_nearest_label_is_theirs(thin):
    sounds = waves(8)
    found = embedded(thin, audio=[(x, RATE) for x in sounds], text=LABELS)
    nearest = (found["audio"] @ found["text"].T).argmax(1).tolist()
    wrong = [(nearest[k] + 1 + k) % len(LABELS) for k in range(3)]
    assert accuracy(harness.run_task(thin, zero_shot(sounds, wrong + nearest[3:]), batch_size=3)) == 5 / 8


def test_retrieval_counts_what_is_found_among_the_first(thin):
    sounds = waves(12)
    task = mteb.get_task("AudioCapsT2ARetrieval")
    captions = [f"a sound like number {k}" for k in range(4)]
    found = embedded(thin, audio=[(x, RATE) for x in sounds], text=captions)
    ranked = (found["text"] @ found["audio"].T).argsort(1, descending=True).tolist()
    places = (0, 0, 4, 11)  # of the right sound: two are first, a third is among the first ten
    corpus = sounds_table(sounds, id=[f"s{k}" for k in range(12)])
    queries = datasets.Dataset.from_dict({"id": [f"q{k}" for k in range(4)], "text": captions})
    relevant = {f"q{k}": {f"s{ranked[k][place]}": 1} for k, place in enumerate(places)}
    split = {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": None}
    task.dataset, task.data_loaded = {"default": {"test": split}}, True
    first, ten = harness.run_task(thin, task)
    assert (first.metric, first.score, first.paper) == ("hit_rate_at_1", 2 / 4, 0.093)
    assert (ten.metric, ten.score, ten.paper, ten.wrapper) == ("hit_rate_at_10", 3 / 4, 0.423, 0.416)


def test_several_modalities_of_an_item_are_added_and_some_may_lack(thin):
    pictures = [Image.fromarray(np.full((30, 40, 3), 60 * k, np.uint8)) for k in range(3)]
    words = ["a dog", "a cat", None]
    features = datasets.Features(text=datasets.Value("string"), image=datasets.Image(), label=datasets.Value("int64"))
    table = datasets.Dataset.from_dict({"text": words, "image": pictures, "label": [0, 1, 2]}, features=features)
    got = thin.encode(DataLoader(table, batch_size=2))
    found = embedded(thin, text=words[:2], image=pictures)
    wanted = found["image"].clone()
    wanted[:2] = F.normalize(found["text"] + found["image"][:2], dim=-1)
    np.testing.assert_allclose(got, wanted.numpy(), **NEAR)
    with pytest.raises(ModalityError, match="wanted a column of text, image, video, audio|text, image, audio"):
        thin.encode(DataLoader(table.select_columns("label"), batch_size=2))


# ---- mteb's wrapper of the reference ----


def stub_modules(encoder: ImageBindEncoder) -> dict[str, ModuleType | SimpleNamespace]:
    """What that wrapper imports, under the reference's names: our model in its scale, and our text and spectrograms."""
    model, plain = encoder.module.model, AudioSettings(mean=0, std=1)
    kinds = SimpleNamespace(TEXT="text", VISION="vision", AUDIO="audio")

    class Reference(torch.nn.Module):
        def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            clips = {name: x if name == "audio" else x[:, None] for name, x in inputs.items()}
            return {name: model.encode(name, x, reference_scale=True) for name, x in clips.items()}

    def spectrogram(clip: torch.Tensor, rate: int, bins: int, frames: int) -> torch.Tensor:
        assert (rate, bins, frames) == (RATE, plain.num_mel_bins, plain.target_length)
        return log_mel(clip - clip.mean(), plain)[0]

    def clip_times(sampler: dict[str, float], seconds: float) -> list[tuple[float, float]]:
        length, count = sampler["clip_duration"], sampler["clips_per_video"]
        starts = [(seconds - length) * k / (count - 1) for k in range(count)]
        return [(start, start + length) for start in starts]

    text = SimpleNamespace(
        load_and_transform_text=lambda texts, device: encoder.module.front_ends(text=texts)["input_ids"][:, 0],
        waveform2melspec=spectrogram, get_clip_timepoints=clip_times,
    )  # fmt: skip
    networks = SimpleNamespace(imagebind_huge=lambda pretrained: Reference(), ModalityType=kinds)
    return {
        "torchvision.transforms.functional_tensor": ModuleType("functional_tensor"),  # gone; the wrapper replaces it
        "imagebind": SimpleNamespace(data=text, models=SimpleNamespace(imagebind_model=networks)),
        "imagebind.data": text, "imagebind.models": SimpleNamespace(imagebind_model=networks),
        "imagebind.models.imagebind_model": networks, "pytorchvideo": ModuleType("pytorchvideo"),
        "pytorchvideo.data": ModuleType("data"),
        "pytorchvideo.data.clip_sampling": SimpleNamespace(ConstantClipsPerVideoSampler=dict),
    }  # fmt: skip


def test_scores_equal_those_of_the_wrapper_of_the_reference_on_equal_weights(thin, monkeypatch):
    for name, module in stub_modules(thin).items():
        monkeypatch.setitem(sys.modules, name, module)
    wrapper = ImageBindWrapper("made-up/weights", "0", device="cpu")
    wrapper.mteb_model_meta = thin.mteb_model_meta
    pictures = [
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (60, 50 + 9 * k, 3), np.uint8)) for k in (0, 1)
    ]
    sounds = waves(8)
    tables = {
        "audio": sounds_table(sounds),
        "image": datasets.Dataset.from_dict({"image": pictures}, features=datasets.Features(image=datasets.Image())),
        "text": datasets.Dataset.from_dict({"text": ["a dog", "a lion in the grass"]}),
    }
    loaders = [DataLoader(table, batch_size=3, collate_fn=_rows) for table in tables.values()]
    for loader in loaders:
        ours = thin.encode(loader)
        theirs = wrapper.encode(loader, task_metadata=None, hf_split="", hf_subset="").numpy()
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0)
    found = embedded(thin, audio=[(x, RATE) for x in sounds], text=LABELS)
    ranked = (found["audio"] @ found["text"].T).argsort(1, descending=True).tolist()
    targets = [row[0 if k < 4 else k] for k, row in enumerate(ranked)]  # half of them are named right
    ours, theirs = (_all_scores(one, zero_shot(sounds, targets)) for one in (thin, wrapper))
    assert ours == theirs and ours["accuracy"] == 0.5


def _rows(batch: list[dict]) -> dict[str, list]:
    return {key: [row[key] for row in batch] for key in batch[0]}


def _all_scores(encoder: object, task: mteb.AbsTask) -> dict[str, float]:
    (result,) = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False).task_results
    return result.scores["train"][0]


# ---- names and errors ----


def test_mteb_knows_our_models_and_what_they_were_trained_on():
    meta = mteb.get_model_meta(MINI)
    assert (meta.embed_dim, meta.modalities) == (256, ["text", "image", "audio", "video"])
    assert mteb.get_model_meta(HUGE).embed_dim == 1024
    for name in set.union(*TRAINED_ON.values()) | set(harness.PUBLISHED):
        assert mteb.get_task(name).metadata.name == name
    assert not meta.is_zero_shot_on(mteb.get_tasks(tasks=["ESC50_Zeroshot"]))
    encoder = mteb.get_model(MINI, device="cpu")
    assert encoder.mteb_model_meta.name == MINI
    vectors = encoder.encode(DataLoader(datasets.Dataset.from_dict({"text": ["a dog"]}), batch_size=1))
    assert vectors.shape == (1, 256) and np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_importing_mteb_first_will_do():
    program = "import mteb, bind2gen; print(mteb.get_model_meta('bind2gen/mini').name)"
    paths = {"PYTHONPATH": str(Path(bind2gen.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | paths)
    assert done.stdout.split() == ["bind2gen/mini"], done.stderr[-2000:]


def test_a_task_of_another_modality_is_refused(thin):
    task = mteb.get_task("MSRVTTT2V")
    towers = {name: tower for name, tower in thin.module.model.config.towers.items() if name != "vision"}
    deaf = ImageBindEncoder(ImageBindModel(ImageBindConfig(24, towers)), thin.module.front_ends)
    task.dataset, task.data_loaded = {}, True
    with pytest.raises(ModalityError, match="MSRVTTT2V: .*video"):
        harness.run_task(deaf, task)
    with pytest.raises(InputError, match="no such task"):
        harness.find_tasks(["Nothing"])


def test_the_picture_has_a_bar_for_every_number():
    scores = [harness.Score("a", "accuracy", 0.5, 0.6, None), harness.Score("b", "map", 0.1)]
    axes = harness.draw(scores, "mini").axes[0]
    assert [len(group) for group in axes.containers] == [2, 1]  # no wrapper's number at all: no third colour
    assert math.isclose(axes.containers[0][0].get_width(), 50)
