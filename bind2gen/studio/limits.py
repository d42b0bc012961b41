"""What one visitor may ask for, so that nobody fills the memory or holds the machine. Checked before anything runs."""

from __future__ import annotations

import io
import re
import reprlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import Bind2GenError, Bind2GenWarning, EmptyInputError, InputError, TooLargeError, UnreadableError
from ..preprocess.audio_settings import AudioSettings
from ..preprocess.image import ImageSettings
from ..preprocess.imu import ImuSettings
from ..preprocess.settings import Settings
from ..preprocess.sound_files import sound_blocks
from ..preprocess.waveform import Waveform

MEGABYTE = 1 << 20  # bytes, as browsers and Gradio count
MAX_SEED = 2**32 - 1  # browsers hold whole numbers exactly up to 2**53
MAX_WEIGHT = 2.0
MAX_VALUES = 1 << 27  # samples times channels of a sound: 512 MB as float32
# Advice that only programmers can follow: "..., or raise max_seconds in AudioSettings", "(unit=)", "say encoding='x'".
_ASIDE = re.compile(r",? or (raise|give|stream) [^;]*(=|_)[^;]*|,? stream it with \w+| \(\w+=\)")
_CODE = re.compile(r"\w=|\w_\w")


@dataclass(frozen=True)
class Limits:
    """Upper bounds of one request.

    Attributes:
        megabytes: of one file.
        seconds: of sound; of a longer one the beginning is heard.
        motion_seconds: of an IMU recording.
        pixels: of a picture, before it is decoded.
        characters: of a text.
        steps: of denoising.
        pictures: drawn at once.
        slide: pictures of a slide.
        guidance: guidance scale.
        prompts: looked for at once in one picture.
        shown: pixels, the longer side of a picture that is searched; larger ones are shrunk to it.
        boxes: found in one picture.
    """

    megabytes: float = 20
    seconds: float = 60
    motion_seconds: float = 600
    pixels: int = 50_000_000
    characters: int = 300
    steps: int = 50
    pictures: int = 4
    slide: int = 9
    guidance: float = 20.0
    prompts: int = 7  # as many as there are colours that can be told apart
    shown: int = 1333  # the most that Detic looks at
    boxes: int = 50

    def upload(self, path: str | Path) -> io.BytesIO:
        """Read an uploaded file into memory, under its own name: errors must not show folders of the server.

        Raises:
            UnreadableError, EmptyInputError, TooLargeError: naming the file.
        """
        path = Path(path)
        try:
            size = path.stat().st_size
            if size > self.megabytes * MEGABYTE:
                raise TooLargeError(
                    f"{path.name}: wanted at most {self.megabytes:g} MB, got {size / MEGABYTE:.0f} MB; cut or shrink it"
                )
            if size == 0:
                raise EmptyInputError(f"{path.name}: the file is empty (0 bytes)")
            file = io.BytesIO(path.read_bytes())
        except OSError as error:
            raise UnreadableError(f"{path.name}: cannot be read ({error.strerror})") from None
        file.name = path.name  # quoted in messages
        return file

    def settings(self, name: str, settings: Settings) -> Settings:
        """A modality's settings with the bounds on what is decoded."""
        if isinstance(settings, AudioSettings):
            return replace(settings, max_seconds=min(self.seconds, settings.max_seconds))
        if isinstance(settings, ImuSettings):
            return replace(settings, max_seconds=min(self.motion_seconds, settings.max_seconds))
        if isinstance(settings, ImageSettings):
            return replace(settings, max_pixels=min(self.pixels, settings.max_pixels))
        return settings

    def sound(self, path: str | Path, settings: AudioSettings) -> Waveform:
        """Read an uploaded sound, of a long one so many seconds from its beginning, with a warning.

        Raises:
            Bind2GenError: it cannot be read, or has far too many channels.
        """
        file, parts, count = self.upload(path), [], 0
        seconds = self.settings("audio", settings).max_seconds
        with closing(sound_blocks(file)) as blocks:
            for block, rate in blocks:
                parts.append(block)
                count += block.shape[1]
                if count * len(block) > MAX_VALUES:
                    raise TooLargeError(f"{file.name}: {len(block)} channels are too many; mix them down to one or two")
                if count > seconds * rate:
                    words = f"{file.name}: only the first {seconds:g} s were heard, the rest was cut off"
                    warnings.warn(words, Bind2GenWarning, stacklevel=2)
                    break
        return Waveform(torch.cat(parts, 1)[:, : int(seconds * rate)], rate, file.name)

    def text(self, value: str) -> str:
        """A text, without blanks around it."""
        if not isinstance(value, str):
            raise InputError(f"text: wanted a text, got {reprlib.repr(value)}")
        value = value.strip()
        if len(value) > self.characters:
            raise TooLargeError(f"text: wanted at most {self.characters} characters, got {len(value)}")
        return value

    def steps_of(self, value: Any) -> int:
        return whole("steps", value, 1, self.steps)

    def pictures_of(self, value: Any) -> int:
        return whole("pictures", value, 1, self.pictures)

    def slide_of(self, value: Any) -> int:
        """Pictures of a slide: both ends at least."""
        return whole("pictures of the slide", value, 2, self.slide)

    def guidance_of(self, value: Any) -> float | None:
        """None is the model's own."""
        return None if value is None else finite("guidance", value, 0.0, self.guidance)


def seed_of(value: Any) -> int:
    """A seed, 0..2**32 - 1."""
    return whole("seed", value, 0, MAX_SEED)


def weights_of(weights: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, float]:
    """Weights of what was given; those of what was not are passed over, for sliders are always there.

    Raises:
        InputError: out of range, or none above zero.
    """
    weights = weights or {}
    found = {name: finite(f"weight of {name}", weights.get(name, 1.0), -MAX_WEIGHT, MAX_WEIGHT) for name in given}
    if max(found.values()) <= 0:
        raise InputError("weights: wanted at least one above zero, among " + ", ".join(found))
    return found


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number in low..high; 3.0 is one, for browsers send such.

    Raises:
        InputError: anything else.
    """
    number = finite(name, value, low, high, "a whole number")
    if number != int(number):
        raise InputError(f"{name}: wanted a whole number from {low} to {high}, got {reprlib.repr(value)}")
    return int(number)


def finite(name: str, value: Any, low: float, high: float, kind: str = "a number") -> float:
    """A number in low..high.

    Raises:
        InputError: anything else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # nor is what is no number at all
        ends = " to ".join(f"{int(end) if end == int(end) else end}" for end in (low, high))
        got = "nothing" if value is None else reprlib.repr(value)
        raise InputError(f"{name}: wanted {kind} from {ends}, got {got}")
    return value


def for_visitors(message: object) -> str:
    """A message without the advice that is for programmers: asides, and what follows a semicolon and holds code."""
    first, *others = _ASIDE.sub("", str(message)).split("; ")
    return "; ".join([first, *(part for part in others if not _CODE.search(part))])


@contextmanager
def visitors_words() -> Iterator[list[str]]:
    """Within the block: warnings are gathered as notes, and errors lose what only programmers can follow."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Bind2GenWarning)
        try:
            yield notes
        except Bind2GenError as error:
            raise type(error)(for_visitors(error)) from error
        finally:
            told = [str(warning.message) for warning in caught if issubclass(warning.category, Bind2GenWarning)]
            notes += [for_visitors(message) for message in dict.fromkeys(told)]
