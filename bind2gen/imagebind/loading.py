"""An encoder and its processor from wherever they are kept: our folders, the hub, the official files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..errors import Bind2GenError, CheckpointError
from ..files.bundled import PROCESSOR_PART
from ..files.hub import CONFIG_FILE, INDEX, saved_file
from ..files.weights import open_weights, weights_beside
from ..modality import TOWERS
from ..preprocess.sources import one_line
from .checkpoint import load_official_checkpoint, refuse_other_weights
from .config import HUGE, HUGE_TOWERS, ImageBindConfig, read_config
from .model import ImageBindModel, marks
from .processor import ImageBindProcessor
from .released_names import reference_key

PROCESSOR_FILE = "processor_config.json"


def load_imagebind(
    source: str | os.PathLike[str], *, modalities: list[str] | None = None, dtype: torch.dtype | None = None
) -> ImageBindModel:
    """Load an encoder from a folder or hub id of ours, or from an official checkpoint.

    Args:
        modalities: build and read only the towers that these need; default is all there are.
        dtype: of the parameters; default is float32 for our own folders, as in the file for official checkpoints.

    Raises:
        CheckpointError: nothing there can be read as ImageBind weights.
        ModalityError: a modality is unknown or has no tower there.
    """
    if not _is_ours(source):
        return load_official_checkpoint(source, modalities=modalities, dtype=dtype)
    try:
        return ImageBindModel.from_pretrained(source, modalities=modalities, dtype=dtype or torch.float32)
    except Bind2GenError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{source}: cannot be loaded as an ImageBind encoder: {reason}") from error


def load_config(source: str | os.PathLike[str]) -> ImageBindConfig:
    """An encoder's configuration, that of imagebind_huge for released weights; no weights are read or downloaded.

    A hub id without a configuration of ours is taken for released weights.

    Raises:
        CheckpointError: a local file or folder holds neither a configuration of ours nor released weights.
    """
    if _is_ours(source):
        try:
            return read_config(source, None, {})
        except OSError as error:
            raise CheckpointError(f"{source}: config.json cannot be read ({one_line(error)})") from None
    if Path(source).exists():
        refuse_other_weights(open_weights(source))
    return HUGE()


def read_fingerprint(source: str | os.PathLike[str], *, subfolder: str = "") -> dict[str, list[float]]:
    """:meth:`ImageBindModel.fingerprint` of every tower in a folder, file or hub id; no other weights are read.

    Raises:
        CheckpointError: nothing there can be read as ImageBind weights.
    """
    key = "head.projection.weight"
    if _is_ours(source, subfolder):
        found, names = weights_beside(source, subfolder=subfolder), {name: f"towers.{name}.{key}" for name in TOWERS}
    else:
        found, names = open_weights(source), {name: reference_key(name, key) for name in TOWERS}
    prints = {name: marks(found[place]) for name, place in names.items() if found is not None and place in found}
    if not prints:
        raise CheckpointError(f"{source}: wanted ImageBind weights, found none of its towers' projections")
    return prints


def load_processor(source: str | os.PathLike[str] | ImageBindModel) -> ImageBindProcessor:
    """The processor of an encoder: the one that lies beside it or, in a saved pipeline, in the folder next to its own.

    How released weights want their inputs is known; what another encoder was trained with cannot be read off it.

    Args:
        source: folder, file or hub id of the encoder or of a pipeline of ours; or a loaded encoder.

    Raises:
        CheckpointError: there is none, and the encoder is not the released one.
    """
    is_model = isinstance(source, ImageBindModel)
    place = source.name_or_path if is_model else source
    for folder, part in _processor_places(place):
        if saved_file(folder, f"{part}/{PROCESSOR_FILE}" if part else PROCESSOR_FILE):
            return ImageBindProcessor.from_pretrained(folder, subfolder=part)
    config = source.config if is_model else load_config(source)
    if config.embed_dim == HUGE().embed_dim and all(t == asdict(HUGE_TOWERS[n]) for n, t in config.towers.items()):
        return ImageBindProcessor()
    raise CheckpointError(
        f"{place or 'the encoder'}: wanted the processor that it was trained with, found no {PROCESSOR_FILE} beside it "
        f"or in {PROCESSOR_PART}/ of its pipeline; put it there, or in Python give processor="
    )


def _processor_places(place: str | os.PathLike[str]) -> Iterator[tuple[str | os.PathLike[str], str]]:
    """Folder or hub id and subfolder, one after the other."""
    if not str(place):  # an encoder that was not loaded from anywhere
        return
    yield place, ""
    yield place, PROCESSOR_PART
    pipeline = Path(place).resolve().parent
    if Path(place).is_dir() and (pipeline / INDEX).is_file():
        yield pipeline, PROCESSOR_PART


def _is_ours(source: str | os.PathLike[str], subfolder: str = "") -> bool:
    config = saved_file(source, f"{subfolder}/{CONFIG_FILE}" if subfolder else CONFIG_FILE)
    return config is not None and ImageBindConfig.model_type in config.read_text(encoding="utf-8", errors="replace")
