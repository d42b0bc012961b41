"""Pipelines whose class lives in this package: how diffusers saves, finds and downloads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from huggingface_hub import snapshot_download

from ...files.hub import DOWNLOAD_OPTIONS
from .stated_parts import check_parts, load_parts

PACKAGE = "bind2gen"
PIPELINE_FILE = "pipeline.py"
# What a saved pipeline is made of; a repository may hold more, such as the weights in other formats.
SAVED_FILES = ["*.json", "*.txt", "*.gz", "*.npz", "*.safetensors", PIPELINE_FILE]


class KnownClassMixin:
    """For ``Class.from_pretrained``: the class is known already, so a folder's own ``pipeline.py`` is not run."""

    @classmethod
    def load_config(cls, *args: Any, **kwargs: Any) -> dict[str, Any] | tuple:
        """The model index, its ``_class_name`` as the plain name that diffusers expects of a class of its own."""
        found = super().load_config(*args, **kwargs)
        values = found[0] if isinstance(found, tuple) else found
        if isinstance(values.get("_class_name"), list):
            values["_class_name"] = values["_class_name"][1]
        return found


class PackagedPipelineMixin(KnownClassMixin):
    """Makes a saved folder load through ``DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`` as well.

    Stands before the diffusers class among the bases. The class must be importable as ``bind2gen.<name>``.
    """

    def save_config(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Also write the one-line ``pipeline.py`` in which diffusers looks the class up."""
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)
        source = f"from {PACKAGE} import {type(self).__name__}  # noqa: F401  (diffusers looks the class up here)\n"
        (Path(save_directory) / PIPELINE_FILE).write_text(source)

    def to_json_string(self) -> str:
        """The model index, naming our classes by the package, so that files may move within it."""
        values = json.loads(super().to_json_string())
        for name, value in values.items():
            if isinstance(value, list) and value and str(value[0]).startswith(f"{PACKAGE}."):
                values[name] = [PACKAGE, *value[1:]]
        # diffusers looks a custom pipeline up as [module file, class name].
        values["_class_name"] = [PIPELINE_FILE.removesuffix(".py"), type(self).__name__]
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], **options: Any) -> Self:
        """As diffusers has it.

        Raises:
            HostError: it cannot be loaded.
            CheckpointError: a part's config and its weights do not belong together, or these are no numbers.
        """
        return load_parts(super().from_pretrained, source, **options)

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str:
        """Fetch a hub repository whole: diffusers' own download refuses parts that are classes of another package."""
        options = {name: kwargs[name] for name in DOWNLOAD_OPTIONS if kwargs.get(name)}
        folder = snapshot_download(pretrained_model_name, allow_patterns=SAVED_FILES, **options)
        check_parts(folder, kwargs.get("variant"))
        return folder
