"""What scripts get: inputs that are left out are left out, and the API page's examples run as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import gradio.routes
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

INPUTS = {"Audio", "Image", "File", "Textbox"}  # components of what visitors give; the rest are settings
CALL = "example_call"  # key of an endpoint's description: parameter -> value
ROOT = "{space_id}"  # Gradio puts the server's address there, in commands

Calls = Mapping[str, Mapping[str, Any]]  # endpoint -> parameter -> value of an example; a Path is a file


def describe(blocks: gr.Blocks, calls: Calls) -> None:
    """Describe the endpoints by what their functions do and not by what the page starts with.

    Gradio takes the values that a page starts with for an endpoint's defaults, and for its example files of the web,
    which this server does not fetch.

    Args:
        calls: of each endpoint an example, with only the parameters that matter.
    """
    info_of = blocks.get_api_info
    shown = {name: {key: _served(value) for key, value in call.items()} for name, call in calls.items()}

    def info(*args: Any, **options: Any) -> Any:
        found = info_of(*args, **options)
        for name, endpoint in found["named_endpoints"].items():
            endpoint[CALL] = dict(shown.get(name, {}))
            for parameter in endpoint["parameters"]:
                if parameter["component"] in INPUTS:
                    parameter |= {"parameter_has_default": True, "parameter_default": None, "example_input": None}
        return found

    blocks.get_api_info = info
    _show_calls()


def _served(value: Any) -> Any:
    """A file as the path that this server hands it out under."""
    return save_file_to_cache(value, get_upload_folder()) if isinstance(value, Path) else value


def _show_calls() -> None:
    """Let Gradio write its snippets of the example calls, for which it has no setting; other pages keep theirs."""
    snippets, commands = gradio.routes.generate_code_snippets, gradio.routes.generate_cli_snippet
    if getattr(snippets, CALL, False):
        return

    def shown_snippets(name: str, endpoint: Any, root: str, **options: Any) -> dict[str, str]:
        found = snippets(name, _as_called(endpoint, root), root, **options)
        if CALL not in endpoint:
            return found
        # In bash, what "| read" reads is gone after the pipe.
        return found | {"bash": re.sub(r"\| (read EVENT_ID; curl.*)", r"| (\1)", found["bash"])}

    def shown_commands(endpoints: Any) -> dict[str, str]:
        return commands({name: _as_called(endpoint, ROOT) for name, endpoint in endpoints.items()})

    setattr(shown_snippets, CALL, True)
    gradio.routes.generate_code_snippets, gradio.routes.generate_cli_snippet = shown_snippets, shown_commands


def _as_called(endpoint: Any, root: str) -> Any:
    """The description with the parameters of its example alone, for which the example's values stand as given."""
    if CALL not in endpoint:
        return endpoint
    call, parameters = endpoint[CALL], []
    for parameter in endpoint["parameters"]:
        if (name := parameter["parameter_name"]) in call:
            value = call[name]
            if parameter["component"] in INPUTS - {"Textbox"}:
                address = f"{root}/gradio_api/file={value}"
                value = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
            given = {"parameter_has_default": True, "parameter_default": value, "example_input": value}
            parameters.append(parameter | given)
    return {**endpoint, "parameters": parameters}
