"""The bundled model as it ships: what a user gets from the first command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableUnCLIPImg2ImgPipeline

from bind2gen.bundled import bundled_path, example_sounds
from bind2gen.hosts import unclip
from bind2gen.modality import TOWERS
from bind2gen.pipeline import ImageBindUnCLIPPipeline
from bind2gen.preprocess import depth
from bind2gen.train.mini_recipe import JUDGED
from bind2gen.train.raycast import view_of

MEGABYTE = 10**6
EXAMPLES = sorted(example_sounds())


@pytest.fixture(scope="module")
def pipe() -> ImageBindUnCLIPPipeline:
    loaded = ImageBindUnCLIPPipeline.from_pretrained(bundled_path("mini"))
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def class_embeds(pipe) -> torch.Tensor:
    features = pipe.processor(text=[f"a photo of a {name}" for name in JUDGED])
    return pipe.imagebind(**features).text_embeds.detach()


def test_it_fits_the_size_limit():
    total = sum(path.stat().st_size for path in bundled_path("mini").rglob("*") if path.is_file())
    assert total <= 60 * MEGABYTE


def test_there_are_example_sounds_and_a_dog_among_them():
    assert "dog" in EXAMPLES and len(EXAMPLES) >= 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_sound_is_heard_as_what_it_is(pipe, class_embeds, name):
    """Audio to text: a pair of modalities that was never trained together."""
    sound = pipe.embed(audio=str(example_sounds()[name]))["audio"]
    assert JUDGED[int((sound @ class_embeds.T).argmax())] == name.replace("_", " ")


def test_the_conditioning_has_the_length_of_the_hosts_training_data(pipe):
    output = pipe(audio=str(example_sounds()["dog"]), num_inference_steps=1)
    assert output.image_embeds.norm().item() == pytest.approx(unclip.host_norm(pipe), rel=1e-4)
    assert unclip.host_norm(pipe) == pytest.approx(16.0, rel=0.02)  # the UNet was trained on vectors of sqrt(256)


def test_pictures_are_not_blank_and_follow_sound_and_seed(pipe):
    def draw(name: str, seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(pipe(audio=str(example_sounds()[name]), generator=generator).images[0], dtype=float)

    dog, again, other_seed = draw("dog", 0), draw("dog", 0), draw("dog", 1)
    other_sound = draw(next(name for name in EXAMPLES if name != "dog"), 0)
    assert dog.shape == (64, 64, 3) and dog.std() > 10
    assert np.array_equal(dog, again)
    assert abs(dog - other_seed).mean() > 5 and abs(dog - other_sound).mean() > 5


def test_the_shift_over_the_gap_brings_sounds_nearer_to_pictures(pipe):
    """Without it a sound's embedding is further from the mean picture than with it."""
    sounds = torch.cat([pipe.embed(audio=str(path))["audio"] for path in example_sounds().values()])
    image_mean = pipe.adapter.means[pipe.adapter.known.index("image")]
    shifted = pipe.adapter.shift("audio", sounds)
    assert (shifted.mean(0) - image_mean).norm() < (sounds.mean(0) - image_mean).norm()


def test_stock_diffusers_loads_it():
    pipe = DiffusionPipeline.from_pretrained(bundled_path("mini"), trust_remote_code=True)
    assert isinstance(pipe, ImageBindUnCLIPPipeline) and isinstance(pipe, StableUnCLIPImg2ImgPipeline)


def test_every_modality_has_its_tower_and_its_place_in_the_adapter(pipe):
    assert set(pipe.imagebind.towers) == set(TOWERS)
    assert {"image", "audio", "text", "depth", "thermal", "imu"} <= set(pipe.adapter.known)


def test_depth_infrared_and_motion_go_all_the_way_to_a_picture(pipe):
    rng = np.random.default_rng(0)
    walk = np.sin(np.arange(400) / 100 * 2 * np.pi * 1.8) * 3 + rng.normal(0, 0.3, (6, 400))
    walk[3:] /= 10
    walk[2] += 9.81
    given = {
        "depth": depth.load(view_of("car", rng).depth, sensor="kinect_v1"),
        "thermal": rng.integers(0, 256, (64, 64), dtype=np.uint8),
        "imu": {"samples": walk.astype(np.float32), "sampling_rate": 100.0},
    }
    for name, value in given.items():
        assert np.asarray(pipe(**{name: value}, num_inference_steps=2).images[0]).std() > 0


def test_the_card_states_terms_and_measured_scores():
    card = (bundled_path("mini") / "README.md").read_text()
    scores = json.loads((bundled_path("mini") / "scores.json").read_text())
    for words in ("non-commercial", "Tiny-ImageNet", "ESC-50", "UrbanSound8K", "synthe"):
        assert words in card
    for row in scores["rows"].values():
        assert row["value"] is not None and f"{100 * row['value']:.1f} %" in card
    assert not scores["partial"]
    drawn = scores["rows"]["generated"]
    assert drawn["mean_over_concepts"] > 2 * drawn["chance"]
