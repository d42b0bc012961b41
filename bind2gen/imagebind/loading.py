"""An encoder and its processor from wherever they are kept: our folders, the hub, the official files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError

from ..errors import Bind2GenError, CheckpointError
from .checkpoint import load_official_checkpoint
from .model import ImageBindModel
from .processor import ImageBindProcessor


def load_imagebind(
    source: str | os.PathLike[str], *, modalities: list[str] | None = None, dtype: torch.dtype | None = None
) -> ImageBindModel:
    """Load an encoder from a folder or hub id of ours, or from an official checkpoint in any known layout.

    Args:
        modalities: build and read only the towers that these need; default is all there are.
        dtype: of the parameters; default is float32 for our own folders, as in the file for official checkpoints.

    Raises:
        CheckpointError: nothing there can be read as ImageBind weights.
        ModalityError: a modality is unknown or has no tower there.
    """
    config = _saved_file(source, "config.json")
    if config is None or ImageBindModel.config_class.model_type not in config.read_text():
        return load_official_checkpoint(source, modalities=modalities, dtype=dtype)
    try:
        return ImageBindModel.from_pretrained(source, modalities=modalities, dtype=dtype or torch.float32)
    except Bind2GenError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{source}: cannot be loaded as an ImageBind encoder: {reason}") from error


def load_processor(source: str | os.PathLike[str]) -> ImageBindProcessor | None:
    """The processor saved beside an encoder (folder or hub id), None where there is none."""
    found = _saved_file(source, "processor_config.json")
    return ImageBindProcessor.from_pretrained(source) if found else None


def _saved_file(source: str | os.PathLike[str], name: str) -> Path | None:
    """A file of a local folder or of a hub repository; None where it is missing or out of reach."""
    if Path(source).exists():
        return Path(source) / name if (Path(source) / name).is_file() else None
    try:
        return Path(hf_hub_download(str(source), name))
    except (HfHubHTTPError, HFValidationError, OSError):  # what is wrong with the source is said where it is loaded
        return None
