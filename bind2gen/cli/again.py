"""``bind2gen generate --like``: what a picture holds so that it can be drawn again, and doing so."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import Bind2GenError, HostError, UnreadableError
from ..files.bundled import resolve_example
from ..files.hub import is_hub_id
from .arguments import INPUT_MODALITIES, UNWANTED, UsageError, option_of
from .hosts import OF_HOSTS
from .inputs import STDIN
from .names import display_names
from .reporting import one_line, say
from .seeds import files_of

if TYPE_CHECKING:
    import torch

    from ..pipelines.conditioning import ImageBindConditioning

Texts = str | Sequence[str]
PROGRAM = ("bind2gen", "generate")
CHOSEN = ("seed", "num_images", "best_of")
# Of a run, not of a picture; a picture has a seed of its own, and was chosen already.
OF_A_RUN = ("out", "like", "keep_paths", "json", "quiet", "verbose", "overwrite", "keep_going", "batch_size", "profile",
            *CHOSEN)  # fmt: skip
FILES = (*(name for name in INPUT_MODALITIES if name != "text"),
         *(f"not_{name}" for name in UNWANTED if name != "text"), "begin_with")  # fmt: skip
MODELS = ("model", "imagebind", "adapter", "host", "ip_adapter")
COMMAND, HASHES, FINGERPRINT, MADE_WITH, BATCH = "command", "sha256", "fingerprint", "made_with", "batch"  # text's keys
BLOCK = 1 << 20  # bytes read at a time


# ---- what a picture holds ----


class Recorder:
    """Tells of each picture of a run what it is drawn again by.

    Args:
        args: the command line.
        modalities: of the inputs.
        again: what is drawn again.

    Attributes:
        inputs: of each input, or group of inputs that makes a picture: modality -> what it is called, and -> where it
            lies; both one or several. Set when they are known.
        shared: what is told of all pictures.
        batch: the place of each picture among those that it is drawn together with, and how many these are; (0, 1)
            where that follows from the batch size.

    Raises:
        HostError: as of :meth:`Again.check`.
    """

    def __init__(
        self, args: argparse.Namespace, pipe: ImageBindConditioning, modalities: Sequence[str], again: Again | None
    ) -> None:
        self.args = args
        self.inputs: list[tuple[Mapping[str, Texts], Mapping[str, Texts]]] = []
        self._hashes: dict[str, str] = {}
        device, dtype, own = pipe._execution_device, pipe.imagebind.dtype, pipe.defaults
        defaults = {"steps": args.steps or own.get("num_inference_steps"), "guidance": own.get("guidance_scale")}
        self._defaults = {name: [str(value)] for name, value in defaults.items() if value is not None}
        self.shared = {FINGERPRINT: fingerprint(pipe, modalities), MADE_WITH: made_with(device, dtype)}
        if again is not None:
            again.check(self.shared)
        self.batch = (0, 1) if again is None else again.batch

    def told(self, number: int, seed: int, row: int, at_once: int, rows: int) -> dict[str, Any]:
        """Of one picture: the command that draws it, and what is to be the same.

        Args:
            number: of its inputs.
            row: its own, of ``rows`` that are drawn ``at_once`` each.
        """
        words, hashes = [], {}
        for name, values in self.inputs[number][0].items():
            called, files = _several(values), _several(self.inputs[number][1][name])
            words += [f"--{name}={value}" for value in called]
            if name != "text":
                hashes |= zip(called, map(self._hash, files), strict=True)
        typed = self._defaults | self.args.typed
        for name, values in ((name, typed[name]) for name in typed if name not in (*OF_A_RUN, *INPUT_MODALITIES)):
            if name in (*FILES, *MODELS) and not self.args.keep_paths:
                shown = [value if is_hub_id(value) else display_names([value], "image")[0] for value in values]
            else:
                shown = values
            words += _option(name, shown)
            if name in FILES:
                hashes |= zip(shown, map(self._hash, values), strict=True)
        told = {COMMAND: shlex.join([*PROGRAM, *words, f"--seed={seed}"]), HASHES: hashes}
        own = (row % at_once, min(at_once, rows - row // at_once * at_once)) if self.batch == (0, 1) else self.batch
        return told if own == (0, 1) else told | {BATCH: own}

    def _hash(self, value: str) -> str:
        if value not in self._hashes:
            self._hashes[value] = content_hash(value)
        return self._hashes[value]


def _several(values: Texts) -> Sequence[str]:
    return [values] if isinstance(values, str) else values


def content_hash(value: str) -> str:
    """SHA-256 of a file, an example, or of all files of an exported folder."""
    digest = hashlib.sha256()
    for path in files_of(Path(resolve_example(value))):
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def fingerprint(pipe: ImageBindConditioning, modalities: Sequence[str]) -> str:
    """What tells the weights and the schedule that a picture was drawn by from all others.

    Args:
        modalities: of the encoder that count; not all of its towers need be loaded.
    """
    from ..modality import MODALITIES

    parts = dict(getattr(pipe, "pipe", pipe).components) | {"adapter": pipe.adapter}
    parts.pop("imagebind", None)
    parts |= {tower: pipe.imagebind.towers[tower] for tower in {MODALITIES[name].tower for name in modalities}}
    digest = hashlib.sha256()
    for name, part in sorted(parts.items()):
        for mark in _marks(part):
            digest.update(name.encode() + mark)
    return digest.hexdigest()[:32]


def _marks(part: Any) -> Iterator[bytes]:
    """The sum of each tensor's bits, which is the same in whatever order it is taken, and the settings."""
    for key, value in part.state_dict().items() if hasattr(part, "state_dict") else ():
        yield f"{key} {tuple(value.shape)} {_sum_of_bits(value)}".encode()
    if isinstance(config := getattr(part, "config", None), dict):
        # What an adapter knows of encoders depends on the towers that were loaded.
        settings = {key: value for key, value in config.items() if not key.startswith("_") and key != "encoder"}
        yield json.dumps(settings, sort_keys=True, default=str).encode()


def _sum_of_bits(tensor: torch.Tensor) -> int:
    """Eight bytes at a time where they come out even: sums of narrower numbers take torch ten times as long."""
    import torch

    flat = tensor.contiguous().flatten()
    start, length = flat.storage_offset() * flat.element_size(), flat.numel() * flat.element_size()
    kinds = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}
    kind = next(kind for size, kind in kinds.items() if start % size == length % size == 0)
    return int(flat.view(kind).sum(dtype=torch.int64))


def made_with(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Versions and the machine's part: another one may draw otherwise."""
    import torch

    versions = {name: version(name) for name in ("torch", "diffusers", "transformers")}
    here = {"device": device.type, "dtype": str(dtype).removeprefix("torch."), "threads": str(torch.get_num_threads())}
    return {"bind2gen": __version__} | versions | here


# ---- drawing it again ----


class Again:
    """A picture that is to be drawn again, and whether that can be.

    Attributes:
        args: the picture's own command line, with what was given beside it.
        changed: options that were given beside it.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        from . import build_parser

        self.picture, self.text, self._same = given.like, read_text(given.like), True
        self.changed = {name for name in given.typed if name not in OF_A_RUN or name in CHOSEN}
        typed = given.typed
        self._dropped = {*(OF_HOSTS if "model" in typed else ()), *(["model"] if "host" in typed else [])}
        try:
            words = shlex.split(self.text[COMMAND])[len(PROGRAM) :]
            self.hashes = dict(json.loads(self.text[HASHES]))
        except (ValueError, TypeError) as error:
            raise UnreadableError(f"{self.picture}: its text is damaged ({one_line(error)})") from None
        own = {name: values for name, values in given.parser.typed(words).items() if self._kept(name, given)}
        self._check_files(own)
        found = {name: [self._place(name, value) for value in values] for name, values in own.items()}
        beside = {name: values for name, values in given.typed.items() if name != "like"}
        both = [word for name, values in (found | beside).items() for word in _option(name, values)]
        self.args = build_parser().parse_args([PROGRAM[1], *both])
        self.args.like, self.args.quiet = given.like, given.quiet
        self._tell_of_other_files(given)

    def _kept(self, name: str, given: argparse.Namespace) -> bool:
        return (name not in OF_A_RUN or name == "seed") and name not in {*given.typed, *self._dropped}

    def _place(self, name: str, value: str) -> str:
        """Where a file is: as it was called from here, or beside the picture."""
        beside = Path(self.picture).parent / value
        if name in (*FILES, *MODELS) and not Path(value).exists() and beside.exists():
            return str(beside)
        return value

    def _check_files(self, own: Mapping[str, Sequence[str]]) -> None:
        """Refuse what is not there or not the same; and what is not on this machine, unless it was asked for."""
        for name, value in ((name, value) for name, values in own.items() for value in values):
            option = option_of(name)
            if name in MODELS and is_hub_id(self._place(name, value)):
                raise UsageError(f"{self.picture}: drawn by the hub's {value}; add {option} {value} to load that")
            if name not in FILES:
                continue
            if value == STDIN:
                raise UsageError(f"{self.picture}: made of what came by standard input; add {option} FILE")
            path = resolve_example(self._place(name, value))
            if not Path(path).exists():
                raise UnreadableError(f"{value}: {self.picture} was made of it, it is not here; add {option} FILE")
            if content_hash(path) != self.hashes.get(value):
                raise UnreadableError(
                    f"{value}: changed since {self.picture} was made of it; add {option} {path} to take it as it is now"
                )

    def _tell_of_other_files(self, given: argparse.Namespace) -> None:
        """Files that were given beside it; those that it was made of change nothing."""
        for value in (value for name in FILES for value in given.typed.get(name, ())):
            there = value != STDIN and Path(resolve_example(value)).exists()
            if not there or content_hash(value) not in self.hashes.values():
                self._same = False
                if there and not given.quiet:
                    say(f"bind2gen: note: {value} is nothing that {self.picture} was made of")

    def check(self, told: Mapping[str, Any]) -> None:
        """Before it is drawn: by the same model?

        Args:
            told: of this run, :attr:`Recorder.shared`.

        Raises:
            HostError: no, and no other one was asked for.
        """
        if self.text.get(FINGERPRINT) != told[FINGERPRINT]:
            self._same = False
            words = f"{self.picture}: drawn by {self.text.get('model', 'another model')} with other weights than these"
            if not self.changed & {*MODELS, *INPUT_MODALITIES, "dtype", "steer"}:
                raise HostError(f"{words}; give the same by --model, --host, --imagebind or --adapter")
            if self.changed & {*MODELS} and not self.args.quiet:
                say(f"bind2gen: note: {words}")
        was = json.loads(self.text.get(MADE_WITH, "{}"))
        other = [f"{name} {was.get(name)}, now {now}" for name, now in told[MADE_WITH].items() if was.get(name) != now]
        if other and not self.args.quiet:
            say(f"bind2gen: note: {self.picture} was made with {'; '.join(other)}: this one may differ a little")

    @property
    def batch(self) -> tuple[int, int]:
        """The picture's place among those that it was drawn together with, and how many these were.

        Products of matrices round otherwise for another number of rows.
        """
        if not self._same or self.changed - {*MODELS, *FILES} or BATCH not in self.text:
            return 0, 1
        place, count = json.loads(self.text[BATCH])
        return int(place), max(1, min(int(count), 1024))


def read_text(picture: str) -> dict[str, str]:
    """What ``bind2gen generate`` wrote into a picture.

    Raises:
        UnreadableError: it is no picture. Bind2GenError: there is nothing of the kind in it.
    """
    from PIL import Image

    try:
        with Image.open(picture) as image:
            text = dict(getattr(image, "text", {}))
    except Exception as error:  # noqa: BLE001  (Pillow raises many kinds)
        reason = getattr(error, "strerror", None) or f"no picture: {type(error).__name__}"
        raise UnreadableError(f"--like {picture}: cannot be read ({reason})") from None
    if not {COMMAND, HASHES} <= text.keys():
        made = f"it was made by {text['Software']}" if "Software" in text else "found none"
        raise Bind2GenError(
            f"--like {picture}: wanted a PNG of bind2gen generate, which holds what it was made of; {made}"
        )
    return text


def _option(name: str, values: Sequence[str]) -> list[str]:
    """As words of a command line."""
    option = option_of(name)
    return [f"{option}={values[0]}"] if len(values) == 1 else [option, *values]
