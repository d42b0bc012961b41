import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # mini_folder.py, which tests/cli imports in the same way


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    from mini_folder import write_folder

    (tmp_path / "data").mkdir()
    return write_folder(tmp_path / "data")
