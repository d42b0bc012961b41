"""Small files in one tensor, as packs hold them."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def joined(files: Sequence[bytes], name: str) -> dict[str, torch.Tensor]:
    """Tensors ``name``, all bytes one after the other, and ``ends``, where each file ends."""
    return {
        name: torch.frombuffer(bytearray(b"".join(files)), dtype=torch.uint8),
        "ends": torch.tensor([len(file) for file in files]).cumsum(0),
    }


def taken_apart(held: dict[str, torch.Tensor], name: str) -> list[bytes]:
    """The files that :func:`joined` joined; their two tensors are taken out of ``held``."""
    content, ends = held.pop(name).numpy().tobytes(), held.pop("ends").tolist()
    return [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
