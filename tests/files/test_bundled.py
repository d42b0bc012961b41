"""The bundled model as it ships: what a user gets from the first command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, StableUnCLIPImg2ImgPipeline
from PIL import Image
from torchvision.ops import box_iou

from bind2gen.errors import Bind2GenWarning, HostError
from bind2gen.files.bundled import DETECTOR_PART, bundled_path, example_sounds
from bind2gen.hosts.pictures import unclip
from bind2gen.hosts.pictures.unclip_arguments import DRAWING, LARGEST_NOISE
from bind2gen.mini.raycast import view_of
from bind2gen.mini.recipe import JUDGED
from bind2gen.mini.synthesis import SAMPLE_RATE, synthesise
from bind2gen.modality import TOWERS
from bind2gen.pipelines.calibration import Calibration
from bind2gen.pipelines.detection import ImageBindDetectionPipeline
from bind2gen.pipelines.null_sounds import null_sounds
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.preprocess import depth
from bind2gen.space.everyday import words_of
from bind2gen.studio.understood import Understanding

MEGABYTE = 10**6
EXAMPLES = sorted(example_sounds())
SCENES = Path(__file__).parents[2] / "demos" / "pictures"


@pytest.fixture(scope="module")
def pipe() -> ImageBindUnCLIPPipeline:
    loaded = ImageBindUnCLIPPipeline.from_pretrained(bundled_path("mini"))
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture(scope="module")
def class_embeds(pipe) -> torch.Tensor:
    features = pipe.processor(text=[f"a photo of a {name}" for name in JUDGED])
    return pipe.imagebind(**features).text_embeds.detach()


def test_all_weights_together_fit_the_size_limit():
    weights = [path for path in bundled_path("mini").rglob("*") if path.suffix in (".safetensors", ".npz")]
    assert (
        len(weights) >= 6 and sum(path.stat().st_size for path in weights) <= 116 * MEGABYTE
    )  # in a wheel by a fifth less, for the detector's pack to half: it may have 95


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


def test_pictures_are_not_blank_and_follow_sound_and_seed(pipe, bundled_side):
    def draw(name: str, seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(pipe(audio=str(example_sounds()[name]), generator=generator).images[0], dtype=float)

    dog, again, other_seed = draw("dog", 0), draw("dog", 0), draw("dog", 1)
    other_sound = draw(next(name for name in EXAMPLES if name != "dog"), 0)
    assert dog.shape == (bundled_side, bundled_side, 3) and dog.std() > 10
    assert np.array_equal(dog, again)
    assert abs(dog - other_seed).mean() > 5 and abs(dog - other_sound).mean() > 5


def test_two_recordings_of_one_kind_become_two_pictures_of_one_seed(pipe):
    embeds = pipe.embed(audio=[(synthesise("dog", seed=seed), SAMPLE_RATE) for seed in range(8)])["audio"]
    heard = embeds[[kind == "dog" for kind in pipe.adapter.drawn_as("audio", embeds)]]
    least = int((heard @ heard.T).argmin())  # synthesised dogs are much alike: the two that are least
    two = pipe.condition({"audio": heard[list(divmod(least, len(heard)))]})
    generators = [torch.Generator().manual_seed(0) for _ in two]
    drawn = pipe(image_embeds=two, num_inference_steps=6, generator=generators, output_type="np").images
    assert abs(drawn[0] - drawn[1]).mean() > 0.008  # of 1; where the anchor is all that is kept they are the same


def test_every_kind_that_is_drawn_is_known_by_its_name_and_others_are_doubted(pipe):
    names = words_of(bundled_path("mini") / "imagebind")
    understanding = Understanding.where_known(pipe, bundled_path("mini") / DETECTOR_PART, names)
    kinds = pipe.adapter.config.anchor_names
    found = understanding(pipe.embed(text=[f"a {kind}" for kind in kinds]))["text"]
    assert [(item["name"], item["drawn"], item["doubt"]) for item in found] == [(kind, kind, "") for kind in kinds]
    found = understanding(pipe.embed(text=["a drone", "a unicorn", "a person"]))["text"]
    assert [item["doubt"] for item in found] == ["not drawn", "unknown", "not drawn"]


def test_the_shift_over_the_gap_brings_sounds_nearer_to_pictures(pipe):
    """Without it a sound's embedding is further from the mean picture than with it."""
    sounds = torch.cat([pipe.embed(audio=str(path))["audio"] for path in example_sounds().values()])
    image_mean = pipe.adapter.means[pipe.adapter.known.index("image")]
    shifted = pipe.adapter.shift("audio", sounds)
    assert (shifted.mean(0) - image_mean).norm() < (sounds.mean(0) - image_mean).norm()


def test_stock_diffusers_loads_it():
    pipe = DiffusionPipeline.from_pretrained(bundled_path("mini"), trust_remote_code=True)
    assert isinstance(pipe, ImageBindUnCLIPPipeline) and isinstance(pipe, StableUnCLIPImg2ImgPipeline)


DEFAULT = DPMSolverMultistepScheduler.from_pretrained(bundled_path("mini"), subfolder="scheduler")
NEEDS = {"DPMSolverSDEScheduler": "torchsde", "LMSDiscreteScheduler": "scipy"}
# Of the default's settings they would keep one that they refuse.
OPTIONS = {"DEISMultistepScheduler": {"algorithm_type": "deis"}}


@pytest.fixture(scope="module")
def conditions(pipe) -> dict[str, torch.Tensor]:
    """Conditioning vectors of example sounds that are drawn in strong colours, (1, D) each."""
    sounds = {name: str(example_sounds()[name]) for name in ("dog", "cat")}
    return {name: pipe.condition(pipe.embed(audio=sound)) for name, sound in sounds.items()}


@pytest.mark.parametrize("kind", sorted(set(DEFAULT.compatibles), key=lambda kind: kind.__name__))
def test_a_compatible_scheduler_draws_what_was_heard_or_is_refused(pipe, class_embeds, conditions, kind, monkeypatch):
    name = kind.__name__
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.setattr(pipe, "scheduler", kind.from_config(DEFAULT.config, **OPTIONS.get(name, {})))
    steps = 10 // getattr(pipe.scheduler, "order", 1)  # of second order, each is two
    call = {"image_embeds": torch.cat(list(conditions.values())), "num_inference_steps": steps, "output_type": "np"}
    call["generator"] = [torch.Generator().manual_seed(seed) for seed in range(len(conditions))]
    expected = []
    call["callback_on_step_end"] = lambda pipe, step, t, tensors: expected.append(tensors["pred_original_sample"])
    call["callback_on_step_end_tensor_inputs"] = ["pred_original_sample"]
    if not hasattr(pipe.scheduler, "alphas_cumprod") or float(pipe.scheduler.init_noise_sigma) > LARGEST_NOISE:
        with pytest.raises(HostError, match=f"{name}.*wanted one of.*DDIMScheduler"):
            pipe(**call)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        drawn = pipe(**call).images
    # Grey ones: 0.05 to 0.08. Drawn ones: 0.15 to 0.25.
    assert drawn.reshape(len(drawn), -1).std(1).mean() > 0.12
    seen = pipe.embed(image=[Image.fromarray((255 * picture).round().astype(np.uint8)) for picture in drawn])["image"]
    assert [JUDGED[k] for k in (seen @ class_embeds.T).argmax(1)] == list(conditions)
    preview = unclip.decode(pipe, expected[len(expected) * 2 // 3 - 1], "np")
    for early, late in zip(preview, drawn, strict=True):  # 0.64 at least, when this was written
        assert np.corrcoef(early.ravel(), late.ravel())[0, 1] > 0.5


def test_schedulers_that_are_named_as_drawing_are_compatible():
    known = {kind.__name__ for kind in DEFAULT.compatibles} | {type(DEFAULT).__name__}
    assert {f"{name}Scheduler" for name in DRAWING} <= known


def test_a_scheduler_that_clips_latents_is_pointed_out(pipe, conditions, monkeypatch):
    monkeypatch.setattr(pipe, "scheduler", DDIMScheduler.from_config(DEFAULT.config, clip_sample=True))
    with pytest.warns(Bind2GenWarning, match="DDIMScheduler clips latents.*clip_sample=False"):
        pipe(image_embeds=conditions["cat"], num_inference_steps=1)


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
    assert all(reason in card for reason in scores["partial"])
    drawn = scores["rows"]["generated"]
    assert drawn["mean_over_concepts"] > 2 * drawn["chance"]


@pytest.fixture(scope="module")
def detection() -> ImageBindDetectionPipeline:
    return ImageBindDetectionPipeline.from_pretrained()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_detector_understands_every_example_sound_and_word(detection, name):
    concept = name.replace("_", " ")
    for prompts in (detection.prompts(audio=str(example_sounds()[name])), detection.prompts(text=f"a {concept}")):
        assert prompts.words[0][0][0] == concept and prompts.likeness[0] > detection.calibration.known_prompt


def test_a_word_that_the_detector_does_not_know_is_warned_of_and_told(detection):
    picture = SCENES / "three.webp"
    with pytest.warns(Bind2GenWarning, match="text: not among the 164 words that the detector knows: 'a unicorn'"):
        found = detection(picture, text=["a unicorn", "a clock"])
    (nearest, share), unknown = max(found.understood[1].items(), key=lambda item: item[1]), found.understood[0]
    assert nearest == "clock" and share > max(unknown.values())


def test_the_detector_finds_a_drawn_thing_by_its_sound_where_it_was_pasted(pipe, detection):
    """The thing is drawn by the host, from the word, on a canvas of nothing; what is heard is the example sound."""
    overlaps = []
    for name in ("clock", "bird", "police_van"):
        picture = pipe(text=f"a {name.replace('_', ' ')}", generator=torch.Generator().manual_seed(1)).images[0]
        canvas = Image.new("RGB", (192, 192), (120, 130, 140))
        canvas.paste(picture.resize((96, 96)), (80, 20))
        found = detection(canvas, audio=str(example_sounds()[name]), threshold=0.05)
        assert len(found), name
        box = torch.as_tensor(found.xyxy[[int(np.argmax(found.scores))]], dtype=torch.float32)
        overlaps.append(float(box_iou(box, torch.tensor([[80.0, 20.0, 176.0, 116.0]]))))
    assert np.median(overlaps) > 0.5


def test_nothing_is_drawn_for_sounds_that_no_thing_makes(detection):
    """In pictures full of what the detector finds most easily, whatever silence and noise resemble."""
    encoded = [detection.encode_image(path) for path in sorted(SCENES.glob("*.webp"))]
    assert sum(len(detection.find(e, detection.prompts(text=["a clock", "a police van"]))) for e in encoded) >= 2
    known = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)  # that one of them is silent
        for duration in (1.3, 3.0, 7.2):
            for name, sound in null_sounds(duration, copies=1, seed=9).items():
                prompts = detection.prompts(audio=(0.3 * sound, SAMPLE_RATE))
                known.append(prompts.nothing[0])
                assert known[-1] or name != "silence"
                assert not known[-1] or not any(len(detection.find(e, prompts)) for e in encoded)
    assert np.mean(known) > 0.7  # of noises of other seeds, levels and lengths than those that are kept
    assert not any(detection.prompts(audio=[str(path) for path in example_sounds().values()]).nothing)


def test_the_card_states_what_the_detector_was_measured_to_find():
    card = (bundled_path("mini") / "README.md").read_text()
    scores = json.loads((bundled_path("mini") / "detector" / "scores.json").read_text())
    for prompt in ("audio", "text"):
        for name in ("ap50", "photos_with_a_wrong_box"):
            assert f"{100 * scores['coco'][f'{prompt}_{name}']:.1f} %" in card
    assert f"{100 * scores['outside_coco']['right_by_the_image_tower']:.1f} %" in card
    assert scores["whole_photos"]["text"]["photos_with_a_wrong_box"] <= 0.25
    for found in scores["whole_photos"].values():
        assert found["threshold"] == Calibration.load(bundled_path("mini") / "detector").threshold
        for name in ("found", "false_alarms", "photos_with_a_wrong_box"):
            assert f"{100 * found[name]:.1f} %" in card
        assert f"{found['of_these_right']} of {found['boxes_on_boxed_photos']}" in card
