import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # detic_cases.py, which make_golden.py imports in the same way


@pytest.fixture(scope="session")
def detector():
    import detic_cases

    return detic_cases.toy_detector()


@pytest.fixture(scope="session")
def encoded(detector):
    import detic_cases

    return detector.encode_image(detic_cases.picture())
