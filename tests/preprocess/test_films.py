"""Films that start at any time, and animated WebP."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from bind2gen.errors import Bind2GenWarning, TooLargeError, UnreadableError
from bind2gen.preprocess import films, sliding, video
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.films import frames_of, opened_film
from bind2gen.preprocess.frames import Timeline, stacked
from bind2gen.preprocess.video import VideoSettings

CODECS = {"mkv": "libx264", "webm": "libvpx", "asf": "mpeg4", "ts": "libx264", "mp4": "libx264"}


@pytest.mark.parametrize("ending", CODECS)
def test_a_film_that_starts_later_is_the_same_film(tmp_path, write_video, frame_number, ending):
    first, later = (
        write_video(tmp_path / f"from{start}.{ending}", 100, 25, codec=CODECS[ending], start=start) for start in (0, 5)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        clips = [video.load(path) for path in (first, later)]
    assert clips[1].times[:, 0].tolist() == pytest.approx([0, 0.52, 1, 1.52, 2], abs=1e-3)
    assert torch.allclose(clips[0].times, clips[1].times, atol=2e-3)  # milliseconds of Matroska
    numbers = [[frame_number(frame) for frame in clip.frames.flatten(0, 1)] for clip in clips]
    assert numbers[0] == numbers[1] == [0, 49, 13, 62, 25, 74, 38, 87, 50, 99]
    settings = VideoSettings(size=8)
    windows = [list(sliding.video_windows(path, settings, 9, hop=0.5)) for path in (first, later)]
    for (times, views), (other_times, other_views) in zip(*windows, strict=True):
        assert torch.equal(times, other_times) and torch.allclose(views, other_views, atol=0.1)
    for number, (time, pixels) in enumerate(frames_of(later, 0.5)):
        assert time == pytest.approx(12 * number / 25)
        assert frame_number(torch.from_numpy(pixels).permute(2, 0, 1)) == 12 * number
    assert number == 8
    with opened_film(later) as film:
        assert film.line.count == 100


def test_frames_of_several_sizes_are_refused():
    with pytest.raises(UnreadableError, match="a.mp4: wanted frames of one size, got 4 x 2 and 4 x 3"):
        stacked([torch.zeros(3, 2, 4), torch.zeros(3, 3, 4)], "a.mp4")


def test_a_film_whose_header_promises_years_ends_soon(tmp_path, write_video, monkeypatch):
    """Its last frame is held for a minute, not for as long as is said."""
    path = write_video(tmp_path / "a.mkv", 25, 25)
    monkeypatch.setattr(films, "timeline", lambda *_: Timeline(10**10, 25.0))
    times = [time for time, _ in frames_of(path, 5)]
    assert times == list(range(0, 65, 5))


def test_the_length_that_a_header_states_is_not_shortened_where_it_is_one(tmp_path, write_video):
    """A Matroska file of mkvmerge's states its length, however late it starts; FFmpeg's states its end."""
    path = write_video(tmp_path / "merged.mkv", 200, 25, start=3)
    data = path.read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # the element Duration, 8 bytes long
    assert np.frombuffer(data[place : place + 8], ">f8")[0] == 11_000  # ms
    path.write_bytes(data[:place] + np.array(8000, ">f8").tobytes() + data[place + 8 :])
    with opened_film(path) as film:
        assert film.line.count == 200


def test_a_film_that_starts_later_and_is_cut_off_is_reported(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mkv", 250, 25, start=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(Bind2GenWarning, match=r"cut.mkv: the video ends at .* header says 10.0 s"):
        video.load(path)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts"])
def test_the_sound_of_a_film_that_starts_later_is_the_same_sound(tmp_path, write_video, sine, ending):
    sound = (sine(4.0, 16_000), 16_000)
    first, later = (
        write_video(tmp_path / f"from{start}.{ending}", 100, 25, sound=sound, start=start) for start in (0, 5)
    )
    tracks = [video.load_audio_track(path) for path in (first, later)]
    # What an encoder adds before the first sample is cut off only where a file says so.
    assert abs(tracks[0].samples.shape[1] - tracks[1].samples.shape[1]) <= 1024
    settings = AudioSettings(policy="sliding", hop=0.5)
    times = [torch.cat([part for part, _ in sliding.audio_windows(p, settings, 9)]) for p in (first, later)]
    assert torch.allclose(*times, atol=1024 / 16_000) and float(times[1][0, 0]) == 0
    shown = [video.load(path) for path in (first, later)]
    assert torch.allclose(shown[0].times, shown[1].times, atol=2e-3)


def animated(frames: np.ndarray, duration: int | list[int], **options: object) -> bytes:
    file = io.BytesIO()
    first, *others = map(Image.fromarray, frames)
    first.save(file, "WEBP", save_all=True, append_images=others, duration=duration, lossless=True, **options)
    return file.getvalue()


@pytest.fixture
def frames() -> np.ndarray:
    """(24, 16, 20, 3): each of a colour of its own."""
    levels = np.random.default_rng(0).integers(0, 256, (24, 1, 1, 3), dtype=np.uint8)
    return levels.repeat(16, 1).repeat(20, 2)


def test_an_animated_webp_is_the_film_of_its_frames(tmp_path, frames):
    path = tmp_path / "slide.webp"
    path.write_bytes(animated(frames, 125))
    found, wanted = video.load(path), video.load((frames, 8))
    assert torch.equal(found.frames, wanted.frames) and torch.allclose(found.times, wanted.times)
    assert found.name.endswith("slide.webp")
    data = {"bytes": path.read_bytes(), "path": "slide.webp"}
    assert torch.equal(video.load(data).frames, wanted.frames)
    seen = list(frames_of(path, 0.5))
    assert [time for time, _ in seen] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert all(np.array_equal(pixels, frames[4 * i]) for i, (_, pixels) in enumerate(seen))
    windows = list(sliding.video_windows(path, VideoSettings(size=8), 9, hop=1.0))
    assert torch.cat([times for times, _ in windows]).tolist() == [[0, 2], [1, 3]]
    with opened_film(path) as film:
        assert (film.line.rate, film.line.seconds, film.codec, film.has_sound) == (8, 3, "webp", False)


def test_frames_that_rest_are_shown_as_long(frames):
    data = animated(frames[:5], [1000, 125, 125, 125, 1625])  # 5 frames in 3 s
    with warnings.catch_warnings():
        warnings.simplefilter("error", Bind2GenWarning)
        clips = video.load(data, settings=VideoSettings(num_clips=2, clip_duration=1.5))
    shown = [[next(n for n in range(5) if (frame.permute(1, 2, 0).numpy() == frames[n]).all()) for frame in clip]
             for clip in clips.frames]  # fmt: skip
    assert shown == [[0, 2], [4, 4]]  # at 0 and 1.2 s, 1.8 and 2.4 s
    with opened_film(animated(frames[:4], 0)) as film:  # browsers show such frames for a tenth of a second
        assert film.line.rate == 10


def test_transparent_frames_lie_on_white_and_a_still_picture_is_no_animation(frames):
    clear = np.concatenate([frames, np.zeros_like(frames[..., :1])], axis=3)
    clear[:, :8, :, 3] = 255
    shown = video.load(animated(clear, 125)).frames
    assert (shown[..., 8:, :] == 255).all() and torch.equal(shown[0, 0, :, 0, 0], torch.from_numpy(frames[0, 0, 0]))
    with pytest.warns(Bind2GenWarning, match="only 1 frame"), opened_film(animated(frames[:1], 0)) as film:
        assert video.load(animated(frames[:1], 0)).frames.shape == (5, 2, 3, 16, 20) and film.line.count == 1


def test_broken_and_large_animations_are_refused(tmp_path, frames):
    path = tmp_path / "cut.webp"
    path.write_bytes(animated(frames, 125)[:-60])
    with pytest.raises(UnreadableError, match="cut.webp: wanted a video"):
        video.load(path)
    with pytest.raises(TooLargeError, match="20 x 16"):
        video.load(animated(frames, 125), settings=VideoSettings(max_pixels=100))
