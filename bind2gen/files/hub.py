"""A file of a local folder or of a hub repository, looked up in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ..errors import HostError
from .parsed import parse_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
CONFIG_FILE = "config.json"  # of a network
INDEX = "model_index.json"  # what makes a folder a diffusers pipeline
WEIGHT_FILES = (".pth", ".bin", ".safetensors")
# What downloads take, as transformers and diffusers name it.
DOWNLOAD_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision")
HUB_OPTIONS = (*DOWNLOAD_OPTIONS, "subfolder")


def is_hub_id(name: str) -> bool:
    """Whether ``name`` reads as ``owner/name``, of no weight file, and no such path exists."""
    return HUB_ID.fullmatch(name) is not None and not name.endswith(WEIGHT_FILES) and not Path(name).exists()


def saved_file(
    source: str | os.PathLike[str], name: str, *, subfolder: str | None = None, **options: Any
) -> Path | None:
    """A file of a local folder or of a hub repository; None where it is missing or out of reach.

    Args:
        options: of the download, :data:`DOWNLOAD_OPTIONS`.
    """
    if Path(source).exists():
        path = Path(source, subfolder or "", name)
        return path if path.is_file() else None
    if not is_hub_id(str(source)):
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(str(source), name, subfolder=subfolder or None, **options))
    except (HfHubHTTPError, HFValidationError, OSError):  # what is wrong with the source is said where it is loaded
        return None


def pipeline_index(source: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What a diffusers pipeline, a folder or hub id, says of its parts; None where there is no index.

    Raises:
        HostError: the index cannot be read.
    """
    path = saved_file(source, INDEX)
    if path is None:
        return None
    try:
        index = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise HostError(f"{source}: {INDEX} cannot be read as JSON ({error})") from error
    if not isinstance(index, dict):
        raise HostError(f"{source}: {INDEX} is no JSON object that names the pipeline's parts")
    return index
