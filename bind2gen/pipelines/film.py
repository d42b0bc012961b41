"""A sound's timeline as a film: one embedding a frame, from windows of the sound, drawn from one and the same noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

from ..errors import InputError
from ..imagebind.timeline import Moment, embed_timeline
from ..preprocess.envelope import loudness, onsets
from ..preprocess.waveform import Waveform
from ..space.arithmetic import normalize
from .binding import BoundPipeline
from .conditioning import ImageBindConditioning
from .drawing import draw

STRENGTHS: dict[str, Callable[[Waveform, int, float], torch.Tensor] | None] = {
    "constant": None, "loudness": loudness, "onsets": onsets,
}  # fmt: skip
QUIETEST = 0.3  # share of the adapter's weight that is left in silence
HOP = 0.5  # s between windows
SHORT = 1.0  # s, a window of encoders that repeat a short sound until their clip is full; others hear a whole clip
CONTEXT, STRIDE = 16, 4  # frames that AnimateDiff's motion modules learned together, and FreeNoise's step


def frame_embeds(moments: Sequence[Moment], count: int, fps: float, smooth: float) -> torch.Tensor:
    """(count, D) unit norm: at each frame's middle the windows around it, weighted by a Gaussian of their distance.

    Args:
        moments: windows of the sound.
        count, fps: frames, and how many a second.
        smooth: standard deviation, s.
    """
    middles = torch.tensor([(moment.start + moment.end) / 2 for moment in moments])
    vectors = torch.stack([moment.vector.float().cpu() for moment in moments])
    times = (torch.arange(count) + 0.5) / fps
    weights = (-((times[:, None] - middles) ** 2) / (2 * smooth**2)).softmax(-1)
    return normalize(weights @ vectors)


def hear(
    pipe: ImageBindConditioning,
    sound: Waveform,
    count: int,
    *,
    fps: float,
    window: float | None = None,
    hop: float = HOP,
    smooth: float | None = None,
) -> torch.Tensor:
    """Conditioning vectors of ``count`` frames, (count, D), that follow a sound within one hop.

    Args:
        window: s, of what is heard at a time; default is :data:`SHORT`, or the encoder's clip (ImageBind's: 2 s). In a
            longer one the louder of two sounds is heard for as long as any of it is left.
        hop: s between windows.
        smooth: s, see :func:`frame_embeds`; default is half a hop.
    """
    settings = pipe.processor.audio
    if window is None and settings.padding == "repeat" and settings.clip_duration > SHORT:
        window = SHORT
    moments = list(embed_timeline(pipe.imagebind, pipe.processor, sound, "audio", window=window, hop=hop))
    return pipe.condition({"audio": frame_embeds(moments, count, fps, smooth or hop / 2)})


def frame_scales(kind: str, sound: Waveform, count: int, fps: float) -> torch.Tensor | None:
    """(count,) shares of the adapter's weight, :data:`QUIETEST` to 1; None where it is the same in all frames."""
    measure = STRENGTHS[kind]
    return None if measure is None else QUIETEST + (1 - QUIETEST) * measure(sound, count, fps)


def draw_film(
    pipe: ImageBindConditioning,
    rows: torch.Tensor,
    *,
    seed: int,
    scales: torch.Tensor | None = None,
    batch_size: int = 4,
    **options: Any,
) -> list[Image.Image]:
    """The frames of conditioning vectors (F, D).

    A pipeline of films draws them at once; one of pictures one by one, each from the noise of ``seed``. AnimateDiff is
    left with FreeNoise (arXiv 2310.15169) where these are more frames than it learned together: diffusers cannot take
    it away again from a UNet without motion in its middle. Stable Video Diffusion draws as many frames as it learned at
    a time, of their mean embedding; the last of them is the first of the next.

    Args:
        scales: (F,), shares of the adapter's weight; of AnimateDiff alone.
        batch_size: pictures at a time.
        options: of the pipeline.

    Raises:
        InputError: ``scales`` for a pipeline without.
    """
    if scales is not None and not (isinstance(pipe, BoundPipeline) and pipe.host.own_frames):
        raise InputError("strength: wanted constant, only AnimateDiff's IP-Adapter has a weight for each frame")
    if isinstance(pipe, BoundPipeline) and pipe.slot.media == "video":
        if not pipe.host.own_frames:
            return _chained(pipe, rows, seed, **options)
        if len(rows) > CONTEXT and not pipe.pipe.free_noise_enabled:
            pipe.pipe.enable_free_noise(context_length=CONTEXT, context_stride=STRIDE)
        options |= {} if scales is None else {"frame_scales": scales.tolist()}
        generator = torch.Generator().manual_seed(seed)  # no list: FreeNoise takes none
        return pipe(image_embeds=rows[None], rescale_embeds=False, generator=generator, **options).frames[0]
    parts = draw(pipe, rows, [seed] * len(rows), batch_size=batch_size, **options)
    return [frame for part in parts for frame in part]


def _chained(
    pipe: BoundPipeline, rows: torch.Tensor, seed: int, *, host: dict[str, Any], **options: Any
) -> list[Image.Image]:
    frames, image = [], host["image"]
    for part in rows.split(pipe.pipe.unet.config.num_frames):
        generator = [torch.Generator().manual_seed(seed)]
        made = pipe(image_embeds=part.mean(0, keepdim=True), host={"image": image}, generator=generator, **options)
        frames += made.frames[0][: len(part)]
        image = frames[-1]
    return frames
