"""Tables as csv, with the columns that somebody needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UnreadableError

if TYPE_CHECKING:
    from pandas import DataFrame


def read_csv(file: Path, columns: Sequence[str], name: str, *, numbers: bool = False) -> DataFrame:
    """A csv with these columns.

    Args:
        name: of the file, for messages.
        numbers: these columns alone, as numbers, blanks as NaN; default is all columns, as texts.

    Raises:
        UnreadableError: it cannot be read, or a column is missing.
    """
    import pandas as pd

    wanted = " and ".join(columns)
    options = {"usecols": lambda one: one in columns} if numbers else {"dtype": str, "keep_default_na": False}
    try:
        table = pd.read_csv(file, **options)
        table = table.astype(float) if numbers else table
    except Exception as error:  # noqa: BLE001  (pandas raises many kinds)
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UnreadableError(f"{name}: wanted a csv with the columns {wanted} ({reason})") from None
    if missing := [column for column in columns if column not in table]:
        raise UnreadableError(f"{name}: wanted the columns {wanted}, {', '.join(missing)} is missing")
    return table
