"""What the demos' functions are handed: uploaded files as they are, and other values as they come."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio.utils import get_upload_folder

from .guard import lies_in

logger = logging.getLogger("bind2gen.demos")

OURS = re.compile(r"https?://[^?#]+?/gradio_api/file=([^?#]+)", re.IGNORECASE)  # address of a file that lies here
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
NOT_INPUTS = "wanted the inputs that /gradio_api/info tells of, got others"
DEEPEST = 8  # lists within lists; what Gradio itself sends has three


def uploads_only(blocks: gr.Blocks) -> None:
    """Let all functions of a page take no files but uploaded ones: nothing is fetched, decoded or converted.

    Gradio would download an address that is given in place of a file, or of a text or number, and opens pictures
    itself, without our limits. An address of a file on this server stands for that file.

    Set on the page and not on its components: Gradio makes new ones for a visitor who has clicked on an example.
    """
    for fn in blocks.fns.values():
        # Values as they come, which the studio refuses in its own words. A row of examples is told by its number.
        fn.preprocess = _of_examples(fn)
    prepare, folder = blocks.preprocess_data, Path(get_upload_folder()).resolve()

    async def checked(block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False) -> list[Any]:
        try:
            found = await prepare(block_fn, [_uploaded(value, folder) for value in inputs], state, explicit_call)
            if _of_examples(block_fn) and None in found:
                raise gr.Error(NOT_INPUTS, print_exception=False)
        except gr.Error:
            raise
        except Exception:
            logger.debug("inputs that no page sends", exc_info=True)
            raise gr.Error(NOT_INPUTS, print_exception=False) from None
        return [value["path"] if _is_file(value) else value for value in found]

    blocks.preprocess_data = checked


def _uploaded(value: Any, folder: Path, depth: int = 0) -> Any:
    """The value, with the paths of the files in it; refused if one of them is none of an upload."""
    if depth > DEEPEST:
        raise gr.Error("wanted a file, a text or a number, got lists within lists", print_exception=False)
    if isinstance(value, list):
        return [_uploaded(one, folder, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    if "path" not in value:
        return {key: _uploaded(one, folder, depth + 1) for key, one in value.items()}
    path = value["path"]
    if isinstance(path, str) and (here := OURS.fullmatch(path.strip())):
        path = unquote(here[1])
    if not isinstance(path, str) or ADDRESS.match(path) or not lies_in(path, folder):
        raise gr.Error("wanted an uploaded file, got an address or a file that was not uploaded", print_exception=False)
    # Nothing else of what describes a file is of use here, and an address in it might be used.
    return {"path": str(Path(path).resolve()), "orig_name": Path(path).name, "meta": {"_type": "gradio.FileData"}}


def _of_examples(fn: Any) -> bool:
    return any(isinstance(block, gr.Dataset) for block in fn.inputs)


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and "path" in value
