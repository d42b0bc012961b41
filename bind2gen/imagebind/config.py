"""Configuration of the encoder: frozen numbers for each tower. ``HUGE`` stands beside the tiny one used in tests.

Sizes of ``HUGE``: ImageBind paper, appendix B, and the shapes of the released ``imagebind_huge`` weights.
"""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig, PreTrainedConfig

from ..errors import CheckpointError, ModalityError
from ..modality import TOWERS
from ..preprocess.settings import checked
from ..preprocess.sources import one_line

StemKind = Literal["patches", "network", "tokens", "windows"]
NETWORK_ARGS = ("act_layer", "pad_type")  # others could make timm fetch or unpickle what a config names
MODULES_FILE = "modules.json"  # what sentence-transformers looks for in a folder
# Named, not imported: sentence-transformers need not be installed.
SENTENCE_MODULE = "bind2gen.imagebind.sentence_module.ImageBindSentenceModule"
LARGE = 10_000_000  # parameters
NETWORK_STRIDE = 32  # pixels a cell, of the last features of timm's networks


@dataclass(frozen=True)
class TowerConfig:
    """One tower: stem, trunk and head.

    Attributes:
        width, depth, heads: of the transformer trunk.
        stem: ``"patches"`` or ``"network"`` (pictures and spectrograms), ``"tokens"`` (text), ``"windows"`` (IMU).
        input_shape: one clip as the tower takes it: (C, H, W), (context,) or (channels, samples).
        kernel, stride: of the patch projection in (rows, columns), or the window length in samples as (n,).
        stem_channels: widths of stride-2 3x3 convolutions before the patch projection; empty for plain patches.
            Early convolutions train far better on little data (arXiv 2106.14881).
        stem_blocks: residual blocks of two convolutions after each of them.
        network: timm's name of the convolutional network that is a ``"network"`` stem, such as one trained on ImageNet.
        network_args: what it has that is not timm's default: ``timm.create_model``'s of :data:`NETWORK_ARGS`.
        frames: frames that one spatio-temporal patch spans; 1 for a purely spatial stem.
        stem_norm: LayerNorm on the projected patches.
        input_norm: LayerNorm before the first block.
        bias_kv: a learned extra key and value in every attention.
        causal: text reads from left to right, and its embedding is taken at the end-of-text token.
        drop_path: stochastic depth of the last block while training; grows linearly from 0 at the first.
        head_dropout: dropout before the final projection while training.
        logit_scale: the reference's factor on unit-norm embeddings; None where it has none (vision).
        learned_logit_scale: whether that factor is a parameter (text).
    """

    width: int
    depth: int
    heads: int
    stem: StemKind
    input_shape: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    stem_channels: tuple[int, ...] = ()
    stem_blocks: int = 0
    network: str = ""
    network_args: dict[str, str] = field(default_factory=dict, hash=False)
    frames: int = 1
    vocab_size: int = 0
    stem_norm: bool = True
    input_norm: bool = False
    bias_kv: bool = True
    causal: bool = False
    drop_path: float = 0.0
    head_dropout: float = 0.0
    logit_scale: float | None = None
    learned_logit_scale: bool = False

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TowerConfig:
        """Build from parsed JSON.

        Raises:
            InputError: a name is unknown, or a value is of the wrong type.
        """
        return cls(**checked(cls, values))

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis, the class token not counted."""
        if self.stem == "tokens":
            return self.input_shape
        sizes = self.input_shape[1:]
        if self.stem == "network":
            return tuple(-(-size // NETWORK_STRIDE) for size in sizes)
        if self.stem == "patches":
            sizes = tuple(-(-size // 2 ** len(self.stem_channels)) for size in sizes)
        return tuple((size - k) // s + 1 for size, k, s in zip(sizes, self.kernel, self.stride, strict=True))

    @property
    def tokens(self) -> int:
        count = 1
        for size in self.grid:
            count *= size
        return count + (self.stem != "tokens")


def _spectrum_like(width: int, depth: int, heads: int, size: tuple[int, int, int], stride: int, **rest) -> TowerConfig:
    return TowerConfig(width, depth, heads, "patches", size, kernel=(16, 16), stride=(stride, stride), **rest)


HUGE_TOWERS: dict[str, TowerConfig] = {
    "vision": TowerConfig(
        1280, 32, 16, "patches", (3, 224, 224), kernel=(14, 14), stride=(14, 14),
        frames=2, stem_norm=False, input_norm=True, bias_kv=False,
    ),
    "text": TowerConfig(
        1024, 24, 16, "tokens", (77,), vocab_size=49_408, stem_norm=False, bias_kv=False, causal=True,
        logit_scale=1 / 0.07, learned_logit_scale=True,
    ),
    "audio": _spectrum_like(768, 12, 12, (1, 128, 204), 10, drop_path=0.1, logit_scale=20.0),
    "depth": _spectrum_like(384, 12, 8, (1, 224, 224), 16, logit_scale=5.0),
    "thermal": _spectrum_like(768, 12, 12, (1, 224, 224), 16, logit_scale=10.0),
    "imu": TowerConfig(
        512, 6, 8, "windows", (6, 2000), kernel=(8,), stride=(8,), drop_path=0.7, head_dropout=0.5, logit_scale=5.0
    ),
}  # fmt: skip

# The same structure at toy size, for tests: every branch of the code, thousands of parameters.
TINY_TOWERS: dict[str, TowerConfig] = {
    "vision": replace(HUGE_TOWERS["vision"], width=32, depth=2, heads=4, input_shape=(3, 28, 28)),
    "text": replace(HUGE_TOWERS["text"], width=32, depth=2, heads=4, vocab_size=1000),
    "audio": replace(HUGE_TOWERS["audio"], width=24, depth=2, heads=4, input_shape=(1, 32, 44)),
    "depth": replace(HUGE_TOWERS["depth"], width=16, depth=2, heads=4, input_shape=(1, 32, 32)),
    "thermal": replace(HUGE_TOWERS["thermal"], width=24, depth=2, heads=4, input_shape=(1, 32, 32)),
    "imu": replace(HUGE_TOWERS["imu"], width=16, depth=2, heads=4, input_shape=(6, 80)),
}


class ImageBindConfig(PreTrainedConfig):
    """Configuration of :class:`ImageBindModel`.

    Args:
        embed_dim: width D of the shared embedding space.
        towers: tower settings by name (``TowerConfig`` or plain dicts); default is imagebind_huge.
        modalities: the towers to build; default is all in ``towers``.
    """

    model_type = "bind2gen_imagebind"

    def __init__(
        self,
        embed_dim: int = 1024,
        towers: dict[str, TowerConfig | dict[str, Any]] | None = None,
        modalities: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        given = HUGE_TOWERS if towers is None else towers
        if unknown := set(given) - set(TOWERS):
            raise ModalityError(f"unknown towers {sorted(unknown)}; known are {', '.join(TOWERS)}")
        self.embed_dim = embed_dim
        self.towers = {
            name: asdict(tower) if isinstance(tower, TowerConfig) else asdict(TowerConfig.from_dict(tower))
            for name, tower in given.items()
        }
        self.modalities = tower_names(modalities, tuple(self.towers))
        super().__init__(**kwargs)
        importlib.import_module(f"{__package__}.model")  # it tells AutoModel of itself

    def to_json_file(self, json_file_path: str | os.PathLike[str], *args: Any, **options: Any) -> None:
        # Called by save_pretrained of a model: what tells sentence-transformers of it goes along to the hub.
        modules = [{"idx": 0, "name": "0", "path": "", "type": SENTENCE_MODULE}]
        Path(json_file_path).with_name(MODULES_FILE).write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
        super().to_json_file(json_file_path, *args, **options)

    @property
    def is_large(self) -> bool:
        """Whether a tower is of the size of ImageBind's, whose smallest has 19 million parameters in its trunk."""
        return any(12 * tower["depth"] * tower["width"] ** 2 > LARGE for tower in self.towers.values())

    def tower(self, name: str) -> TowerConfig:
        """Settings of one tower, frozen."""
        return TowerConfig.from_dict(self.towers[name])


def tower_names(modalities: list[str] | tuple[str, ...] | None, available: tuple[str, ...]) -> list[str]:
    """The towers that a list of modalities needs, in table order (``image`` and ``video`` both mean ``vision``).

    Raises:
        ModalityError: a name is unknown or has no tower in ``available``, or there is no list of names.
    """
    if modalities is None:
        return [name for name in TOWERS if name in available]
    if isinstance(modalities, str):
        raise ModalityError(f"modalities: wanted a list of names, got {modalities!r}; write [{modalities!r}]")
    wanted = {"vision" if name in ("image", "video") else name for name in modalities}
    if missing := wanted - set(available):
        raise ModalityError(f"no tower for {sorted(missing)}; this model has {', '.join(available)}")
    if not wanted:
        raise ModalityError(f"no modality asked for; this model has {', '.join(available)}")
    return [name for name in TOWERS if name in wanted]


def HUGE(modalities: list[str] | None = None) -> ImageBindConfig:
    """The configuration of the released imagebind_huge model (1,201 M parameters with all six towers)."""
    return ImageBindConfig(1024, HUGE_TOWERS, modalities)


def TINY(modalities: list[str] | None = None) -> ImageBindConfig:
    """A toy of the same structure, for tests."""
    return ImageBindConfig(32, TINY_TOWERS, modalities)


def read_config(source: Any, given: Any, options: dict[str, Any]) -> ImageBindConfig:
    """``given``, or else that of a folder or hub id.

    Raises:
        CheckpointError: config.json is of no ImageBind encoder.
    """
    if isinstance(given, ImageBindConfig):
        return given
    try:
        return ImageBindConfig.from_pretrained(source, **options)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # what should be a table may be a list, a number, nothing
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise CheckpointError(f"{source}: config.json is of no ImageBind encoder ({reason})") from None


AutoConfig.register(ImageBindConfig.model_type, ImageBindConfig, exist_ok=True)
