"""Detection for visitors: sounds and words to look for in one picture; bounded, stoppable, a threshold to play with."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import torch
from PIL import Image

from ..errors import InputError
from ..files.bundled import DETECTOR_PART
from ..files.parsed import parse_json
from ..pipelines.class_vectors import ClassPrompts
from ..pipelines.detection import SCORES_FILE, ImageBindDetectionPipeline
from ..preprocess.image import upright
from ..space.everyday import EVERYDAY_WORDS
from ..space.vocabulary import Vocabulary
from .limits import Limits, visitors_words
from .results import Progress, Prompt, Spotting
from .words import NearestWords
from .worker import Report, Worker

FLOOR = 0.05  # score under which no box is kept, so the lowest threshold
NEAREST = 3  # words that are told of a prompt
KEPT = 4  # pictures that stay encoded, so that other prompts do not run the network again
STAGES = ("Listening", "Looking at the picture", "Comparing")
WARM_SIDE, WARM_RATE = 64, 16_000  # pixels, Hz of what warms the networks


def known_weakness(folder: Path) -> str:
    """What a model's own detector was measured to do on whole photos, for visitors; "" where it was not measured."""
    try:
        found = parse_json((folder / DETECTOR_PART / SCORES_FILE).read_text(encoding="utf-8"))["whole_photos"]["text"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    wrong, right = found["photos_with_a_wrong_box"], found["found"]
    return (
        f"This detector is small. On {found['photos']} whole photographs it finds {right:.0%} of what is there and, "
        f"asked for 17 things at once, draws a box of what is not there on {wrong:.0%} of them."
    )


class DetectionStudio:
    """Finds for visitors what makes a sound in a picture.

    Args:
        pipe: on its device.
        words: that sounds are described with, where the route does not say itself what it understood.
        limits: of one request; None is the default ones.
        worker: of another studio, so that both take turns on one machine; default is one of its own.
        note: what visitors should know of the detector, see :func:`known_weakness`.
    """

    def __init__(
        self,
        pipe: ImageBindDetectionPipeline,
        *,
        words: Sequence[str] | Vocabulary = EVERYDAY_WORDS,
        limits: Limits | None = None,
        worker: Worker | None = None,
        note: str = "",
    ) -> None:
        self.pipe, self.limits, self.worker, self.note = pipe, limits or Limits(), worker or Worker(), note
        self.words = None if pipe.prompter.route == "words" else NearestWords.for_prompter(pipe.prompter, words)
        self._encoded: OrderedDict[str, Any] = OrderedDict()

    @property
    def threshold(self) -> float:
        """The calibrated one, on which the slider starts."""
        return min(max(float(self.pipe.calibration.threshold), FLOOR), 1.0)

    def warm(self) -> None:
        """Go once through everything that is slow the first time."""
        tone = torch.sin(torch.arange(WARM_RATE) / 10).numpy()

        def work(report: Report, stop: Event) -> bool:
            prompts = self.pipe.prompts(audio=[(tone, WARM_RATE)], text=["a dog"])  # known to all
            self.pipe.find(self.pipe.encode_image(Image.new("RGB", (WARM_SIDE, WARM_SIDE))), prompts)
            return True

        for _ in self.worker.run(work, "warm"):
            pass

    def stop(self, session: str) -> bool:
        """Stop a session's search, after the stage at hand; whether there was any."""
        return self.worker.stop(session)

    def close(self) -> None:
        """Stop everything and end the worker's thread."""
        self.worker.close()

    def find(
        self,
        picture: str | None,
        sounds: Sequence[str | None] = (),
        *,
        words: str | None = None,
        session: str = "",
        visitor: str | None = None,
    ) -> Iterator[Progress | Spotting]:
        """Boxes around what makes the sounds, and what the words name.

        Args:
            picture: uploaded file.
            sounds: uploaded files; None and empty ones are not given, and keep their number.
            words: things, with commas between them.
            session: whose work it is, for :meth:`stop`.
            visitor: with whom the others share the machine; default is the session.

        Yields:
            :class:`Progress` while it waits and works, then a :class:`Spotting`; nothing more once it was stopped.

        Raises:
            Bind2GenError: an input cannot be used.
        """
        if not picture:
            raise InputError("no picture to search: upload one, or choose an example")
        heard = {number: path for number, path in enumerate(sounds, 1) if path}
        said = self._things(words)
        if not heard and not said:
            raise InputError("nothing to look for: record or upload a sound, or write some words")
        if len(heard) + len(said) > self.limits.prompts:
            raise InputError(f"wanted at most {self.limits.prompts} sounds and words, got {len(heard) + len(said)}")

        def work(report: Report, stop: Event) -> Spotting | None:
            started = time.perf_counter()
            with visitors_words() as notes:
                report(Progress(0, len(STAGES), doing=STAGES[0]))
                prompts, described = self._listen(heard, said)
                if stop.is_set():
                    return None
                report(Progress(1, len(STAGES), doing=STAGES[1]))
                shown, size, encoded = self._look(picture)
                if stop.is_set():
                    return None
                report(Progress(2, len(STAGES), doing=STAGES[2]))
                found = self.pipe.find(encoded, prompts, threshold=FLOOR, max_detections=self.limits.boxes)
            seconds = time.perf_counter() - started
            return Spotting(shown, found.to_dict(), described, size, self.threshold, tuple(notes), seconds)

        yield from self.worker.run(work, session, visitor=visitor)

    # ---- how ----

    def _things(self, words: str | None) -> list[str]:
        """What the words name, each once."""
        parts = (" ".join(part.split()) for part in self.limits.text(words or "").replace("\n", ",").split(","))
        return list(dict.fromkeys(part for part in parts if part))

    def _listen(self, heard: dict[int, str], said: list[str]) -> tuple[ClassPrompts, tuple[Prompt, ...]]:
        """Class vectors of all prompts, and what each was taken for."""
        sounds = [self.limits.sound(path, self.pipe.prompter.processor.audio) for path in heard.values()]
        given = {name: values for name, values in (("audio", sounds), ("text", said)) if values}
        labels = [*(f"sound {number}" for number in heard), *said]
        prompts = self.pipe.prompts(**given, labels=labels)
        kinds = ["audio"] * len(sounds) + ["text"] * len(said)
        return prompts, tuple(
            Prompt(label, kind, nearest)
            for label, kind, nearest in zip(labels, kinds, self._nearest(prompts), strict=True)
        )

    def _nearest(self, prompts: ClassPrompts) -> list[dict[str, float]]:
        """Of each prompt its nearest words with their probabilities, or with the shares that the route gave them."""
        if prompts.words is not None:
            return [dict(words[:NEAREST]) for words in prompts.words]
        return [self.words.nearest(row[None], NEAREST) for row in prompts.embeds]

    def _look(self, path: str) -> tuple[Image.Image, tuple[int, int], Any]:
        """The picture as it is shown, (width, height) of the upload, and the picture as the network sees it."""
        file = self.limits.upload(path)
        settings = self.limits.settings("image", self.pipe.prompter.processor.image)
        # Not those of the encoder's own input but for the bound: pictures are searched whole.
        picture = upright(file, settings=settings)
        size = picture.size
        if max(size) > self.limits.shown:
            picture.thumbnail((self.limits.shown, self.limits.shown), Image.Resampling.LANCZOS)
        key = hashlib.sha256(file.getbuffer()).hexdigest()
        if key not in self._encoded:
            self._encoded[key] = self.pipe.encode_image(picture)
            while len(self._encoded) > KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(key)
        return picture, size, self._encoded[key]
