"""The similarity tables that the reference publishes of its sample files, to check an installation against.

Source: README.md of facebookresearch/ImageBind at 1280bb8. Its files lie in ``.assets`` of that repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..errors import UnreadableError
from .embedding import encode_inputs
from .model import ImageBindModel
from .processor import ImageBindProcessor

TEXTS = ("A dog.", "A car", "A bird")
FILES = {
    "image": ("dog_image.jpg", "car_image.jpg", "bird_image.jpg"),
    "audio": ("dog_audio.wav", "car_audio.wav", "bird_audio.wav"),
}
NEEDED = 3  # decimals; other processors and devices round the fourth differently


@dataclass(frozen=True)
class Table:
    """Softmax over each row, of similarities in the reference's own scale.

    Attributes:
        values: row by row.
        decimals: that were published of each value.
    """

    values: tuple[tuple[float, ...], ...]
    decimals: int


# Rows are of the first modality, columns of the second: dog, car, bird.
PUBLISHED: dict[tuple[str, str], Table] = {
    ("image", "text"): Table(
        (
            (9.9761e-01, 2.3694e-03, 1.8612e-05),
            (3.3836e-05, 9.9994e-01, 2.4118e-05),
            (4.7997e-05, 1.3496e-02, 9.8646e-01),
        ),
        5,
    ),
    ("audio", "text"): Table(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 4),
    ("image", "audio"): Table(((0.8070, 0.1088, 0.0842), (0.1036, 0.7884, 0.1079), (0.0018, 0.0022, 0.9960)), 4),
}


@dataclass(frozen=True)
class Comparison:
    """One table against the published one.

    Attributes:
        modalities: of its rows and of its columns.
        ours, published: (3, 3).
        decimals: to which all values agree, at most as many as were published; 0 where they do not.
        difference: the greatest.
    """

    modalities: tuple[str, str]
    ours: torch.Tensor
    published: Table
    decimals: int
    difference: float

    @property
    def agrees(self) -> bool:
        """To :data:`NEEDED` decimals."""
        return self.decimals >= NEEDED


def sample_files(folder: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Modality -> its files in a folder.

    Raises:
        UnreadableError: naming all that are missing.
    """
    found = {name: [Path(folder, file) for file in files] for name, files in FILES.items()}
    if missing := [path.name for paths in found.values() for path in paths if not path.is_file()]:
        wanted = "the sample files of ImageBind's repository (its folder .assets)"
        raise UnreadableError(f"{folder}: wanted {wanted}, missing are {', '.join(missing)}")
    return found


def similarity_tables(
    model: ImageBindModel, processor: ImageBindProcessor, folder: str | os.PathLike[str]
) -> dict[tuple[str, str], torch.Tensor]:
    """The three tables, (3, 3) each, as :data:`PUBLISHED` has them; in the reference's scale, not of unit norm.

    Sounds are cut as the reference cuts them, whose overlapping clips change each other: on values that is up to 2e-3.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    processor = copy(processor)
    processor.audio = replace(processor.audio, policy="reference")
    inputs = {"text": list(TEXTS)} | {name: list(map(str, paths)) for name, paths in sample_files(folder).items()}
    embeds = {
        name: encode_inputs(model, processor, name, given, reference_scale=True).cpu() for name, given in inputs.items()
    }
    return {(row, column): (embeds[row] @ embeds[column].T).softmax(-1) for row, column in PUBLISHED}


def compare(
    tables: Mapping[tuple[str, str], torch.Tensor], published: Mapping[tuple[str, str], Table] | None = None
) -> list[Comparison]:
    """Each table against the published one.

    Args:
        published: default is :data:`PUBLISHED`.
    """
    found = []
    for modalities, table in (PUBLISHED if published is None else published).items():
        ours = tables[modalities].double()
        difference = (ours - torch.tensor(table.values, dtype=torch.double)).abs().max().item()
        rounding = 0.5 * 10.0**-table.decimals  # of the published values
        agree = [d for d in range(1, table.decimals + 1) if difference <= 0.5 * 10.0**-d + rounding]
        found.append(Comparison(modalities, ours, table, max(agree, default=0), difference))
    return found
