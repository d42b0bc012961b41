"""Recipes: TOML files that say what a training run or a fit does, read into frozen dataclasses and checked on the way.

A name of :func:`~bind2gen.train.recipe_files.bundled_recipes` stands for the file that ships with the package:
``imagebind_audio``, ``imagebind_depth``, ``imagebind_thermal`` and ``imagebind_imu`` hold the settings of the paper
(arXiv 2305.05665).
"""

from __future__ import annotations

import tomllib
import types
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..errors import InputError
from ..preprocess.sources import one_line
from .contrastive import ALONE
from .loop import LoopConfig
from .recipe_files import recipe_path

TRAINED = ("audio", "depth", "thermal", "imu")  # modalities that have a tower of their own to train
ANCHORS = ("image", "text")  # what they may be paired with
POSITIVES = ("pair", "concept")
PRECISIONS = ("no", "bf16")
SIZES = ("huge", "tiny")
WORDS = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes", list: "a list",
    dict: "a table",
}  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class ModelPart:
    """Towers that are trained and what they start from.

    Attributes:
        towers: sizes of towers that the starting weights lack: ``"huge"`` (the paper's) or ``"tiny"`` (for trials).
        init: where all towers come from if the run is given no weights: a bundled model's name, or as ``--init``.
        openclip: ``"MODEL/WEIGHTS"`` as OpenCLIP names them, where the frozen towers come from if the run is given no
            weights; empty: it must be given some.
        drop_path: stochastic depth of the trained tower; absent: as the tower's sizes have it.
    """

    towers: str = "huge"
    init: str = ""
    openclip: str = ""
    drop_path: float | None = None


@dataclass(frozen=True)
class DataPart:
    """Which pairs are drawn, and how.

    Attributes:
        split: which pairs to take; those that name none are of ``"train"``.
        repeat: how often an epoch goes through the data (the paper replicates small sets).
        shuffle_buffer: samples of neighbouring shards that are mixed; a csv is shuffled as a whole.
        workers: processes that read ahead, for each process that trains.
        max_unreadable: so many samples of a process may be unreadable; one more stops the run.
        positives: ``"pair"``: only its own anchor belongs to an input, as in the paper; ``"concept"``: those of its
            concept do too.
        judged: pairs of the split ``"test"`` that the tower is judged on, if there are any (0: none).
        front: settings of the trained modality's front end that differ from what its tower asks for.
    """

    split: str = "train"
    repeat: int = 1
    shuffle_buffer: int = 10_000
    workers: int = 2
    max_unreadable: int = 100
    positives: str = "pair"
    judged: int = 512
    front: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentPart:
    """How inputs and anchors are altered, from :mod:`~bind2gen.train.augment`.

    Attributes:
        inputs, anchors: whether at all.
        area: smallest share of a picture that a crop keeps. colour: largest relative change of brightness, contrast
            and saturation of photos and infrared.
        aligned: depth or infrared gets the crop of its photo (both must show the same view).
        mask_bands, mask_frames: largest width of masked mel bands and 10 ms frames.
        mix_share: share of sounds that another one is mixed under.
    """

    inputs: bool = True
    anchors: bool = True
    area: float = 0.35
    colour: float = 0.3
    aligned: bool = False
    mask_bands: int = 12
    mask_frames: int = 60
    mix_share: float = 0.0


@dataclass(frozen=True)
class SchedulePart:
    """Optimisation; names as in :class:`~bind2gen.train.loop.LoopConfig`.

    Attributes:
        batch_size: pairs a step, of all processes together: a recipe means the same on one GPU and on many.
        epochs, warmup_epochs: passes over the data, each of ``repeat`` times all samples.
        micro_batch: inputs embedded at a time, where the batch does not fit in memory (0: all); the negatives stay the
            whole batch's.
        judge_every: steps between judgements on held-out pairs.
    """

    batch_size: int
    epochs: float
    learning_rate: float
    warmup_epochs: float = 0.0
    final_lr_fraction: float = 0.0
    weight_decay: float = 0.05
    beta2: float = 0.95
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    judge_every: int = 500
    micro_batch: int = 0

    def loop(self, samples: int, *, processes: int = 1, steps: int | None = None) -> LoopConfig:
        """Steps for a data set of ``samples`` (replicas counted) on ``processes``; ``steps`` overrides the epochs.

        Raises:
            InputError: the batch is a single pair, or cannot be shared out evenly.
        """
        if self.batch_size < 2:
            raise InputError(ALONE)
        if self.batch_size % processes:
            raise InputError(
                f"batch_size: wanted a multiple of the {processes} processes, got {self.batch_size}; "
                "change one of the two"
            )
        total = steps or max(1, round(self.epochs * samples / self.batch_size))
        warmup = min(round(self.warmup_epochs * samples / self.batch_size), total)
        same = {f.name: getattr(self, f.name) for f in fields(LoopConfig) if hasattr(self, f.name)}
        return LoopConfig(**same | {"steps": total, "warmup_steps": warmup, "batch_size": self.batch_size // processes})


@dataclass(frozen=True)
class Recipe:
    """One tower against frozen anchors.

    Attributes:
        modality: the tower that is trained. anchor: the frozen one, ``"image"`` or ``"text"``.
        temperature: of the loss.
    """

    modality: str
    temperature: float
    schedule: SchedulePart
    anchor: str = "image"
    model: ModelPart = ModelPart()
    data: DataPart = DataPart()
    augment: AugmentPart = AugmentPart()


# What values must be beyond their type: (test, what is wanted).
_POSITIVE = (lambda v: v > 0, "a number above zero")
_SHARE = (lambda v: 0 <= v <= 1, "a number in 0..1")
_NOT_NEGATIVE = (lambda v: v >= 0, "a number that is not negative")
_LIMITS: dict[str, tuple[Any, str]] = {
    **{key: _POSITIVE for key in ("temperature", "batch_size", "steps", "learning_rate", "repeat", "log_every")},
    **{key: _POSITIVE for key in ("epochs", "save_every", "judge_every", "clip_norm", "area", "shuffle_buffer")},
    **{key: _SHARE for key in ("final_lr_fraction", "drop_path", "mix_share", "ema_decay", "beta2")},
    **{
        key: _NOT_NEGATIVE
        for key in ("warmup_epochs", "warmup_steps", "weight_decay", "workers", "max_unreadable", "judged")
    },
    **{key: _NOT_NEGATIVE for key in ("seed", "mask_bands", "mask_frames", "colour", "micro_batch")},
    **{
        key: (lambda v, allowed=allowed: v in allowed, f"one of {', '.join(allowed)}")
        for key, allowed in (
            ("modality", TRAINED),
            ("anchor", ANCHORS),
            ("positives", POSITIVES),
            ("precision", PRECISIONS),
            ("towers", SIZES),
        )  # fmt: skip
    },
}


def load_recipe(name: str | Path, **schedule: float) -> Recipe:
    """Read a recipe by path or bundled name.

    Args:
        schedule: other values of :class:`SchedulePart`.

    Raises:
        InputError: no such file, no TOML, an unknown or missing key, a wrong type or a value out of range; it says
            which key and what was wanted.
    """
    path = recipe_path(name)
    values = read_table(path)
    if "stages" in values:
        raise InputError(f"{path.name}: holds stages of their own, as bind2gen.mini runs them, and is no run")
    if schedule and isinstance(values.get("schedule"), dict):
        values["schedule"] |= schedule
    return built(Recipe, values, path.name, ())


def load_stages(path: str | Path) -> dict[str, LoopConfig]:
    """Stages, tables ``[stages.NAME]`` of :class:`LoopConfig`'s fields in order, as in ``bind2gen/mini/recipe.toml``.

    Raises:
        InputError: as for :func:`load_recipe`.
    """
    path = recipe_path(path)
    values = read_table(path)
    stages = values.pop("stages", None)
    if values or not isinstance(stages, dict) or not stages:
        raise InputError(f"{path.name}: wanted tables [stages.NAME] and nothing else, got {sorted(values) or 'none'}")
    return {stage: built(LoopConfig, table, path.name, ("stages", stage)) for stage, table in stages.items()}


def read_table(path: Path) -> dict[str, Any]:
    """A recipe file as plain values."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise InputError(f"{path}: wanted a recipe (TOML), cannot read it: {one_line(error)}") from None


def built(kind: type[T], values: Any, name: str, keys: tuple[str, ...] = ()) -> T:
    """A dataclass from a table of the recipe ``name``, ``keys`` deep in it; raises as :func:`load_recipe`."""
    if not isinstance(values, dict):
        raise InputError(f"{name}: [{'.'.join(keys)}] wanted a table, got {values!r}")
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind)}
    where = f"{name}: [{'.'.join(keys)}] " if keys else f"{name}: "
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"{where}unknown keys {', '.join(unknown)}; known are {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [n for n in needed if n not in values]:
        raise InputError(f"{where}wanted the keys {', '.join(needed)}; missing are {', '.join(missing)}")
    made = {}
    for key, value in values.items():
        if is_dataclass(hints[key]):
            made[key] = built(hints[key], value, name, (*keys, key))
        else:
            made[key] = _checked(key, value, hints[key], where)
    return kind(**made)


def _checked(key: str, value: Any, hint: Any, where: str) -> Any:
    """One value, of the type that its field has, in range."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    wanted = next(get_origin(option) or option for option in options if option is not type(None))
    number = isinstance(value, int) and not isinstance(value, bool)
    right = type(value) is wanted or (wanted is float and number)
    if not right or (wanted is float and not abs(value) < float("inf")):
        raise InputError(f"{where}{key}: wanted {WORDS[wanted]}, got {value!r}")
    test, words = _LIMITS.get(key, (lambda v: True, ""))
    if not test(value):
        raise InputError(f"{where}{key}: wanted {words}, got {value!r}")
    return float(value) if wanted is float else value
