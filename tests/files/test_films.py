"""Films as files, read again with FFmpeg."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image

from bind2gen.errors import Bind2GenError
from bind2gen.files.films import SOUND_RATE, contact_sheet, save_film

FPS = 5.0
FRAMES = [Image.new("RGB", (64, 48), (0, 0, 0) if i < 5 else (255, 255, 255)) for i in range(10)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 44_100)])
def test_frames_and_sound_come_back_at_their_times(suffix, channels, rate, tmp_path):
    sound = np.zeros((channels, 3 * rate), np.float32)
    sound[:, rate:] = 0.5 * np.sin(np.arange(2 * rate) * 2 * np.pi * 440 / rate)
    save_film(tmp_path / f"a{suffix}", FRAMES, fps=FPS, sound=(sound, rate), comment="bind2gen 1.0")
    with av.open(tmp_path / f"a{suffix}") as film:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == FPS
        assert {key.lower(): value for key, value in film.metadata.items()}["comment"] == "bind2gen 1.0"
    assert [time for time, _ in frames] == pytest.approx([i / FPS for i in range(10)], abs=2e-3)
    assert [grey > 128 for _, grey in frames] == [False] * 5 + [True] * 5
    with av.open(tmp_path / f"a{suffix}") as film:
        heard = np.concatenate([frame.to_ndarray() for frame in film.decode(audio=0)], axis=1)
        assert film.streams.audio[0].channels == channels
    loud = np.flatnonzero(abs(heard[0]) > 0.2)
    assert abs(loud[0] / SOUND_RATE - 1) < 0.05  # AAC's own delay is less
    assert abs(heard.shape[1] / SOUND_RATE - 2) < 0.1  # cut to the frames


def test_a_sheet_has_the_frames_row_by_row():
    frames = [Image.new("RGB", (4, 2), (i, 0, 0)) for i in range(10)]
    sheet = np.asarray(contact_sheet(frames))
    assert sheet.shape == (4, 32, 3) and contact_sheet(frames[:3]).size == (12, 2)
    assert [int(sheet[2 * (i // 8), 4 * (i % 8), 0]) for i in range(10)] == list(range(10))
    assert (sheet[2:, 8:] == 255).all()  # nothing there


def test_what_ffmpeg_refuses_is_one_line(tmp_path):
    with pytest.raises(Bind2GenError, match="the film cannot be written"):
        save_film(tmp_path / "a.mp4", [Image.new("RGB", (63, 47))], fps=FPS)
