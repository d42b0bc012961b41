from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from bind2gen.errors import Bind2GenWarning, InputError, UnreadableError
from bind2gen.preprocess import films, video
from bind2gen.preprocess.audio import AudioSettings
from bind2gen.preprocess.video import VideoSettings

SIDE_WORDS = 9  # 32-bit words of an mp4 display matrix


def reference_frames(count: int, rate: float, clips: int = 5, seconds: float = 2) -> list[list[int]]:
    """First and last frame of each clip, as pytorchvideo finds them in a list of all frames."""
    latest, chosen = Fraction(max(count / rate - seconds, 0)), []  # exact fractions of floats, as there
    for number in range(clips):
        start = latest / (clips - 1) * number
        frames = list(range(count))[math.ceil(rate * start) : math.ceil(rate * (start + seconds))]
        chosen.append([frames[0], frames[-1]])
    return chosen


def numbers(clips: video.VideoClips, read) -> list[list[int]]:
    return [[read(frame) for frame in clip] for clip in clips.frames]


@pytest.mark.parametrize(
    ("name", "codec", "count", "rate"),
    [
        ("a.mp4", "libx264", 200, 25),
        ("a.mkv", "libx264", 130, Fraction(30_000, 1001)),
        ("a.avi", "mpeg4", 100, 10),
        ("a.ts", "libx264", 150, 25),
        ("a.webm", "libvpx", 75, 24),
        ("a.h264", "libx264", 150, 25),
    ],
)
def test_frames_are_those_of_the_reference(tmp_path, write_video, frame_number, name, codec, count, rate):
    path = write_video(tmp_path / name, count, rate, codec=codec)
    found = numbers(video.load(path), frame_number)
    expected = reference_frames(count, float(rate))
    # A raw stream has no time stamps and no length: its frames are counted, and FFmpeg guesses the rate.
    slack = 1 if name.endswith((".webm", ".ts", ".h264")) else 0
    assert np.abs(np.array(found) - np.array(expected)).max() <= slack


def test_times_are_those_of_the_frames(tmp_path, write_video):
    clips = video.load(write_video(tmp_path / "a.mp4", 200, 25))
    expected = [[0, 1.96], [1.52, 3.48], [3, 4.96], [4.52, 6.48], [6, 7.96]]
    assert clips.times.tolist() == pytest.approx(np.array(expected), abs=1e-4)


def test_a_long_video_is_neither_held_nor_decoded_whole(tmp_path, write_video, frame_number, monkeypatch):
    path = write_video(tmp_path / "long.mp4", 3000, 25, gop=25)
    alive = []

    class Counting(films.FrameReader):
        def at(self, index):
            pixels, time = super().at(index)
            alive.append(pixels.numel())
            return pixels, time

    monkeypatch.setattr(films, "FrameReader", Counting)
    clips = video.load(path)
    assert numbers(clips, frame_number) == reference_frames(3000, 25.0)
    assert len(alive) == 10  # only the frames asked for are turned into pixels
    assert clips.decoded <= 5 * (50 + 2 * 25)  # five clips of 50 frames, each after at most a GOP or two
    assert clips.frames.untyped_storage().nbytes() == 10 * 3 * 32 * 192


def test_rare_key_frames_cost_at_most_two_passes(tmp_path, write_video, frame_number):
    clips = video.load(write_video(tmp_path / "rare.mp4", 1000, 25, gop=5000))
    assert numbers(clips, frame_number) == reference_frames(1000, 25.0)
    assert clips.decoded <= 2000


def test_transform_equals_the_reference_recipe():
    for height, width in ((48, 100), (100, 48), (40, 40)):
        frames = torch.randint(0, 256, (5, 2, 3, height, width), dtype=torch.uint8)
        settings = VideoSettings(size=32)
        ours = video.transform(video.VideoClips(frames, torch.zeros(5, 2)), settings)
        expected = []
        for clip in frames.float() / 255:  # (2, 3, H, W)
            new = (32, math.floor(width / height * 32)) if width >= height else (math.floor(height / width * 32), 32)
            clip = torch.nn.functional.interpolate(clip, size=new, mode="bilinear", align_corners=False)
            mean, std = (torch.tensor(v)[:, None, None] for v in (settings.mean, settings.std))
            clip = ((clip - mean) / std).transpose(0, 1)  # (3, 2, H, W)
            down, right = new[0] - 32, new[1] - 32  # one of them is 0
            for place in (0, 1, 2):
                top, left = ((0, math.ceil(spare / 2), spare)[place] for spare in (down, right))
                expected.append(clip[:, :, top : top + 32, left : left + 32])
        assert ours.shape == (15, 3, 2, 32, 32)
        assert torch.allclose(ours, torch.stack(expected), atol=1e-5)


def test_one_crop_is_the_middle():
    frames = torch.randint(0, 256, (2, 2, 3, 32, 64), dtype=torch.uint8)
    clips = video.VideoClips(frames, torch.zeros(2, 2))
    three, one = (video.transform(clips, VideoSettings(size=32, num_crops=n)) for n in (3, 1))
    assert torch.equal(one, three[1::3])


def test_arrays_with_a_rate_follow_the_same_rule(frame_number):
    frames = np.arange(100, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    before = frames.tobytes()
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2)
    for source in ((frames, 25), (tensor, 25.0), (frames / np.float32(255), Fraction(25))):
        clips = video.load(source)
        level = clips.frames[..., 0, 0, 0].float() * (1 if clips.frames.dtype == torch.uint8 else 255)
        assert level.round().int().tolist() == reference_frames(100, 25.0)
        assert video.transform(clips, VideoSettings(size=8)).shape == (15, 3, 2, 8, 8)
    assert frames.tobytes() == before


def test_orientation_mark_is_obeyed(tmp_path, write_video, frame_number):
    path = write_video(tmp_path / "phone.mp4", 60, 25)
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd")
    matrix = header + 4 + 4 + 20 + 16  # version and flags, times and ids, layer and volume
    one = 1 << 16
    quarter = [0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30]  # turn by 90 degrees clockwise when shown
    data[matrix : matrix + 4 * SIDE_WORDS] = b"".join(v.to_bytes(4, "big", signed=True) for v in quarter)
    path.write_bytes(data)
    clips = video.load(path)
    assert clips.frames.shape[-2:] == (192, 32)
    turned = torch.rot90(clips.frames, 1, dims=(-2, -1))  # a quarter turn back
    assert [[frame_number(f) for f in clip] for clip in turned] == reference_frames(60, 25.0)


@pytest.mark.parametrize("count", [1, 2, 20])
def test_short_videos_are_used_with_a_warning(tmp_path, write_video, frame_number, count):
    path = write_video(tmp_path / "short.mp4", count, 25)
    with pytest.warns(Bind2GenWarning, match="short.mp4"):
        clips = video.load(path)
    assert numbers(clips, frame_number) == [[0, count - 1]] * 5


def test_cut_off_file_is_reported(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mkv", 250, 25)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(Bind2GenWarning, match=r"cut.mkv: the video ends at .* header says 10.0 s"):
        video.load(path)


def test_sound_track_on_request(tmp_path, write_video, sine):
    path = write_video(tmp_path / "talk.mp4", 75, 25, sound=(sine(3.0, 44_100, 1000), 44_100))
    track = video.load_audio_track(path)
    assert track.seconds == pytest.approx(3.0, abs=0.1)
    spectrum = torch.fft.rfft(track.samples[0, :44_100]).abs()
    assert int(spectrum.argmax()) == pytest.approx(1000, abs=2)
    with pytest.raises(InputError, match="talk.mp4"):
        video.load_audio_track(path, settings=AudioSettings(max_seconds=1.0))
    silent = write_video(tmp_path / "silent.mp4", 75, 25)
    with pytest.raises(UnreadableError, match="silent.mp4.*no sound track"):
        video.load_audio_track(silent)


def test_cover_picture_of_a_song_is_no_video(tmp_path, sine):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value
        song = container.add_stream("aac", rate=44_100, layout="mono")
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode())
        frame = av.AudioFrame.from_ndarray(sine(1.0, 44_100)[None], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux(song.encode(frame))
        container.mux(song.encode())
    with pytest.raises(UnreadableError, match=r"song.mp4.*no video track \(it holds audio\)"):
        video.load(path)
    assert video.load_audio_track(path).seconds == pytest.approx(1.0, abs=0.1)


def test_playlists_reach_no_other_file(tmp_path, write_video):
    write_video(tmp_path / "real.ts", 75, 25)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{tmp_path}/real.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableError, match="list.m3u8"):
        video.load(playlist)
    with av.open(str(playlist)) as container:  # which FFmpeg would follow if it were let
        assert container.streams.video
