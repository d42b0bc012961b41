import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # cases.py, which make_golden.py imports in the same way


@pytest.fixture(scope="session")
def recorded_inputs() -> Path:
    """Spectrograms and pictures of the reference's own sample files, which the project does not hold."""
    shared = Path(os.environ.get("BIND2GEN_SHARED", Path(__file__).parents[3] / "shared"))
    path = shared / "parity" / "imagebind" / "huge.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not here; set BIND2GEN_SHARED to the folder that holds parity/imagebind/huge.npz")
    return path
