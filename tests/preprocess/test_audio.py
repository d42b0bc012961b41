from __future__ import annotations

import io
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from bind2gen.errors import DependencyError, InputError, ShapeError, TooLargeError
from bind2gen.preprocess import audio
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.audio_settings import POLICIES

MEL_TOLERANCE = 1e-3  # absolute, on normalised log-mel
MINI = AudioSettings(num_mel_bins=64, target_length=400, clip_duration=4.0, policy="cover")
MAGNITUDES = AudioSettings(
    num_mel_bins=64, low_freq=125.0, high_freq=7500.0, preemphasis_coefficient=0.0, use_power=False, mean=0.0, std=2.0
)
LOSSLESS = {
    "wav": ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"],
    "flac": ["PCM_16", "PCM_24"],
    "aiff": ["PCM_16"],
}
STEP = {"PCM_U8": 1 / 128, "PCM_16": 1 / 32_768, "PCM_24": 2**-23, "PCM_32": 2**-24, "FLOAT": 0.0, "DOUBLE": 0.0}


@pytest.fixture
def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def kaldi(clip: torch.Tensor, settings: AudioSettings) -> torch.Tensor:
    """One clip (samples,) by torchaudio's one-at-a-time Kaldi port: the oracle, (1, mel, frames)."""
    mel = torchaudio.compliance.kaldi.fbank(
        clip[None], htk_compat=True, sample_frequency=settings.sample_rate, use_energy=False, window_type="hanning",
        num_mel_bins=settings.num_mel_bins, dither=0.0, frame_length=25, frame_shift=10, low_freq=settings.low_freq,
        high_freq=settings.high_freq, preemphasis_coefficient=settings.preemphasis_coefficient,
        use_power=settings.use_power,
    ).T  # fmt: skip
    mel = mel[:, : settings.target_length]
    mel = torch.nn.functional.pad(mel, (0, settings.target_length - mel.shape[1]))
    return (mel[None] - settings.mean) / settings.std


@pytest.mark.parametrize(
    "settings",
    [
        AudioSettings(),
        MINI,
        AudioSettings(num_mel_bins=40, target_length=50, clip_duration=0.5),
        MAGNITUDES,
        replace(MINI, high_freq=-500.0, preemphasis_coefficient=0.5),
    ],
)
@pytest.mark.parametrize("seconds", [0.026, 0.5, 2.0, 4.3])
def test_log_mel_equals_kaldi(settings, seconds, noise):
    waveforms = 0.1 * torch.randn(3, round(seconds * settings.sample_rate), generator=noise) + 0.05
    expected = torch.stack([kaldi(w - w.mean(), settings) for w in waveforms])
    assert (audio.log_mel(waveforms, settings) - expected).abs().max() < MEL_TOLERANCE


def test_log_mel_at_another_rate_equals_kaldi(noise):
    settings = AudioSettings(sample_rate=22_050, num_mel_bins=80)
    waveforms = 0.1 * torch.randn(2, 44_100, generator=noise)
    expected = torch.stack([kaldi(w - w.mean(), settings) for w in waveforms])
    assert (audio.log_mel(waveforms, settings) - expected).abs().max() < MEL_TOLERANCE


def test_log_mel_ignores_autocast_and_chunks(noise, monkeypatch):
    waveforms = 0.1 * torch.randn(5, 32_000, generator=noise)
    plain = audio.log_mel(waveforms, AudioSettings())
    monkeypatch.setattr("bind2gen.preprocess.mel.FRAMES_AT_ONCE_CPU", 70)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(audio.log_mel(waveforms, AudioSettings()), plain, atol=1e-5)


def test_first_use_under_inference_mode_leaves_gradients_possible(noise):
    settings = AudioSettings(num_mel_bins=48)  # used by no other test: its window and banks are made here
    waveforms = 0.1 * torch.randn(1, 32_000, generator=noise)
    with torch.inference_mode():
        audio.log_mel(waveforms, settings)
    audio.log_mel(waveforms.requires_grad_(), settings).sum().backward()
    assert waveforms.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "bad", [torch.zeros(16_000), torch.zeros(1, 2, 16_000), torch.zeros(1, 399), torch.zeros(1, 800, dtype=torch.int16)]
)
def test_log_mel_refuses_other_shapes(bad):
    with pytest.raises(ShapeError, match="N, samples"):
        audio.log_mel(bad, AudioSettings())


def test_padding_is_zero_before_normalisation(sine):
    mel = audio.transform(audio.load((sine(1.0, 16_000), 16_000)))
    assert mel[..., 98:].unique().tolist() == pytest.approx([4.268 / 9.138])  # 1 s gives 98 frames
    assert mel[..., :98].std() > 0.1


@pytest.mark.parametrize("policy", ["cover", "even", "sliding"])
def test_short_sounds_are_repeated_until_they_fill_a_clip(policy, noise):
    settings = replace(MINI, padding="repeat", policy=policy)
    short = 0.1 * torch.randn(1, 12_345, generator=noise)
    mel = audio.transform(audio.load((short, 16_000)), settings)
    wanted = audio.log_mel(short.repeat(1, 6)[:, : 4 * 16_000 + 240], settings)
    assert torch.equal(mel, wanted.expand_as(mel)) and wanted.std((0, 1, 2)).min() > 0.01  # no frame is padding
    _, times = audio.cut(audio.load((short, 16_000)), settings)
    assert times[:, 1].tolist() == pytest.approx([12_345 / 16_000] * len(times))  # of what was there


def test_repeating_fills_each_of_several_clips_by_itself(noise):
    settings = replace(MINI, padding="repeat", clip_duration=3.9)
    sound = 0.1 * torch.randn(1, 7 * 16_000, generator=noise)
    clips, _ = audio.cut(audio.load((sound, 16_000)), settings)
    mel = audio.transform(audio.load((sound, 16_000)), settings)
    assert len(mel) == 2 and torch.equal(mel, audio.log_mel(clips, settings))
    assert torch.equal(mel[..., :388], audio.log_mel(clips, replace(settings, padding="pad"))[..., :388])


@pytest.mark.parametrize("seconds", [2.6, 5.0, 7.0])
def test_reference_policy_follows_the_reference_loop(seconds, noise):
    settings = AudioSettings(policy="reference")
    samples = round(seconds * 16_000)
    stereo = 0.1 * torch.randn(2, samples, generator=noise) + torch.linspace(0, 0.3, samples)
    buffer, expected = stereo.clone(), []
    for start in (0.0, (seconds - 2) / 2, seconds - 2):
        view = buffer[:, int(start * 16_000) : int((start + 2) * 16_000)]
        view -= view.mean()
        expected.append(kaldi(view[0], settings))
    ours = audio.transform(audio.load((stereo, 16_000)), settings)
    assert (ours - torch.stack(expected)).abs().max() < MEL_TOLERANCE


def test_default_takes_the_mean_of_channels_and_clean_clips(noise):
    stereo = 0.1 * torch.randn(2, 5 * 16_000, generator=noise) + torch.linspace(0, 0.3, 5 * 16_000)
    mono = stereo.mean(dim=0)
    clips = [mono[start : start + 32_000] for start in (0, 24_000, 48_000)]
    expected = torch.stack([kaldi(clip - clip.mean(), AudioSettings()) for clip in clips])
    assert (audio.transform(audio.load((stereo, 16_000))) - expected).abs().max() < MEL_TOLERANCE


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_callers_array_is_unchanged_bit_for_bit(policy, dtype, noise):
    array = (torch.randn(2, 48_000, generator=noise).numpy() * (3000 if dtype == np.int16 else 0.1)).astype(dtype)
    before = array.tobytes()
    audio.transform(audio.load((array, 16_000)), AudioSettings(policy=policy))
    assert array.tobytes() == before
    tensor = torch.from_numpy(array)
    audio.transform(audio.load((tensor, 16_000)), AudioSettings(policy=policy))
    assert tensor.numpy().tobytes() == before


@pytest.mark.parametrize("rate", [8_000, 22_050, 22_254.5, 44_100, 44_101, 47_999, 48_000, 96_000])
def test_resampling_keeps_the_frequency_and_level_of_a_sine(rate):
    times = np.arange(round(rate)) / rate
    tone = (0.5 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    samples = audio.resample(torch.from_numpy(tone)[None], rate, 16_000)[0]
    assert len(samples) == pytest.approx(16_000, abs=2)
    spectrum = torch.fft.rfft(samples[:16_000] if len(samples) >= 16_000 else samples).abs()
    assert int(spectrum.argmax()) == pytest.approx(1000, abs=1)
    assert float(samples[4000:12_000].square().mean()) == pytest.approx(0.125, rel=0.01)


def test_resampling_equals_torchaudio_at_common_rates(noise):
    sound = torch.randn(2, 44_100, generator=noise)
    for rate in (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000):
        expected = torchaudio.functional.resample(sound, rate, 16_000)
        assert torch.allclose(audio.resample(sound, rate, 16_000), expected, atol=2e-6)  # of samples up to 4
    assert audio.resample(sound, 16_000.0, 16_000) is sound


def test_resampling_keeps_gradients_after_a_first_use_under_inference_mode(noise):
    sound = torch.randn(1, 900, generator=noise)
    with torch.inference_mode():  # a rate used by no other test: its filters are made here
        audio.resample(sound, 11_250, 16_000)
    audio.resample(sound.requires_grad_(), 11_250, 16_000).sum().backward()
    assert sound.grad.abs().sum() > 0


@pytest.mark.parametrize("hop", [0.5, 0.123, 0.01, 0.0131])
def test_shared_frames_equal_those_of_each_clip_alone(noise, hop):
    # A tone fades into near silence: quiet frames must not take rounding from loud ones.
    sound = torch.sin(torch.arange(40_000) * 0.3) * torch.logspace(0, -4, 40_000) + 0.2
    sound = sound + 1e-5 * torch.randn(40_000, generator=noise)
    settings = AudioSettings(policy="sliding", window=1.0, hop=hop)
    bounds = audio.clip_bounds(len(sound), settings)
    together = audio.log_mel_clips(sound, bounds, settings)
    alone = torch.stack([audio.log_mel(sound[None, a:b], settings)[0] for a, b in bounds])
    assert torch.allclose(together, alone, atol=1e-5)


def test_batch_equals_one_by_one(noise):
    sounds = [
        audio.load((0.1 * torch.randn(n, generator=noise), 16_000)) for n in (5_000, 32_000, 80_000, 33_000, 5_000)
    ]
    for settings in (AudioSettings(), MINI, AudioSettings(policy="sliding")):
        for sound, (mel, times) in zip(sounds, audio.transform_batch(sounds, settings), strict=True):
            assert torch.allclose(mel, audio.transform(sound, settings), atol=1e-5)
            assert torch.equal(times, audio.cut(sound, settings)[1])


@given(st.integers(1, 16_000 * 40))
def test_cover_hears_every_sample_in_ceil_clips(samples):
    settings = AudioSettings(policy="cover")
    bounds = audio.clip_bounds(samples, settings)
    assert len(bounds) == -(-samples // 32_000)
    assert bounds[0][0] == 0 and bounds[-1][1] >= samples - 1
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(bounds))
    assert all(end - start == min(32_000, samples) for start, end in bounds)


@given(st.integers(1, 16_000 * 20), st.floats(0.05, 3.0), st.floats(0.1, 2.0))
def test_sliding_windows_step_by_hop_and_end_with_the_sound(samples, hop, window):
    settings = AudioSettings(policy="sliding", hop=hop, window=window)
    bounds = audio.clip_bounds(samples, settings)
    assert bounds[0][0] == 0 and bounds[-1][1] == samples
    steps = [later[0] - earlier[0] for earlier, later in pairwise(bounds)]
    assert all(step == settings.hop_samples for step in steps[:-1])
    assert all(0 < step <= settings.hop_samples for step in steps)


def test_even_clips_are_three_from_start_to_end():
    assert audio.clip_bounds(80_000, AudioSettings()) == [(0, 32_000), (24_000, 56_000), (48_000, 80_000)]
    assert audio.clip_bounds(16_000, AudioSettings()) == [(0, 16_000)] * 3


def test_sliding_gives_one_mel_a_window_with_its_times(sine):
    settings = AudioSettings(policy="sliding", window=1.0, hop=0.5)
    [(mel, times)] = audio.transform_batch([audio.load((sine(2.25, 48_000), 48_000))], settings)
    assert times.tolist() == [[0.0, 1.0], [0.5, 1.5], [1.0, 2.0], [1.25, 2.25]]
    assert mel.shape == (4, 1, 128, 204)


@pytest.mark.parametrize(("kind", "subtype"), [(k, s) for k, subtypes in LOSSLESS.items() for s in subtypes])
def test_lossless_files_give_their_samples(tmp_path, sine, kind, subtype):
    stereo = np.stack([sine(0.5, 44_100), sine(0.5, 44_100, 880)], axis=1)
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, stereo, 44_100, subtype=subtype)
    waveform = audio.load(path)
    assert waveform.sample_rate == 44_100 and waveform.name == str(path)
    assert np.abs(waveform.samples.numpy() - stereo.T).max() <= STEP[subtype]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.ogg", None), ("a.mp3", None), ("a.m4a", "aac"), ("a.mp4", "aac"), ("a.webm", "libopus"), ("a.mkv", "ac3")],
)
def test_lossy_and_ffmpeg_files_give_the_tone(tmp_path, sine, write_sound, name, codec):
    tone, path = sine(1.0, 48_000, 1000), tmp_path / name
    if codec is None:
        soundfile.write(path, tone, 48_000)
    else:
        write_sound(path, tone, 48_000, codec)
    waveform = audio.load(path)
    assert waveform.seconds == pytest.approx(1.0, abs=0.1)
    middle = waveform.samples[0, 12_000:36_000]
    hertz = int(torch.fft.rfft(middle).abs().argmax()) * waveform.sample_rate / len(middle)
    assert hertz == pytest.approx(1000, abs=2)
    assert float(middle.abs().max()) == pytest.approx(0.5, abs=0.1)


def test_every_form_of_a_sound_is_the_same_sound(tmp_path, sine):
    tone = sine(0.5, 16_000)
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone, 16_000, subtype="FLOAT")
    stereo = np.stack([tone, tone])
    with open(path, "rb") as file:
        file.seek(10)
        forms = [
            path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file, (tone, 16_000), (16_000, tone),
            {"array": tone, "sampling_rate": 16_000}, (torch.from_numpy(tone), 16_000), (tone[::-1][::-1], 16_000.0),
            (tone.astype(np.float64), 16_000), (tone.astype(">f4"), 16_000), (stereo, 16_000),
            (stereo.T, np.int64(16_000)),
        ]  # fmt: skip
        for form in forms:
            waveform = audio.load(form)
            assert waveform.samples.shape[1] == len(tone) and waveform.sample_rate == 16_000
            assert torch.equal(waveform.samples[0], torch.from_numpy(tone))
        assert file.tell() == 10 and not file.closed
    assert audio.load(tone, sampling_rate=16_000).sample_rate == 16_000


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"), [(np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.uint8, 2**7, 128)]
)
def test_integers_are_scaled_to_one(sine, dtype, scale, zero):
    tone = sine(0.1, 16_000)
    array = np.round(tone.astype(np.float64) * scale + zero).astype(dtype)
    assert np.abs(audio.load((array, 16_000)).samples[0].numpy() - tone).max() <= 1 / scale + 1e-7


def test_long_files_are_refused_while_reading(tmp_path, sine):
    path = tmp_path / "long.wav"
    soundfile.write(path, sine(3.0, 8_000), 8_000)
    with pytest.raises(TooLargeError, match="long.wav"):
        audio.load(path, settings=AudioSettings(max_seconds=2.0))
    with pytest.raises(TooLargeError, match="array"):
        audio.load((sine(3.0, 8_000), 8_000), settings=AudioSettings(max_seconds=2.0))


def test_broken_torchaudio_is_explained(monkeypatch, sine):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    with pytest.raises(DependencyError, match=r"torch>=2\.11,<2\.15"):
        audio.resample(torch.zeros(1, 100), 7_919, 16_000)  # a rate whose filters are not made yet


@pytest.mark.parametrize(
    "bad",
    [
        {"policy": "all"},
        {"sample_rate": 0},
        {"std": float("nan")},
        {"num_clips": -1},
        {"clip_duration": 3.0},
        {"policy": "sliding", "window": 9.0},
        {"hop": 0.0},
        {"mel_bins": 3},
        {"padding": "loop"},
        {"low_freq": -1.0},
        {"high_freq": 9000.0},
        {"low_freq": 500.0, "high_freq": -7600.0},
        {"preemphasis_coefficient": 1.5},
        {"use_power": 2},
    ],
)
def test_wrong_settings_are_named(bad):
    with pytest.raises(InputError, match=next(name for name in bad if name != "policy" or len(bad) == 1)):
        AudioSettings.from_dict(bad)


def test_settings_round_trip():
    assert AudioSettings.from_dict(MINI.to_dict()) == MINI
    assert AudioSettings.from_dict(MAGNITUDES.to_dict()) == MAGNITUDES != AudioSettings()
