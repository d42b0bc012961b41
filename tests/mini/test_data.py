from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from bind2gen.errors import InputError
from bind2gen.mini.data import load_audio, load_images, read_rows, recording, split
from bind2gen.train.augment import augment_photos, augment_sounds, crop_sounds, mask_spectrogram


def write_tar(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def picture(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def sound(seconds: float, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(int(seconds * rate)) * 0.1), rate, format="WAV")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    names = [f"dog/{i}.png" for i in range(200)]
    (tmp_path / "images.csv").write_text("path,concept,label\n" + "".join(f"{n},dog,pug\n" for n in names))
    write_tar(tmp_path / "images.tar", {n: picture(i) for i, n in enumerate(names)})
    crops = [f"image/bird/V{i % 30}_{i}.png" for i in range(90)]
    rows = [f"{n},bird,{'thermal' if i == 0 else 'image'},V{i % 30}\n" for i, n in enumerate(crops)]
    (tmp_path / "crops.csv").write_text("path,concept,modality,video\n" + "".join(rows))
    write_tar(tmp_path / "crops.tar", {n: picture(9) for n in crops})
    clips = [(f"dog/{fold}-{1000 + i}-A-0.wav", fold) for i in range(20) for fold in (i % 4 + 1,)]
    clips += [(f"dog/us8k_{1000 + i}-3-0-0.wav", "") for i in range(60)]  # the first 20 are ESC recordings too
    (tmp_path / "audio.csv").write_text("path,concept,fold\n" + "".join(f"{n},dog,{f}\n" for n, f in clips))
    write_tar(tmp_path / "audio.tar", {n: sound(0.1) for n, _ in clips})
    return tmp_path


def test_photos_come_in_the_order_of_the_csv_without_other_modalities(folder):
    images = load_images(folder)
    assert images.pixels.shape == (200 + 89, 64, 64, 3)
    assert images.pixels[7, 0, 0, 0] == 7 and images.samples[7].path == "dog/7.png"
    assert {s.row.get("modality", "image") for s in images.samples} == {"image"}


def test_no_video_or_recording_is_on_both_sides(folder):
    for data in (load_images(folder), load_audio(folder)):
        ours, theirs = split(data)
        assert ours.samples and theirs.samples
        assert len(ours.samples) + len(theirs.samples) == len(data.samples)
        assert not {recording(s) for s in ours.samples} & {recording(s) for s in theirs.samples}


def test_the_held_out_fold_takes_its_recordings_from_other_sets_too(folder):
    _, judged = split(load_audio(folder))
    fold_four = {recording(s) for s in judged.samples if s.row["fold"] == "4"}
    assert len(fold_four) == 5
    assert sum(recording(s) in fold_four and not s.row["fold"] for s in judged.samples) == 5


def test_a_missing_csv_is_named(tmp_path):
    with pytest.raises(InputError, match="images.csv"):
        load_images(tmp_path)
    (tmp_path / "x.csv").write_text("file,label\na,b\n")
    with pytest.raises(InputError, match="path and concept"):
        read_rows(tmp_path / "x.csv")


def test_augmentation_is_repeatable_and_keeps_its_range():
    photos = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (augment_photos(photos, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one, two) and one.min() >= 0 and one.max() <= 1
    assert not torch.equal(one, augment_photos(photos, np.random.default_rng(6)))


def test_full_area_without_colour_is_the_picture_or_its_mirror_image():
    photos = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = augment_photos(photos, np.random.default_rng(0), area=(1.0, 1.0), stretch=0.0, colour=0.0)
    plain, mirrored = ((out - wanted).abs().amax((1, 2, 3)) < 1e-4 for wanted in (photos, photos.flip(3)))
    assert (plain ^ mirrored).all() and plain.any() and mirrored.any()


def test_crops_of_sound_hold_the_loud_part_more_often_than_not():
    waveform = np.zeros(1000, np.float32)
    waveform[600:700] = 1
    rng = np.random.default_rng(0)
    loud = [np.square(crop_sounds([waveform], 300, rng, tries=4)).sum() for _ in range(100)]
    blind = [np.square(crop_sounds([waveform], 300, rng, tries=1)).sum() for _ in range(100)]
    assert np.mean(loud) > 1.3 * np.mean(blind)
    short = crop_sounds([np.ones(100, np.float32)], 300, rng)
    assert short.sum() == 100 and short.shape == (1, 300)


def test_mixing_a_background_in_keeps_the_signal_to_noise_ratio():
    rng = np.random.default_rng(0)
    clip = np.sin(np.arange(16_000) * 0.05, dtype=np.float32)[None] * 0.1
    noise = rng.standard_normal((1, 16_000)).astype(np.float32)
    plain = augment_sounds(clip, np.random.default_rng(1), background=noise, mix_share=0.0, gain_db=0.0)
    mixed = augment_sounds(
        clip, np.random.default_rng(1), background=noise, mix_share=1.0, gain_db=0.0, snr_db=(10, 10)
    )
    assert np.square(plain).mean() == pytest.approx(np.square(clip).mean(), rel=0.05)
    assert np.square(mixed).mean() == pytest.approx(1.1 * np.square(clip).mean(), rel=0.1)


def test_spectrogram_masks_touch_a_bounded_part_and_not_the_argument():
    mel = torch.ones(4, 1, 64, 400)
    masked = mask_spectrogram(mel, np.random.default_rng(0), bands=8, frames=40)
    assert mel.eq(1).all()
    lost = masked.eq(0).float().mean((1, 2, 3))
    assert (lost > 0).any() and (lost <= 2 * 8 / 64 + 2 * 40 / 400).all()
