"""What there is to hear in a sound: one channel of several, and where in a recording something sounds."""

from __future__ import annotations

import math
import warnings

import torch
import torch.nn.functional as F

from ..errors import Bind2GenWarning

SILENCE = 1e-6  # peak to peak, of -1..1; far under the last bit of 16-bit sound
# Peak to peak of a sine 50 dB under full scale. The bundled model's embeddings of 36 recordings, scaled down, have a
# median cosine with the plain ones of 0.87 at -40 dB and of 0.65 at -50 dB.
FAINT = 2 * 10 ** (-50 / 20)
LOOKED_AT = 1024  # samples that are looked at first: they tell of most sounds
SHORT = 0.2  # s; median cosine of the loudest stretch of a recording with the whole: 0.46 of 0.2 s, 0.31 of 23 ms
LITTLE_OFFSET = 0.1  # share of the power; of more too few digits would be left
LOST = 10 ** (-10 / 10)  # share of power; a mix with less left of its channels is of channels that cancel
PIECE = 0.1  # s of one value of loudness
QUIET = 10 ** (-30 / 20)  # amplitude against the loudest piece, under which nothing sounds
KNOCKS = 1  # pieces that may be louder than what is called the loudest: a knock on the microphone is no sound


def mixed(samples: torch.Tensor) -> torch.Tensor:
    """The mean of all channels, (C, n) to (1, n), fast in whatever order samples lie in memory (files mix channels)."""
    total, *others = samples.unbind()  # rows apart: products of a (1, n) whose rows are said to be one apart are slow
    if not others:
        return total[None]
    total = total + others[0]
    for channel in others[1:]:
        total += channel
    return total.div_(len(samples))[None]


def one_channel(samples: torch.Tensor, name: str) -> torch.Tensor:
    """:func:`mixed`, or the loudest channel, with a warning, where the channels cancel each other; (1, n)."""
    loudest = cancelling(energies(samples))
    if loudest is None:
        return mixed(samples)
    _warn_of_cancelling(name, loudest)
    return samples[loudest][None]


def energies(samples: torch.Tensor) -> torch.Tensor:
    """Of channels (C, n) and of their mean, (C + 1,) float64 on the CPU; an offset is no sound."""
    if len(samples) == 1:
        return torch.zeros(2, dtype=torch.float64)  # nothing can cancel
    samples = samples.detach()
    means = samples.mean(1)
    products = (samples @ samples.T).double()  # (C, C)
    offsets = len(samples.T) * means.double().outer(means.double())
    if bool((offsets.diagonal() < LITTLE_OFFSET * products.diagonal()).all()):  # as of nearly all: one pass less
        products -= offsets
    else:
        moving = samples - means[:, None]
        products = (moving @ moving.T).double()
    products = products.cpu()
    return torch.cat([products.diagonal(), products.mean()[None]])


def cancelling(energy: torch.Tensor) -> int | None:
    """The loudest channel where channels cancel each other in their mean, as with one of two inverted; else None.

    Unrelated channels lose power too when they are averaged, C of them 10 log10(C) dB: what two lose is the measure.

    Args:
        energy: of :func:`energies`.
    """
    *channels, kept = energy.tolist()
    cancel = kept / 2 * len(channels) < LOST * sum(channels) / len(channels)
    return channels.index(max(channels)) if cancel else None


class StreamedChannel:
    """:func:`one_channel` of a sound that comes in (C, n) blocks; and the warnings that only its end allows.

    Whether channels cancel is told from what has come so far, and kept to once they do.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._energy: torch.Tensor | float = 0.0
        self._channel: int | None = None
        self._count, self._low, self._high = 0, math.inf, -math.inf

    def push(self, block: torch.Tensor) -> torch.Tensor:
        """(1, n) of the block."""
        low, high = block.aminmax()
        self._count += block.shape[1]
        self._low, self._high = min(self._low, low.item()), max(self._high, high.item())
        if self._channel is None:
            self._energy = self._energy + energies(block)
            self._channel = cancelling(self._energy)
            if self._channel is not None:
                _warn_of_cancelling(self.name, self._channel)
        return mixed(block) if self._channel is None else block[self._channel][None]

    def end(self, rate: float) -> None:
        """Warn of silence and of what is too faint or too short; ``rate`` in Hz."""
        warn_if_short(self._count / rate, self.name)
        _warn_of_level(self._high - self._low, self.name)


def warn_if_short(seconds: float, name: str) -> None:
    """Warn of a sound that is mostly padding."""
    if seconds < SHORT:
        _warn(f"{name}: {1000 * seconds:.1f} ms of sound is less than {1000 * SHORT:.0f} ms; the rest is padded, its "
              "embedding will mean little")  # fmt: skip


def warn_if_faint(samples: torch.Tensor, name: str) -> None:
    """Warn of silence, and of sound so faint that little of it is left above the floor of the mel values."""
    low, high = samples[:, :LOOKED_AT].aminmax()
    if (high - low).item() < FAINT:
        low, high = samples.aminmax()
        _warn_of_level((high - low).item(), name)


def _warn_of_cancelling(name: str, loudest: int) -> None:
    _warn(f"{name}: the channels cancel each other (one is inverted); in place of their mean the loudest is taken, "
          f"number {loudest + 1}")  # fmt: skip


def _warn_of_level(swing: float, name: str) -> None:
    if swing < SILENCE:
        _warn(f"{name}: the sound is silent; its embedding will mean little")
    elif swing < FAINT:
        level = 20 * math.log10(swing / 2)
        _warn(f"{name}: the sound is faint (its peak is at {level:.0f} dB of full scale); its embedding will mean "
              "little: make it louder")  # fmt: skip


def sounding(sound: torch.Tensor, bounds: list[tuple[int, int]], most: int | None, rate: int) -> list[tuple[int, int]]:
    """Clips where something sounds, in place of clips of which some hold next to nothing.

    A piece of a recording sounds if it is no more than 30 dB softer than the loudest. If there is such a piece in every
    clip the clips stay as they are, and so do those of short and of steady sounds.

    Args:
        sound: (samples,).
        bounds: first sample and one past the last of each clip; all are equally long but for rounding.
        most: clips at most; None is as many as cover what sounds.
        rate: Hz.
    """
    size = round(PIECE * rate)
    length = bounds[0][1] - bounds[0][0]
    if len(sound) <= length or len(sound) < 2 * size:
        return bounds
    padded = F.pad(sound, (0, -len(sound) % size)).view(-1, size)
    loudness = (padded - padded.mean(1, keepdim=True)).square().mean(1).sqrt()
    loudest = loudness.topk(KNOCKS + 1).values[-1]
    sounds = (loudness >= QUIET * loudest) & (loudness > 0)
    before = [0, *sounds.cumsum(0).tolist()]  # pieces that sound before each piece
    if not before[-1] or all(before[-(-end // size)] > before[start // size] for start, end in bounds):
        return bounds
    places = (sounds.nonzero()[:, 0] * size).tolist()  # first samples of the pieces that sound
    windows = [window for part in _stretches(places, size, length) for window in _windows(*part, len(sound), length)]
    if most is not None and len(windows) > most:
        windows = [windows[round(i * (len(windows) - 1) / max(most - 1, 1))] for i in range(most)]
    return windows


def _stretches(places: list[int], size: int, length: int) -> list[tuple[int, int]]:
    """Start and end of what sounds; pauses of less than a clip's ``length`` do not part it."""
    parts = [(places[0], places[0] + size)]
    for place in places[1:]:
        start, end = parts[-1]
        if place - end < length:
            parts[-1] = (start, place + size)
        else:
            parts.append((place, place + size))
    return parts


def _windows(start: int, end: int, count: int, length: int) -> list[tuple[int, int]]:
    """As many clips as cover a stretch, evenly spaced; one that is longer than the stretch lies around it."""
    clips = -(-(end - start) // length)
    if clips == 1:
        first = last = (start + end - length) // 2
    else:
        first, last = start, end - length
    starts = [first + round(i * (last - first) / max(clips - 1, 1)) for i in range(clips)]
    return [(place, place + length) for place in (min(max(s, 0), count - length) for s in starts)]


def _warn(message: str) -> None:
    warnings.warn(message, Bind2GenWarning, stacklevel=4)
