"""What a cosine means: the probability that what was found shows what was asked for, where that was measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, UnreadableError
from ..files.atomic import written_whole
from ..files.parsed import parse_json

FILE = "relevance.json"  # beside an encoder's weights
LIKELY = 0.5  # less is "nothing relevant"


@dataclass(frozen=True)
class Relevance:
    """Logistic curves over the cosine of a query, moved over the gap, with a row.

    Attributes:
        curves: ``"audio->image"`` (query, row) -> slope and offset: the probability is ``1 / (1 + exp(-(slope * cosine
            + offset)))``.

    Raises:
        InputError: a number is missing or not finite.
    """

    curves: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name, curve in self.curves.items():
            if len(curve) != 2 or not all(isinstance(x, int | float) and math.isfinite(x) for x in curve):
                raise InputError(f"Relevance: wanted slope and offset of {name} as finite numbers, got {curve!r}")

    def probability(self, query: str, row: str, cosine: float) -> float | None:
        """0..1; None where nothing was measured of such a pair of modalities."""
        curve = self.curves.get(f"{query}->{row}")
        return None if curve is None else 1 / (1 + math.exp(-max(-500.0, curve[0] * cosine + curve[1])))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``relevance.json``."""
        with written_whole(Path(folder) / FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def beside(cls, encoder: str | os.PathLike[str]) -> Relevance | None:
        """Of the encoder in a folder or file; None where nothing was measured.

        Raises:
            UnreadableError: the file is damaged.
        """
        place = Path(encoder)
        file = (place.parent if place.is_file() else place) / FILE
        try:
            values = parse_json(file.read_text(encoding="utf-8"))
            return cls({name: tuple(curve) for name, curve in values["curves"].items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableError(f"{file}: wanted measured relevance ({type(error).__name__}: {error})") from None


def fit_curve(cosines: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logistic curve that says best which hits were right (maximum likelihood).

    Args:
        cosines: (N,) of hits. right: (N,) bool; some of each.

    Raises:
        InputError: all of them are right, or none is.
    """
    from scipy.optimize import minimize

    if right.all() or not right.any():
        raise InputError("relevance: wanted hits that are right and hits that are wrong, got one kind alone")
    signs = np.where(right, 1.0, -1.0)

    def surprise(curve: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (curve[0] * cosines + curve[1])).mean())

    slope, offset = minimize(surprise, np.array([1.0, 0.0]), method="BFGS").x
    return round(float(slope), 4), round(float(offset), 4)
