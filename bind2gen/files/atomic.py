"""Files and folders appear whole or not at all: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import Bind2GenError


@contextmanager
def written_whole(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the target's place when the block ends well, and goes when not.

    The temporary name keeps the target's suffix, from which libraries tell the format.

    Raises:
        Bind2GenError: the system refuses to write there (full disk, missing rights, missing folder).
    """
    target = Path(target)
    temporary = target.with_name(f".{secrets.token_hex(6)}.partial{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise Bind2GenError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def swap_in(fresh: Path, current: Path) -> None:
    """Put a folder in another's place, which stays beside it as ``NAME.old``: a kill at any moment leaves one whole."""
    old = current.with_name(f"{current.name}.old")
    if current.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(current, old)
    os.rename(fresh, current)
