"""What of a recording is heard: channels that cancel, the places where something sounds, and what is too little."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soundfile
import torch

from bind2gen.errors import Bind2GenWarning
from bind2gen.inspect import facts as inspection
from bind2gen.preprocess import audio, listening
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.sliding import audio_windows

RATE = 16_000  # Hz
COVER = AudioSettings(num_mel_bins=64, target_length=400, clip_duration=4.0, policy="cover")
EVEN = AudioSettings()


@pytest.fixture
def noise() -> np.ndarray:
    """(RATE * 6,) a quarter of full scale."""
    return (0.25 * np.random.default_rng(0).uniform(-1, 1, 6 * RATE)).astype(np.float32)


def spans(sound: np.ndarray, settings: AudioSettings) -> list[tuple[float, float]]:
    _, times = audio.cut(audio.load((sound, RATE)), settings)
    return [(round(start, 2), round(end, 2)) for start, end in times.tolist()]


def with_events(seconds: float, floor: float, *starts: float) -> np.ndarray:
    """Half a second of noise at each of some places in a recording with a noise of ``floor`` of its amplitude."""
    rng = np.random.default_rng(1)
    sound = 0.4 * floor * rng.uniform(-1, 1, round(seconds * RATE))
    for start in starts:
        sound[round(start * RATE) : round((start + 0.5) * RATE)] += 0.4 * rng.uniform(-1, 1, RATE // 2)
    return sound.astype(np.float32)


# ---- channels ----


def test_channels_are_mixed_to_their_mean():
    for channels in (1, 2, 3, 6):
        interleaved = torch.randn(500, channels, generator=torch.Generator().manual_seed(0)).T
        assert torch.allclose(listening.mixed(interleaved), interleaved.mean(0, keepdim=True), atol=1e-6)
        assert torch.equal(listening.one_channel(interleaved, "x"), listening.mixed(interleaved))


@pytest.mark.parametrize("settings", [COVER, EVEN, AudioSettings(policy="sliding")])
def test_of_channels_that_cancel_the_louder_one_is_heard_with_a_warning(noise, settings):
    pair = np.stack([0.9 * noise + 0.1, -noise + 0.1])  # an offset that both share is no sound
    with pytest.warns(Bind2GenWarning, match="array: the channels cancel each other .* number 2"):
        heard = audio.transform(audio.load((pair, RATE)), settings)
    assert torch.equal(heard, audio.transform(audio.load((-noise + 0.1, RATE)), settings))


@pytest.mark.parametrize(
    "others",
    [
        lambda sound, rng: [sound],
        lambda sound, rng: [0 * sound],  # one side of a pair is silent
        lambda sound, rng: 5 * [0 * sound],
        lambda sound, rng: [rng.permutation(sound) for _ in range(15)],  # unrelated
        lambda sound, rng: [-0.3 * sound],
    ],
)
def test_channels_that_do_not_cancel_are_averaged(noise, others):
    channels = np.stack([noise, *others(noise, np.random.default_rng(2))])
    mix = channels.mean(0, dtype=np.float32)
    assert np.allclose(listening.one_channel(torch.from_numpy(channels), "x").numpy(), mix, atol=1e-6)


def test_a_stream_hears_channels_that_cancel_as_the_whole_does(noise, tmp_path):
    long = np.tile(noise, 2)  # several blocks of a file
    soundfile.write(tmp_path / "inverted.wav", np.stack([long, -0.8 * long], axis=1), RATE, subtype="FLOAT")
    settings = AudioSettings(policy="sliding")
    with pytest.warns(Bind2GenWarning, match=r"inverted\.wav: the channels cancel") as told:
        streamed = torch.cat([windows for _, windows in audio_windows(tmp_path / "inverted.wav", settings, 8)])
    assert len(told) == 1
    assert torch.allclose(streamed[:, 0], audio.transform(audio.load((long, RATE)), settings), atol=1e-4)


def test_inspection_says_which_channel_is_taken(noise):
    def said(channels: list[np.ndarray], settings: AudioSettings) -> str:
        raw = audio.load((np.stack(channels), RATE))
        return next(fact.words for fact in inspection.facts("audio", raw, settings, "x") if fact.name == "channels")

    assert said([noise, noise], EVEN) == "2, averaged"
    assert said([noise, -1.2 * noise], EVEN) == "2, number 2 is taken"
    assert said([noise, -1.2 * noise], AudioSettings(policy="reference")) == "2, number 1 is taken"


# ---- where something sounds ----


@pytest.mark.parametrize("floor", [0.0, 0.01])
@pytest.mark.parametrize("settings", [COVER, EVEN])
def test_one_bark_in_a_minute_is_heard_alone(settings, floor):
    length = settings.clip_duration
    assert spans(with_events(60, floor, 19.0), settings) == [(19.25 - length / 2, 19.25 + length / 2)]
    assert spans(with_events(60, floor, 0.1), settings) == [(0.0, length)]  # what lies at an end is not cut off
    assert spans(with_events(60, floor, 59.4), settings) == [(60 - length, 60.0)]
    unwanted = AudioSettings.from_dict(settings.to_dict() | {"sounding": False})
    assert len(spans(with_events(60, floor, 19.0), unwanted)) == (15 if settings is COVER else 3)


def test_far_barks_get_windows_of_their_own_and_a_long_stretch_is_covered():
    assert spans(with_events(60, 0, 10.0, 12.0, 40.0), COVER) == [(9.25, 13.25), (38.25, 42.25)]
    every_second = [20.0 + second for second in range(10)]
    assert spans(with_events(60, 0, *every_second), COVER) == [(20.0, 24.0), (22.75, 26.75), (25.5, 29.5)]
    many = [2.0 + 6 * k for k in range(9)]
    found = spans(with_events(60, 0, *many), EVEN)  # no more than num_clips, from the first to the last
    assert [round(start) for start, _ in found] == [1, 25, 49]


@pytest.mark.parametrize("settings", [COVER, EVEN])
@pytest.mark.parametrize(
    "sound",
    [
        with_events(1.0, 0, 0.2),  # shorter than a clip
        with_events(2.0, 0, 0.2),  # no longer than one
        with_events(30, 1.0),  # steady
        with_events(30, 0.1, 3.0),  # nowhere 30 dB softer
        with_events(30, 0, *range(30)),  # it ticks all the time
        np.zeros(30 * RATE, np.float32),
    ],
)
@pytest.mark.filterwarnings("ignore:.*silent:bind2gen.errors.Bind2GenWarning")
def test_short_and_steady_sounds_stay_as_they_are(sound, settings):
    plain = AudioSettings.from_dict(settings.to_dict() | {"sounding": False})
    heard = audio.transform(audio.load((sound, RATE)), settings)
    assert torch.equal(heard, audio.transform(audio.load((sound, RATE)), plain))


def test_a_knock_on_the_microphone_does_not_silence_the_sea():
    sound = with_events(60, 0.02, 0.0)
    sound[: RATE // 2] = sound[-RATE // 2 :]  # the sea, everywhere
    sound[5 * RATE : 5 * RATE + 200] = 0.9
    assert len(spans(sound, COVER)) == 15


def test_the_exact_policies_are_left_alone():
    for policy in ("reference", "sliding"):
        settings = AudioSettings(policy=policy)
        assert spans(with_events(20, 0, 9.0), settings) == [
            (round(start / RATE, 2), round(end / RATE, 2)) for start, end in audio.clip_bounds(20 * RATE, settings)
        ]


# ---- too little ----


@pytest.mark.parametrize("seconds", [0.01, 0.023, 0.15])
def test_too_short_is_padded_with_a_warning(sine, seconds):
    with pytest.warns(Bind2GenWarning, match=rf"array: {1000 * seconds:.1f} ms .* padded"):
        mel = audio.transform(audio.load((sine(seconds, RATE), RATE)))
    assert mel.shape == (3, 1, 128, 204) and mel.isfinite().all()


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_silence_is_reported(level):
    with pytest.warns(Bind2GenWarning, match="silent"):
        mel = audio.transform(audio.load((np.full(32_000, level, np.float32), RATE)))
    assert mel.isfinite().all()


def test_faint_sounds_are_reported_with_their_level(sine, noise):
    with pytest.warns(Bind2GenWarning, match="faint .*-80 dB"):
        audio.transform(audio.load((2e-4 * sine(1.0, RATE), RATE)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.transform(audio.load((np.concatenate([np.zeros(RATE, np.float32), noise]), RATE)))  # loud, but later


def test_streams_tell_of_what_is_too_little_as_files_do(sine, tmp_path):
    for name, sound, words in (("faint", 2e-4 * sine(1.0, RATE), "faint"), ("short", sine(0.02, RATE), "20.0 ms")):
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE, subtype="FLOAT")
        with pytest.warns(Bind2GenWarning, match=rf"{name}\.wav: .*{words}"):
            list(audio_windows(tmp_path / f"{name}.wav", AudioSettings(policy="sliding"), 4))


@pytest.mark.parametrize("offset", [0.0, 0.01, 0.5, 20.0])
@pytest.mark.parametrize("interleaved", [False, True])
def test_an_offset_is_no_sound(offset, interleaved):
    sound = torch.from_numpy(np.random.default_rng(5).normal(0, 0.1, (44_100, 3))).float()
    sound[:, 1] *= -0.5
    samples = (sound + offset).T if interleaved else (sound + offset).T.contiguous()
    exact = samples.double() - samples.double().mean(1, keepdim=True)
    wanted = torch.cat([exact.square().sum(1), exact.mean(0).square().sum()[None]])
    # float32 sums of 44,100 squares, of which at most a tenth is an offset's
    torch.testing.assert_close(listening.energies(samples), wanted, rtol=2e-4, atol=0)
