"""A sound's timeline as a film: what the frames hear, how loud it is, and from which noise they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bind2gen.errors import InputError
from bind2gen.files.bundled import bundled_path
from bind2gen.imagebind.timeline import Moment
from bind2gen.pipelines.film import QUIETEST, draw_film, frame_embeds, frame_scales, hear
from bind2gen.pipelines.unclip import ImageBindUnCLIPPipeline
from bind2gen.preprocess.audio import load
from bind2gen.preprocess.envelope import HALF_LIFE, loudness, onsets
from bind2gen.preprocess.waveform import Waveform

RATE, FPS = 16_000, 8.0


@pytest.fixture(scope="module")
def bundled() -> ImageBindUnCLIPPipeline:
    return ImageBindUnCLIPPipeline.from_pretrained(bundled_path())


def tone(hertz: float, seconds: float, loud: float = 0.3) -> torch.Tensor:
    return loud * torch.sin(2 * torch.pi * hertz * torch.arange(int(seconds * RATE)) / RATE)[None]


def noise(seconds: float) -> torch.Tensor:
    return 0.3 * torch.randn(1, int(seconds * RATE), generator=torch.Generator().manual_seed(0))


def joined(*parts: torch.Tensor) -> Waveform:
    return Waveform(torch.cat(parts, dim=1), RATE)


def crossing(rows: torch.Tensor) -> float:
    """Seconds at which rows are as like the last as the first."""
    nearer = (rows - rows[0]).norm(dim=1) > (rows - rows[-1]).norm(dim=1)
    assert torch.equal(nearer, nearer.sort().values)  # once over, never back
    return (~nearer).sum().item() / FPS


def test_frames_weigh_the_windows_around_them():
    basis = torch.eye(4)
    moments = [Moment(i * 0.5, i * 0.5 + 2, basis[0] if i < 4 else basis[1]) for i in range(8)]
    rows = frame_embeds(moments, 44, FPS, 0.25)
    assert torch.allclose(rows.norm(dim=1), torch.ones(44)) and torch.allclose(rows[0], basis[0], atol=1e-4)
    # Middles of windows are at 1, 1.5 ... and those of 2.5 and 3 differ.
    assert abs(crossing(rows) - 2.75) <= 1 / FPS
    angles = (rows[:-1] * rows[1:]).sum(1).clamp(max=1).acos()
    sharper = frame_embeds(moments, 44, FPS, 0.1)
    assert angles.max() < (sharper[:-1] * sharper[1:]).sum(1).clamp(max=1).acos().max()


@pytest.mark.parametrize("first", [3.0, 4.2])
def test_what_frames_hear_changes_where_the_sound_does_within_one_hop(tiny_pipeline, first):
    rows = hear(tiny_pipeline, joined(tone(220, first), noise(4.0)), round((first + 4) * FPS), fps=FPS, hop=0.5)
    assert torch.allclose(rows.norm(dim=1), torch.tensor(tiny_pipeline.host_norm))
    assert abs(crossing(rows) - first) <= 0.5
    assert (rows[0] - rows[-1]).norm() > 3 * (rows[0] - rows[8]).norm()


@pytest.mark.parametrize("names", [("dog", "train"), ("bird", "train")])  # which sound to their ends; the cat does not
def test_the_bundled_model_hears_one_example_after_the_other(bundled, names):
    sounds = [load(bundled_path() / "sounds" / f"{name}.flac") for name in names]
    rows = hear(bundled, joined(*(sound.samples for sound in sounds)), 72, fps=FPS)
    assert abs(crossing(rows) - sounds[0].seconds) <= 0.5


def test_a_sound_shorter_than_a_window_is_one_embedding(tiny_pipeline):
    rows = hear(tiny_pipeline, joined(tone(220, 0.3)), 4, fps=FPS)
    assert rows.shape == (4, 32) and torch.allclose(rows, rows[:1].expand(4, -1), atol=1e-6)


def test_loudness_is_of_each_frame_and_of_no_channel_alone():
    sound = joined(tone(440, 1, 0.3), tone(440, 1, 0.03), torch.zeros(1, RATE))
    level = loudness(sound, 24, FPS)
    assert torch.allclose(level[:8], torch.ones(8), atol=1e-3)
    assert torch.allclose(level[8:16], torch.full((8,), 0.5), atol=1e-3)  # 20 of 40 dB less
    assert torch.equal(level[16:], torch.zeros(8))
    both = Waveform(torch.cat([sound.samples, sound.samples.flip(0)]), RATE)
    assert torch.allclose(loudness(both, 24, FPS), level)
    assert torch.equal(loudness(sound, 30, FPS)[24:], torch.zeros(6))  # after its end
    assert torch.equal(loudness(joined(torch.zeros(1, RATE)), 8, FPS), loudness(joined(torch.zeros(1, RATE)), 8, FPS))


def test_onsets_rise_at_once_and_fall_by_half():
    quiet = torch.zeros(1, RATE)
    found = onsets(joined(quiet, tone(440, 1), quiet, tone(440, 1)), 32, FPS)
    assert found[:8].max() == 0 and found[8] == found[24] == 1
    assert found[8 + int(HALF_LIFE * FPS)] == pytest.approx(0.5) and found[23] < 0.02
    scales = frame_scales("onsets", joined(quiet, tone(440, 1)), 16, FPS)
    assert scales.min() == pytest.approx(QUIETEST) and scales.max() == 1
    assert frame_scales("constant", joined(quiet), 8, FPS) is None


def test_frames_of_a_picture_host_are_drawn_from_one_noise(tiny_pipeline):
    rows = torch.randn(2, 32, generator=torch.Generator().manual_seed(1))[[0, 0, 1]]
    call = {"seed": 5, "num_inference_steps": 2, "guidance_scale": 3.0}
    first, again, other = (np.asarray(frame).astype(int) for frame in draw_film(tiny_pipeline, rows, **call))
    assert abs(first - again).max() <= 1 and abs(first - other).max() > 4  # grey levels
    alone = draw_film(tiny_pipeline, rows, batch_size=1, **call)
    assert abs(np.asarray(alone[2]).astype(int) - other).max() <= 1
    with pytest.raises(InputError, match="strength: wanted constant"):
        draw_film(tiny_pipeline, rows, scales=torch.ones(3), **call)
