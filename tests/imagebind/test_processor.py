from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import open_clip.tokenizer
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, BatchFeature, ProcessorMixin

from bind2gen.errors import InputError, UnreadableError
from bind2gen.imagebind.config import HUGE, TINY, TINY_TOWERS, ImageBindConfig
from bind2gen.imagebind.fronts import FRONTS
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.processor import VOCABULARY_FILES, ImageBindProcessor
from bind2gen.modality import MODALITIES
from bind2gen.preprocess import audio, depth, image, imu, thermal
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.depth import DepthSettings
from bind2gen.preprocess.image import ImageSettings
from bind2gen.preprocess.text import TextSettings
from bind2gen.preprocess.thermal import ThermalSettings
from bind2gen.preprocess.video import VideoSettings

MERGES = 200  # of the short vocabulary: 512 bytes + 200 merges + 2 special tokens


@pytest.fixture(scope="module")
def short_vocabulary(tmp_path_factory) -> str:
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[: MERGES + 1]
    path = tmp_path_factory.mktemp("vocabulary") / "mine.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return str(path)


@pytest.fixture
def sound() -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32), 16_000


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.fixture
def movie() -> tuple[np.ndarray, int]:
    return np.random.default_rng(2).integers(0, 256, (60, 32, 48, 3), dtype=np.uint8), 25


@pytest.fixture
def motion() -> dict:
    rng = np.random.default_rng(3)
    still = rng.normal(0, 0.2, (6, 2500)) + np.array([0, 0, 9.8, 0, 0, 0])[:, None]
    return {"samples": still.astype(np.float32), "sampling_rate": 100.0}


@pytest.fixture
def depth_map() -> np.ndarray:
    return np.random.default_rng(4).uniform(1, 5, (30, 40)).astype(np.float32)


def test_default_output_has_the_shapes_of_the_modality_table(sound, photo, movie, motion, depth_map):
    given = dict(
        text="a dog", images=photo, audio=sound, video=movie, depth=depth_map, thermal=photo[..., 0], imu=motion
    )
    features = ImageBindProcessor(depth={"sensor": "xtion"})(**given)
    clips = {"text": 1, "image": 1, "audio": 3, "video": 15, "depth": 1, "thermal": 1, "imu": 3}
    expected = {MODALITIES[name].input_key: (1, count, *MODALITIES[name].sample) for name, count in clips.items()}
    assert {key: tuple(value.shape) for key, value in features.items()} == expected
    assert isinstance(features, BatchFeature)


def test_each_modality_is_what_its_module_gives(sound, photo):
    features = ImageBindProcessor()(images=[photo, Image.fromarray(photo)], audio=[sound])
    assert torch.equal(features.audio_values[0], audio.transform(audio.load(sound)))
    assert torch.equal(features.pixel_values[:, 0], torch.stack([image.transform(image.load(photo))] * 2))


def test_depth_thermal_and_motion_are_what_their_modules_give(photo, motion, depth_map):
    settings = {
        "depth": DepthSettings(convention="unrotated", sensor="xtion"),
        "thermal": ThermalSettings(normalization="half"),
    }
    features = ImageBindProcessor(**settings)(depth=[depth_map], thermal=[photo[..., 0]], imu=[motion])
    wanted = depth.transform(depth.load(depth_map, settings=settings["depth"]), settings["depth"])
    assert torch.equal(features.depth_values[0, 0], wanted)
    assert torch.equal(
        features.thermal_values[0, 0], thermal.transform(thermal.load(photo[..., 0]), settings["thermal"])
    )
    assert torch.equal(features.imu_values[0], imu.transform(imu.load(motion)))
    assert features.clip_times["imu"][0].tolist() == [[0, 10], [7.5, 17.5], [15, 25]]
    # What a loader made of a file with its sensor named goes in as well.
    named = depth.load(depth_map, sensor="xtion", unit="m")
    assert torch.equal(ImageBindProcessor()(depth=named).depth_values[0, 0], depth.transform(named))


def test_motion_of_different_length_is_masked(motion):
    short = motion | {"samples": motion["samples"][:, :900]}
    features = ImageBindProcessor()(imu=[short, motion])
    assert features.imu_clip_mask.tolist() == [[True, False, False], [True, True, True]]


def test_single_input_equals_a_list_of_one(sound, photo, movie):
    processor = ImageBindProcessor()
    alone = processor(text="a dog", images=photo, audio=sound, video=movie)
    listed = processor(text=["a dog"], images=[photo], audio=[sound], video=[movie])
    assert alone.keys() == listed.keys() and all(torch.equal(alone[key], listed[key]) for key in alone)


def test_clip_mask_only_where_counts_differ(sound):
    processor = ImageBindProcessor(audio={"policy": "cover"})
    short, long = (sound[0][:16_000], 16_000), sound
    assert "audio_clip_mask" not in processor(audio=[long, long])
    features = processor(audio=[short, long])
    assert features.audio_clip_mask.tolist() == [[True, False], [True, True]]
    assert (features.audio_values[0, 1] == 0).all()
    assert torch.allclose(features.audio_values[0, :1], processor(audio=short).audio_values[0], atol=1e-5)
    assert features.clip_times["audio"].tolist() == [[[0, 1], [0, 0]], [[0, 2], [1, 3]]]


def test_sliding_windows_come_with_their_times(sound):
    processor = ImageBindProcessor(audio=AudioSettings(policy="sliding", window=1.0, hop=0.5))
    features = processor(audio=sound)
    assert features.audio_values.shape[:2] == (1, 5)
    assert features.clip_times["audio"][0].tolist() == [[s / 2, s / 2 + 1] for s in range(5)]
    moved = features.to(torch.float64)
    assert moved.clip_times["audio"].shape == (1, 5, 2) and moved.audio_values.dtype == torch.float64


def test_video_times_follow_its_crops(movie):
    features = ImageBindProcessor()(video=movie)
    starts = features.clip_times["video"][0, :, 0].tolist()
    assert starts == [start for start in starts[::3] for _ in range(3)]
    assert starts[0] == 0 and starts[-1] == pytest.approx(0.4)


def test_sampling_rate_serves_arrays_without_one(sound):
    processor = ImageBindProcessor()
    given = processor(audio=[sound[0], sound], sampling_rate=16_000)
    assert torch.equal(given.audio_values[0], given.audio_values[1])


def test_numpy_output(photo):
    features = ImageBindProcessor()(text="a dog", images=photo, return_tensors="np")
    assert isinstance(features["pixel_values"], np.ndarray) and features["input_ids"].dtype == np.int64


def test_model_takes_what_the_processor_gives(sound, photo, movie, short_vocabulary):
    config = TINY(["vision", "text", "audio"])
    torch.manual_seed(0)
    model = ImageBindModel(config).eval()
    processor = ImageBindProcessor.for_config(config, text={"vocabulary": short_vocabulary}, audio={"policy": "cover"})
    features = processor(text=["a", "b"], images=photo, audio=[sound, (sound[0][:8000], 16_000)], video=movie)
    assert "audio_clip_mask" in features
    with torch.no_grad():
        output = model(**features)
        alone = model(**processor(audio=(sound[0][:8000], 16_000))).audio_embeds
    assert output.text_embeds.shape == (2, 32) and output.image_embeds.shape == output.video_embeds.shape == (1, 32)
    assert torch.allclose(output.audio_embeds[1:], alone, atol=1e-5)  # padding clips do not count


def test_for_config_takes_sizes_from_the_towers(short_vocabulary):
    processor = ImageBindProcessor.for_config(TINY(), image={"max_pixels": 1000}, text={"vocabulary": short_vocabulary})
    assert processor.image == ImageSettings(size=28, max_pixels=1000)
    assert processor.video == VideoSettings(size=28)
    assert processor.audio == AudioSettings(num_mel_bins=32, target_length=44, clip_duration=0.4)
    assert processor.disagreements(TINY()) == []
    assert ImageBindProcessor.for_config(HUGE()).to_dict() == ImageBindProcessor().to_dict()


def test_for_config_gives_the_longest_whole_clip():
    towers = TINY_TOWERS | {"audio": replace(TINY_TOWERS["audio"], input_shape=(1, 64, 400))}
    assert ImageBindProcessor.for_config(ImageBindConfig(32, towers, ["audio"])).audio.clip_duration == 4.0


def test_for_config_does_not_guess_a_vocabulary(short_vocabulary):
    with pytest.raises(InputError, match="text.vocabulary has 49408 tokens, the model's text tower knows 1000"):
        ImageBindProcessor.for_config(TINY())
    assert not ImageBindProcessor.for_config(TINY(), text={"vocabulary": short_vocabulary}).disagreements(TINY())
    ImageBindProcessor.for_config(TINY(["image", "audio"]))  # without the tower the words do not matter


def test_check_names_every_disagreement():
    with pytest.raises(InputError) as caught:
        ImageBindProcessor().check(TINY())
    message = str(caught.value)
    for words in (
        "image.size is 224",
        "wants 28",
        "video.size",
        "audio.num_mel_bins is 128",
        "audio.target_length",
        "49408 tokens",
    ):
        assert words in message
    with pytest.raises(InputError, match="image.size is 64, the model's vision tower wants 28"):
        ImageBindProcessor.for_config(TINY(), image=ImageSettings(size=64))
    ImageBindProcessor().check(HUGE())
    ImageBindProcessor().check(ImageBindConfig(32, {"audio": HUGE().tower("audio")}))  # no other towers, nothing to say


def test_save_and_load_round_trip(tmp_path, sound, photo):
    processor = ImageBindProcessor(
        audio=AudioSettings(policy="cover", num_mel_bins=64, target_length=400, clip_duration=4.0),
        image=ImageSettings(size=64, mean=(0.5, 0.5, 0.5)),
        video={"size": 64, "antialias": True},
    )
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]
    again = ImageBindProcessor.from_pretrained(tmp_path)
    assert all(getattr(again, name) == getattr(processor, name) for name in FRONTS)
    ours, theirs = (p(text="a dog", images=photo, audio=sound) for p in (processor, again))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_own_vocabulary_travels_with_the_processor(tmp_path, short_vocabulary):
    processor = ImageBindProcessor(text=TextSettings(context_length=32, vocabulary=short_vocabulary))
    first, second = tmp_path / "first" / "processor", tmp_path / "second"
    processor.save_pretrained(first)
    assert json.loads((first / "processor_config.json").read_text())["text"]["vocabulary"] == VOCABULARY_FILES["pairs"]
    again = ImageBindProcessor.from_pretrained(tmp_path / "first", subfolder="processor")
    again.save_pretrained(first)  # onto itself
    again.save_pretrained(second)
    for path in first.iterdir():
        path.unlink()
    moved = ImageBindProcessor.from_pretrained(second)
    assert torch.equal(moved(text="a dog")["input_ids"], processor(text="a dog")["input_ids"])
    assert moved(text="a dog")["input_ids"].max() == 512 + MERGES + 1


def test_table_of_words_travels_with_the_processor(tmp_path):
    table = tmp_path / "mine.gz"
    table.write_bytes(gzip.compress(b"a\ndog\n"))
    processor = ImageBindProcessor(text=TextSettings(context_length=8, vocabulary=str(table), units="words"))
    processor.save_pretrained(tmp_path / "saved")
    table.unlink()
    again = ImageBindProcessor.from_pretrained(tmp_path / "saved")
    assert again(text="a dog")["input_ids"].tolist() == [[[1, 2, 4, 0, 0, 0, 0, 0]]]
    for known, fits in ((5, True), (4, False), (6, False)):  # two words, nothing, unknown and end
        tower = replace(TINY_TOWERS["text"], vocab_size=known, input_shape=(8,))
        assert (again.disagreements(ImageBindConfig(8, {"text": tower})) == []) == fits


def test_settings_of_before_there_were_words_still_load(tmp_path, short_vocabulary):
    ImageBindProcessor(text=TextSettings(context_length=32, vocabulary=short_vocabulary)).save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    values = json.loads(path.read_text())
    del values["text"]["units"]
    path.write_text(json.dumps(values))
    assert ImageBindProcessor.from_pretrained(tmp_path).text.units == "pairs"


def test_wrong_settings_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="audio: wanted AudioSettings"):
        ImageBindProcessor(audio=ImageSettings())
    with pytest.raises(InputError, match=r"unknown settings \['sise'\]"):
        ImageBindProcessor(image={"sise": 3})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"audio": {"num_clips": 10**9}}, "AudioSettings: wanted num_clips of at most 10,000"),
        ({"audio": {"sample_rate": 10**9}}, "wanted sample_rate of at most"),
        ({"video": {"num_frames": 10**9}}, "wanted num_frames of at most 1,000"),
        ({"imu": {"samples": 10**12}}, "wanted samples of at most 10,000,000"),
        ({"image": {"size": 0.5}}, "ImageSettings: wanted size as int, got 0.5"),
        ({"image": {"mean": None}}, "wanted mean as tuple.*got None"),
        ({"image": {"std": [1, 1, float("nan")]}}, "wanted std as tuple"),
        ({"audio": {"mean": "loud"}}, "wanted mean as float, got 'loud'"),
        ({"depth": {"reference_width": True}}, "wanted reference_width as int . None, got True"),
    ],
)
def test_absurd_settings_of_a_file_are_refused_before_they_are_used(settings, words):
    """Each would end in an odd error, in hours of work or in terabytes."""
    with pytest.raises(InputError, match=words):
        ImageBindProcessor(**settings)


def test_it_is_a_transformers_processor():
    processor = ImageBindProcessor()
    assert isinstance(processor, ProcessorMixin)
    assert processor.model_input_names == [MODALITIES[name].input_key for name in FRONTS]
    assert set(FRONTS) == set(MODALITIES)
    assert "ImageBindProcessor" in repr(processor)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_cpu(sound, photo, movie):
    processor = ImageBindProcessor()
    here = processor(text="a dog", images=photo, audio=[sound] * 2, video=movie)
    there = processor(text="a dog", images=photo, audio=[sound] * 2, video=movie, device="cuda")
    assert all(value.is_cuda for value in there.values())
    assert all(torch.allclose(there[key].cpu(), here[key], atol=1e-3) for key in here)
    tensor = torch.from_numpy(photo).permute(2, 0, 1).cuda()
    stays = processor(images=tensor, audio=(torch.from_numpy(sound[0]).cuda(), 16_000))
    assert all(value.is_cuda for value in stays.values())
    # Pillow, which resizes pictures, rounds to whole levels in between: tensors are compared with tensors.
    assert torch.allclose(stays["pixel_values"].cpu(), processor(images=tensor.cpu() / 255)["pixel_values"], atol=1e-3)


def test_auto_processor_finds_it(tmp_path):
    model = ImageBindModel(TINY(["audio"]))
    model.save_pretrained(tmp_path)
    ImageBindProcessor.for_config(model.config).save_pretrained(tmp_path)
    found = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(found, ImageBindProcessor) and found.audio.num_mel_bins == 32


def test_a_folder_without_settings_is_refused(tmp_path):
    with pytest.raises(UnreadableError, match="processor_config.json"):
        ImageBindProcessor.from_pretrained(tmp_path)


def test_pictures_go_in_under_both_names():
    processor, picture = ImageBindProcessor(), np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert torch.equal(*(processor(**{name: picture})["pixel_values"] for name in ("image", "images")))
    with pytest.raises(InputError, match="two names of one argument"):
        processor(image=picture, images=picture)
    film = (np.random.default_rng(0).integers(0, 256, (30, 32, 48, 3), dtype=np.uint8), 10.0)
    torch.testing.assert_close(processor(videos=film)["video_values"], processor(video=film)["video_values"])
    with pytest.raises(InputError, match="video and videos are two names"):
        processor(video=film, videos=film)
