"""Films as files: frames and, beside them, the sound that they were made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import Bind2GenError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
VIDEO_CODECS = ("libx264", "mpeg4")  # the first there is
QUALITY = {"crf": "18"}  # of x264: hardly to be told from what was drawn
SOUND_RATE = 48_000  # Hz


def save_film(
    path: str | os.PathLike[str],
    frames: Sequence[Image],
    *,
    fps: float,
    sound: tuple[np.ndarray, float] | None = None,
    comment: str = "",
) -> None:
    """Write H.264 and AAC, the sound cut to the frames' length.

    Args:
        path: ends in one of :data:`FORMATS`.
        frames: of one size, both sides even.
        fps: frames a second.
        sound: (channels, n) float32 of -1..1, of which two channels are kept, and its rate in Hz.
        comment: of the file's metadata.

    Raises:
        Bind2GenError: FFmpeg cannot write it.
    """
    import av
    import numpy as np

    rate, seconds = Fraction(fps).limit_denominator(1000), len(frames) / fps
    codec = next(name for name in VIDEO_CODECS if name in av.codecs_available)
    try:
        with av.open(str(path), "w", format=FORMATS[os.path.splitext(path)[1].lower()]) as film:
            film.metadata["comment"] = comment
            picture = film.add_stream(codec, rate=rate, options=QUALITY if codec == "libx264" else {})
            picture.width, picture.height = frames[0].size
            picture.pix_fmt = "yuv420p"
            if sound is not None:  # before the first frame, which opens all codecs
                layout = "mono" if len(sound[0]) == 1 else "stereo"
                track = film.add_stream("aac", rate=SOUND_RATE, layout=layout)
            for frame in frames:
                film.mux(picture.encode(av.VideoFrame.from_image(frame.convert("RGB"))))
            film.mux(picture.encode(None))
            if sound is not None:
                samples, hertz = sound
                cut = np.ascontiguousarray(samples[:2, : round(seconds * hertz)], np.float32)
                given = av.AudioFrame.from_ndarray(cut, format="fltp", layout=layout)
                given.sample_rate = round(hertz)
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=SOUND_RATE)
                for part in [*resampler.resample(given), *resampler.resample(None)]:
                    film.mux(track.encode(part))
                film.mux(track.encode(None))
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Bind2GenError(f"{path}: the film cannot be written ({reason})") from error


def contact_sheet(frames: Sequence[Image], columns: int = 8) -> Image:
    """The frames on one picture, row by row."""
    from PIL import Image as pillow

    (width, height), rows = frames[0].size, -(-len(frames) // columns)
    sheet = pillow.new("RGB", (width * min(columns, len(frames)), height * rows), "white")
    for number, frame in enumerate(frames):
        sheet.paste(frame, (number % columns * width, number // columns * height))
    return sheet
