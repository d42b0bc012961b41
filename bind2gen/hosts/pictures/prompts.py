"""A host's own text prompts, which go beside the conditioning vectors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...errors import Bind2GenWarning, HostError, InputError


def prompts_for(prompt: str | list[str] | None, count: int, name: str = "prompt") -> list[str]:
    """One prompt an embedding: the host takes its batch size from the prompts.

    Raises:
        InputError: neither text nor a list of texts.
        HostError: a list of another length.
    """
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""] * count
    if not isinstance(prompt, list | tuple) or not all(isinstance(text, str) for text in prompt):
        raise InputError(f"{name}: wanted a text or a list of texts, got {prompt!r}")
    if len(prompt) == 1:
        return list(prompt) * count
    if len(prompt) != count:
        raise HostError(f"{name}: wanted one, or one for each of the {count} embeddings, got {len(prompt)}")
    return list(prompt)


@contextmanager
def layers_skipped(text_encoder: Any, count: int | None) -> Iterator[None]:
    """Leave the last ``count`` layers of a CLIP text encoder out; its final norm stays.

    The host's own ``clip_skip`` takes the norm from ``text_encoder.text_model``, which CLIPTextModel of newer
    transformers has not, and calls it after offloading has taken it away.

    Raises:
        InputError: there are not so many layers.
    """
    if count is None:
        yield
        return
    encoder = getattr(text_encoder, "text_model", text_encoder).encoder
    layers = encoder.layers
    if not isinstance(count, int) or not 0 <= count <= len(layers):
        raise InputError(f"clip_skip: wanted a whole number in 0..{len(layers)} (layers), got {count!r}")
    encoder.layers = layers[: len(layers) - count]
    try:
        yield
    finally:
        encoder.layers = layers


def warn_of_lost_words(tokenizer: Any, texts: list[str], states: torch.Tensor, name: str) -> None:
    """Warn of what a text encoder does not read of prompts; ``states`` (N, T, C) are what it made of them."""
    if not states.any():  # the bundled generator learned without prompts
        warnings.warn(f"{name}: this host reads none; words go in by text=", Bind2GenWarning, stacklevel=2)
        return
    context = tokenizer.model_max_length
    for text in dict.fromkeys(texts):
        ids = tokenizer(text, verbose=False)["input_ids"]
        if len(ids) > context:
            lost = tokenizer.decode(ids[context - 1 : -1])  # the end token takes the last place
            warnings.warn(f"{name}: the host reads {context} tokens; lost: {lost!r}", Bind2GenWarning, stacklevel=2)
