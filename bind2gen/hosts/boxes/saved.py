"""A detector's own folder or hub repository: ``config.json``, which names its kind, and ``model.safetensors``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save_file
from torch import nn

from ...errors import CheckpointError, InputError
from ...files.atomic import written_together
from ...files.hub import CONFIG_FILE, saved_file
from ...files.parsed import parse_json
from ...preprocess.settings import Settings

WEIGHTS_FILE = "model.safetensors"
Config = TypeVar("Config", bound=Settings)


def kind_of(source: str | os.PathLike[str]) -> str:
    """The ``model_type`` of a config.json; empty where there is none, for the loader says what is wrong."""
    path = saved_file(source, CONFIG_FILE)
    try:
        return str(parse_json(path.read_text(encoding="utf-8")).get("model_type", "")) if path else ""
    except (OSError, ValueError, AttributeError):
        return ""


def save_network(folder: Path, network: nn.Module, kind: str, config: Settings) -> None:
    """Write both files; counters of batch norms are left out."""
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    values = {"model_type": kind, **config.to_dict()}
    with written_together(folder) as fresh:
        save_file(state, fresh / WEIGHTS_FILE, metadata={"format": "pt"})
        (fresh / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_config(source: str | os.PathLike[str], kind: str, config: type[Config], maker: str) -> Config:
    """The settings that :func:`save_network` wrote.

    Args:
        maker: class whose ``save_pretrained`` writes such folders, and what else may load; for messages.

    Raises:
        CheckpointError: nothing there, damaged, or of another kind.
    """
    path = saved_file(source, CONFIG_FILE)
    if path is None:
        raise CheckpointError(
            f"{source}: no {CONFIG_FILE} there, or the hub cannot be reached; wanted a folder or hub id that {maker}"
        )
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{source}: {CONFIG_FILE} is damaged: {error}") from error
    if not isinstance(values, dict) or values.pop("model_type", None) != kind:
        raise CheckpointError(f"{source}: {CONFIG_FILE} is of another model, not of kind {kind}")
    try:
        return config.from_dict(values)
    except (InputError, TypeError) as error:
        raise CheckpointError(f"{source}: {CONFIG_FILE} does not fit: {error}") from error
