"""20,000 damaged files, thrown at every loader: refused in one line, or read to finite numbers, and nothing else.

By hand, for longer: ``python tests/bench/fuzz --minutes 30 --seed 7``. A failure names loader and number; the file
is made again by :func:`fuzz.campaign.kept`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "bench"))

from fuzz.campaign import WHOLE, run, shares
from fuzz.families import FAMILIES

SEED = 20_260_101


def test_damaged_files_are_refused_in_one_line_or_give_finite_numbers(tmp_path):
    """No crash, no hang, no gigabytes, no NaN, no word of a C library, no warning of others': see fuzz/worker.py."""
    report = run(tmp_path, SEED, shares(WHOLE))
    assert not report.failures, "\n".join(
        f"{one['family']} {one['case']}: {one['reason']}" for one in report.failures[:20]
    )
    assert report.counts[:, 0].sum() >= WHOLE
    # Damage that all loaders refuse, or that none does, would try nothing.
    assert all(report.counts[list(FAMILIES).index(name), 1] for name in FAMILIES)
    assert report.counts[:, 2].sum() > WHOLE // 10
