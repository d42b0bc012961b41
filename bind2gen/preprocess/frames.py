"""Chosen frames of a video, decoded as a stream: never more than a few frames in memory, however long the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import EmptyInputError, UnreadableError
from .containers import other_tracks

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

SEEK_AHEAD = 3.0  # s; nearer frames are reached by decoding on, farther ones by seeking to a key frame
TURNS = {90: 1, 180: 2, 270: 3}  # degrees counter-clockwise to quarter turns


@dataclass(frozen=True)
class Timeline:
    """Length of a video track: its frame count, its mean rate in frames/s, the time of its first frame in s."""

    count: int
    rate: float
    start: float = 0.0

    @property
    def seconds(self) -> float:
        return self.count / self.rate


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The first real video track; the cover picture of a song is none, nor is what FFmpeg has no decoder for.

    Raises:
        UnreadableError: there is none.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic:
            return stream
    kinds = other_tracks(container, "video")
    raise UnreadableError(f"{name}: wanted a video, this file has no video track (it holds {kinds})")


def timeline(container: InputContainer, stream: VideoStream, name: str) -> Timeline:
    """Read the length from the header, or where the header does not say, count packets without decoding.

    That, and the look at the last packet of a film that does not start at 0, leave the container at its end: open it
    anew to decode.

    Raises:
        EmptyInputError: there are no frames.
        UnreadableError: there is no frame rate.
    """
    import av

    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    if not rate:
        raise UnreadableError(f"{name}: the video states no frame rate; convert it, e.g. to mp4")
    start = float((stream.start_time or 0) * stream.time_base)
    count, length = stream.frames, Fraction(0)
    if stream.duration:
        length = stream.duration * stream.time_base
    elif container.duration:
        length = Fraction(container.duration, av.time_base)
    if not count and length:
        count = round(_from_start(container, stream, length) * rate)
    if not count:
        count = sum(packet.size > 0 for packet in container.demux(stream))
    if count <= 0:
        raise EmptyInputError(f"{name}: the video has no frames")
    return Timeline(int(count), float(rate), start)


def _from_start(container: InputContainer, stream: VideoStream, length: Fraction) -> Fraction:
    """Seconds from the first frame to the end, of a header's ``length``.

    Recorders and cuts start at any time. What is stated then is the length in some formats (MPEG-TS) and the time of
    the end in others (FFmpeg's Matroska, NUT, ASF); both occur in Matroska. The last packet tells which.
    """
    import av

    start = (stream.start_time or 0) * stream.time_base
    if not 0 < start < length:
        return length
    try:
        container.seek(int((start + length) / stream.time_base), stream=stream, backward=True)
        times = [p.pts + (p.duration or 0) for p in container.demux(stream) if p.pts is not None]
    except av.FFmpegError:  # a format that cannot seek
        return length
    if not times:
        return length
    end = max(times) * stream.time_base - start
    return min(length - start, length, key=lambda seconds: abs(seconds - end))


def stacked(frames: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    """(T, 3, H, W) of frames; UnreadableError where their size changes, as in damaged films and some streams."""
    if len(sizes := {tuple(frame.shape[1:]) for frame in frames}) > 1:
        said = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
        raise UnreadableError(f"{name}: wanted frames of one size, got {said}; convert it, or it is damaged")
    return torch.stack(list(frames))


class FrameReader:
    """Goes forward through a video and gives the frame shown at each time asked for.

    Attributes:
        decoded: frames decoded so far, the measure of cost.
        height, width: pixels, as stored.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, line: Timeline) -> None:
        self.container, self.stream, self.line = container, stream, line
        stream.thread_type = "AUTO"
        self.height, self.width = stream.codec_context.height, stream.codec_context.width
        self.codec, self.has_sound = stream.codec_context.name, bool(container.streams.audio)
        self.decoded = 0
        self._seekable = True
        self._rewind()

    def _rewind(self) -> None:
        self._frames = self.container.decode(self.stream)
        self._current: VideoFrame | None = None
        self._index = -1  # frames since the start; only right before the first seek

    def _advance(self) -> bool:
        """Decode one frame; False at the end, where the last frame stays current."""
        frame = next(self._frames, None)
        if frame is None:
            return False
        self._current, self._index, self.decoded = frame, self._index + 1, self.decoded + 1
        return True

    def _time(self) -> float:
        """Seconds of the current frame; streams without time stamps are counted."""
        if self._current.time is not None:
            return self._current.time
        return self.line.start + self._index / self.line.rate

    def at(self, index: int) -> tuple[torch.Tensor, float]:
        """The frame whose time is that of frame ``index`` at the mean rate, or the last one.

        Args:
            index: from 0, not smaller than in the call before.

        Returns:
            ((3, H, W) uint8, upright, and its time in seconds).
        """
        earliest = self.line.start + (index - 0.5) / self.line.rate  # half a frame of slack for rounded time stamps
        reached = self.line.start if self._current is None else self._time()
        if self._seekable and earliest - reached > SEEK_AHEAD:
            self._seek(earliest)
        while self._current is None or self._time() < earliest:
            if not self._advance():
                break
        if self._current is None:
            raise EmptyInputError("the video has no frame that can be decoded")
        return _upright(self._current), self._time() - self.line.start

    def _seek(self, earliest: float) -> None:
        """Go to the key frame before a time; where that does not work, go on decoding, from the start if need be."""
        import av

        reached = self._time() if self._current is not None else self.line.start
        try:
            self.container.seek(int(earliest / self.stream.time_base), stream=self.stream, backward=True)
            self._rewind()
            # A demuxer without an index may land behind the time, or on frames that carry no time at all.
            landed = self._advance() and self._current.time is not None
            landed = landed and self._current.time <= earliest + 1 / self.line.rate
        except av.FFmpegError:  # the format cannot seek; nothing has moved
            self._seekable = False
            return
        if not landed:
            self.container.seek(0)
            self._rewind()
        # Key frames so rare that seeking goes back: from now on decoding straight through is cheaper.
        self._seekable = landed and self._time() >= reached


def _upright(frame: VideoFrame) -> torch.Tensor:
    """RGB, turned as the camera's orientation mark says: (3, H, W) uint8."""
    pixels = frame.to_ndarray(format="rgb24")  # (H, W, 3)
    pixels = np.rot90(pixels, TURNS.get(round(frame.rotation) % 360, 0))
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
