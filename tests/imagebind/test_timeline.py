from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from bind2gen.errors import Bind2GenWarning, EmptyInputError, InputError, ModalityError, UnreadableError
from bind2gen.imagebind.model import ImageBindModel
from bind2gen.imagebind.timeline import embed_timeline, stream_windows
from bind2gen.preprocess import audio, imu, video
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.imu import ImuSettings, Stated
from bind2gen.preprocess.imu.grid import GridStream
from bind2gen.preprocess.resampling import StreamResampler
from bind2gen.preprocess.sliding import cut_windows
from bind2gen.preprocess.video import VideoSettings

QUICK = settings(max_examples=20, deadline=None)
TINY_AUDIO = AudioSettings(num_mel_bins=32, target_length=44, clip_duration=0.4)
TINY_IMU = ImuSettings(sampling_rate=40.0, samples=80)
MEL_TOLERANCE = 1e-4  # of log-mel values: other block borders round differently


@pytest.fixture(scope="module")
def model(make_imagebind: Callable[[], ImageBindModel]) -> ImageBindModel:
    return make_imagebind()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks far smaller than a window, so that every border is crossed."""
    monkeypatch.setattr("bind2gen.preprocess.sound_files.STREAM_BLOCK", 997)
    monkeypatch.setattr("bind2gen.preprocess.imu.tables.BLOCK", 37)
    monkeypatch.setattr("bind2gen.preprocess.sliding.BLOCK", 997)


def collected(batches) -> tuple[torch.Tensor, torch.Tensor]:
    times, windows = zip(*batches, strict=True)
    return torch.cat(windows), torch.cat(times)


def in_blocks(signal: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    edges = [0, *np.cumsum(sizes).tolist()]
    blocks = [signal[:, a:b] for a, b in zip(edges, edges[1:], strict=False)]
    return [*blocks, signal[:, edges[-1] :]]


def write_motion(path: Path, seconds: float, *, jitter: float = 0.0, hole: bool = False, rate: float = 100.0) -> Path:
    rng = np.random.default_rng(0)
    times = (np.arange(round(seconds * rate)) + rng.uniform(-jitter, jitter, round(seconds * rate))) / rate
    values = 0.3 * rng.standard_normal((6, len(times))).cumsum(axis=1) * 0.1 + [[0], [0], [9.8], [0], [0], [0]]
    if hole:
        values[1, 130:190] = values[2, 200:205] = np.nan
        times[len(times) // 2 :] += 1.7
    np.savetxt(
        path, np.vstack([times, values]).T, fmt="%.7g", delimiter=",", header="time,ax,ay,az,gx,gy,gz", comments=""
    )
    return path


# ---- the parts ----


@QUICK
@given(
    st.sampled_from([(44_100, 16_000), (16_000, 44_100), (8_000, 16_000), (48_000, 16_000), (22_254.5, 16_000)]),
    st.lists(st.integers(0, 3000), max_size=5),
    st.integers(1, 9000),
)
def test_streamed_resampling_equals_torchaudio_of_the_whole(rates, sizes, count):
    signal = torch.randn(2, count, generator=torch.Generator().manual_seed(count))
    stream = StreamResampler(*rates)
    made = torch.cat([*(stream.push(block) for block in in_blocks(signal, sizes)), stream.flush()], dim=1)
    expected = torchaudio.functional.resample(signal, *stream.ratio.as_integer_ratio())
    assert made.shape == expected.shape and torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 44_101, 22_254.5])
def test_streamed_resampling_is_that_of_sounds(rate):
    signal = torch.randn(1, round(rate), generator=torch.Generator().manual_seed(0))
    stream = StreamResampler(rate, 16_000)
    made = torch.cat([stream.push(signal), stream.flush()], dim=1)
    assert torch.allclose(made, audio.resample(signal, rate, 16_000), atol=1e-5)


@QUICK
@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 90), st.lists(st.integers(0, 50), max_size=6))
def test_streamed_windows_are_those_of_the_sliding_policy(count, length, hop, sizes):
    signal = torch.arange(2 * count).reshape(2, count)
    sliding = ImuSettings(sampling_rate=1.0, samples=length, policy="sliding", hop=hop)
    pieces = list(cut_windows(in_blocks(signal, sizes), length, hop))
    expected = imu.clip_bounds(count, sliding)
    assert [(start, start + window.shape[1]) for start, window in pieces] == expected
    for (_, window), (start, end) in zip(pieces, expected, strict=True):
        assert torch.equal(window, signal[:, start:end])


@QUICK
@given(st.lists(st.integers(0, 40), max_size=12), st.booleans(), st.integers(0, 99))
def test_a_grid_does_not_depend_on_blocks(sizes, timed, seed):
    rng = np.random.default_rng(seed)
    samples = torch.from_numpy(rng.standard_normal((6, 240)).astype(np.float32))
    for channel, start, length in rng.integers([0, 0, 1], [6, 240, 60], (4, 3)):
        samples[channel, start : start + length] = torch.nan
    times = np.cumsum(rng.uniform(0.002, 0.03, 240) + (rng.random(240) < 0.02)) if timed else None
    times = None if times is None else times - times[0]
    whole = GridStream(60.0, times, 40.0, 0.25).push(samples, end=True)
    stream = GridStream(60.0, times, 40.0, 0.25)
    parts = [stream.push(block) for block in in_blocks(samples, sizes)]
    made = torch.cat([*parts, stream.push(samples[:, :0], end=True)], dim=1)
    assert whole.isfinite().all() and made.shape == whole.shape
    assert torch.allclose(made, whole, atol=1e-5)


# ---- windows of files ----


@pytest.mark.parametrize("rate", [16_000, 44_100, 22_254])
@pytest.mark.parametrize("seconds", [0.2, 0.4, 2.03])
@pytest.mark.usefixtures("small_blocks")
def test_sounds(tmp_path, rate, seconds):
    path = tmp_path / "noise.wav"
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.1 * rng.standard_normal((round(rate * seconds), 2)), rate, subtype="FLOAT")
    sliding = AudioSettings(**vars(TINY_AUDIO) | {"policy": "sliding", "window": 0.3, "hop": 0.11})
    [(mels, times)] = audio.transform_batch([audio.load(path)], sliding)
    windows, found = collected(stream_windows(path, "audio", TINY_AUDIO, window=0.3, hop=0.11, batch_size=3))
    assert torch.allclose(found.float(), times) and torch.allclose(windows[:, 0], mels, atol=MEL_TOLERANCE)
    array = audio.load(path)
    again, _ = collected(stream_windows((array.samples, rate), "audio", sliding))
    assert torch.allclose(again, windows, atol=MEL_TOLERANCE)


@pytest.mark.usefixtures("small_blocks")
def test_sounds_of_containers(tmp_path):
    import av

    path = tmp_path / "noise.m4a"
    noise = (0.1 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        for start in range(0, 48_000, 1024):
            frame = av.AudioFrame.from_ndarray(noise[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sliding = AudioSettings(**vars(TINY_AUDIO) | {"policy": "sliding"})
    mels = audio.transform(audio.load(path), sliding)
    windows, _ = collected(stream_windows(path, "audio", TINY_AUDIO))
    assert torch.allclose(windows[:, 0], mels, atol=MEL_TOLERANCE)


@pytest.mark.parametrize("seconds", [1.0, 2.0, 9.37])
@pytest.mark.parametrize("form", [{}, {"jitter": 0.3}, {"hole": True}, {"rate": 31.7}])
@pytest.mark.usefixtures("small_blocks")
def test_motion(tmp_path, seconds, form):
    path = write_motion(tmp_path / "motion.csv", seconds, **form)
    sliding = ImuSettings(**vars(TINY_IMU) | {"policy": "sliding", "window": 1.5, "hop": 0.7, "axes": "zx-y"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Bind2GenWarning)
        expected, times = imu.cut(imu.load(path), sliding)
        windows, found = collected(stream_windows(path, "imu", sliding, batch_size=2))
    assert torch.allclose(found.float(), times)
    assert windows.shape[1] == 1 and torch.allclose(windows[:, 0], expected, atol=1e-5)


def test_motion_takes_what_the_caller_states(tmp_path):
    path = write_motion(tmp_path / "motion.csv", 6)
    fast, _ = collected(
        stream_windows(path, "imu", TINY_IMU, sampling_rate=200.0, stated=Stated(gyroscope_unit="deg/s"))
    )
    expected = imu.transform(imu.load(path, sampling_rate=200.0, gyroscope_unit="deg/s"), TINY_IMU)
    assert torch.allclose(fast[0, 0], expected[0], atol=1e-5)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *rows[200:], *rows[1:200]]))
    with warnings.catch_warnings(), pytest.raises(InputError, match="sorted while streaming"):
        warnings.simplefilter("ignore", Bind2GenWarning)
        list(stream_windows(path, "imu", TINY_IMU, stated=Stated(timestamps="sort")))


def test_motion_in_memory_is_cut_the_same(tmp_path):
    path = write_motion(tmp_path / "motion.csv", 7)
    from_file, _ = collected(stream_windows(path, "imu", TINY_IMU))
    recording = imu.load(path)
    for source in (recording, (recording.samples, recording.sampling_rate)):
        again, _ = collected(stream_windows(source, "imu", TINY_IMU))
        assert torch.allclose(again, from_file, atol=1e-4)


def write_video(path: Path, seconds: float, rate: int = 10) -> Path:
    """Frames whose grey level counts up."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(round(seconds * rate)):
            pixels = np.full((48, 64, 3), number * 3 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("seconds", "clips", "hop"), [(6.0, 5, 1.0), (5.0, 7, 0.5), (6.0, 3, 2.0)])
def test_videos_equal_evenly_spaced_clips_at_the_same_starts(tmp_path, seconds, clips, hop):
    path = write_video(tmp_path / "levels.mp4", seconds)
    even = VideoSettings(size=28, num_clips=clips)
    expected = video.transform(video.load(path, settings=even), even)
    windows, times = collected(stream_windows(path, "video", even, hop=hop, batch_size=2))
    assert times.tolist() == [[i * hop, i * hop + 2.0] for i in range(clips)]
    assert windows.shape == (clips, 3, 3, 2, 28, 28) and torch.equal(windows.flatten(0, 1), expected)


# ---- embeddings ----


def test_a_timeline_is_the_embeddings_of_the_sliding_windows(tmp_path, model):
    path = write_motion(tmp_path / "motion.csv", 9)
    sliding = ImuSettings(**vars(TINY_IMU) | {"policy": "sliding", "hop": 0.9})
    windows, times = imu.cut(imu.load(path), sliding)
    with torch.no_grad():
        expected = model.encode("imu", windows[None], pool=False)[0]
    moments = list(embed_timeline(model, TINY_IMU, path, "imu", hop=0.9, batch_size=4))
    assert [[m.start, m.end] for m in moments] == pytest.approx(np.array(times.tolist()), abs=1e-5)
    assert torch.allclose(torch.stack([m.vector for m in moments]), expected, atol=1e-5)
    assert not any(m.vector.requires_grad for m in moments) and torch.is_grad_enabled()


def test_views_of_a_video_window_are_averaged(tmp_path, model):
    path, small = write_video(tmp_path / "levels.mp4", 4.0), VideoSettings(size=28)
    windows, _ = collected(stream_windows(path, "video", small, hop=1.0))
    with torch.no_grad():
        expected = model.encode("video", windows)
    found = torch.stack([m.vector for m in embed_timeline(model, small, path, "video", hop=1.0)])
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(found.norm(dim=1), torch.ones(len(found)), atol=1e-5)


def test_reading_goes_no_further_than_asked(tmp_path, model):
    path = tmp_path / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16_000 * 30), 16_000, subtype="FLOAT")
    data = bytearray(path.read_bytes())
    data[-4:] = np.float32(np.nan).tobytes()  # an error that only a reader to the end can meet
    path.write_bytes(data)
    moments = embed_timeline(model, TINY_AUDIO, path, "audio", batch_size=2)
    assert next(moments).start == 0.0
    with pytest.raises(InputError, match="NaN"):
        list(moments)


def test_silence_is_warned_of(tmp_path, model):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    with pytest.warns(Bind2GenWarning, match="silent"):
        list(embed_timeline(model, TINY_AUDIO, path, "audio"))


@pytest.mark.parametrize(
    ("modality", "config", "options", "error", "words"),
    [
        ("image", TINY_AUDIO, {}, ModalityError, "no time axis"),
        ("imu", TINY_AUDIO, {}, InputError, "wanted ImuSettings"),
        ("audio", TINY_AUDIO, {"hop": 0}, InputError, "hop"),
        ("audio", TINY_AUDIO, {"window": 50.0}, InputError, "window"),
        ("audio", TINY_AUDIO, {"batch_size": 0}, InputError, "batch_size"),
        ("audio", TINY_AUDIO, {}, EmptyInputError, "empty"),
        ("imu", TINY_IMU, {}, EmptyInputError, "empty"),
        ("video", VideoSettings(), {}, EmptyInputError, "empty"),
    ],
)
def test_bad_requests_and_files_are_named_errors(tmp_path, modality, config, options, error, words):
    path = tmp_path / "nothing.bin"
    path.touch()
    with pytest.raises(error, match=words):
        list(stream_windows(path, modality, config, **options))


def test_a_missing_tower_is_named_before_the_file_is_read(model):
    from bind2gen.imagebind.config import TINY

    deaf = ImageBindModel(TINY(["imu"]))
    with pytest.raises(ModalityError, match="no audio tower"):
        embed_timeline(deaf, TINY_AUDIO, "no such file", "audio")
    with pytest.raises(UnreadableError, match="no such file"):
        list(embed_timeline(model, TINY_AUDIO, "no such file", "audio"))
