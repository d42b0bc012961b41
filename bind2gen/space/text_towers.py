"""Text towers as functions of texts: the encoder's own, and those that make the class vectors of detectors."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from ..errors import HostError, UnreadableError
from ..imagebind.agreement import check_loaded
from ..imagebind.model import ImageBindModel
from ..imagebind.processor import ImageBindProcessor
from ..preprocess.sources import one_line

FOLDER_CONFIG = "open_clip_config.json"  # what makes a folder an OpenCLIP model


class EncoderText:
    """The encoder's text tower: N texts -> (N, D) float32 unit norm on its device."""

    def __init__(self, encoder: ImageBindModel, processor: ImageBindProcessor) -> None:
        encoder.tower("text")  # refused here rather than at the first text
        self.encoder, self.processor = encoder, processor

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        ids = self.processor(text=list(texts), device=self.encoder.device)["input_ids"]
        return self.encoder.encode("text", ids)


class OpenClipText:
    """An OpenCLIP text tower as a function of texts.

    Args:
        model: name such as ``"ViT-B-32-quickgelu"`` (OpenAI's, of which Detic's class vectors are, has quick GELU); or
            a folder with ``open_clip_config.json`` and weights, as OpenCLIP saves to the hub.
        weights: file of weights, or a tag such as ``"openai"``, which OpenCLIP downloads. None for folders.

    Raises:
        UnreadableError: no weights were named, or the file does not exist.
        HostError: OpenCLIP does not know the model or cannot load the weights.
    """

    def __init__(self, model: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None) -> None:
        import open_clip  # seconds

        folder = Path(model).is_dir()
        if folder and not (Path(model) / FOLDER_CONFIG).is_file():
            raise UnreadableError(f"{model}: wanted an OpenCLIP folder with {FOLDER_CONFIG}, found none")
        if not folder and weights is None:
            raise UnreadableError(f"OpenCLIP {model}: its weights are missing; give a file or a tag such as openai")
        if weights is not None and Path(weights).suffix and not Path(weights).is_file():
            raise UnreadableError(f"{weights}: wanted weights of OpenCLIP's {model}, there is no such file")
        name = f"local-dir:{model}" if folder else os.fspath(model)
        try:
            with _quiet():
                built = open_clip.create_model(
                    name, pretrained=None if folder else os.fspath(weights), require_pretrained=True
                )
                self.tokenize = open_clip.get_tokenizer(name)
        except Exception as error:  # open_clip, safetensors and the hub raise nearly anything
            raise HostError(f"OpenCLIP {model}: cannot be loaded ({one_line(error, 200)})") from error
        check_loaded(built, f"OpenCLIP {model}", half_only=False)
        self.model = built.eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> torch.Tensor:
        """(N, D) float32 unit norm."""
        return self.model.encode_text(self.tokenize(list(texts)), normalize=True).float()


class _quiet:
    """OpenCLIP logs each step of loading on the root logger."""

    def __enter__(self) -> None:
        self.before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self.before)
