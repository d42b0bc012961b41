"""Campaigns by hand: ``python tests/bench/fuzz --minutes 30 --seed 7 --out FOLDER [--only sounds ...]``.

Prints tried, refused, accepted and failed by loader; damaged files that made one fail are kept in FOLDER.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[1])]

from fuzz.campaign import Report, kept, run, shares  # noqa: E402
from fuzz.families import FAMILIES  # noqa: E402

ROUND = 20_000  # inputs between two looks at the clock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/bench/fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), metavar="LOADER", help=", ".join(FAMILIES))
    args = parser.parse_args()
    until, whole, done, counts = time.monotonic() + 60 * args.minutes, Report(), 0, shares(ROUND, args.only)
    with tempfile.TemporaryDirectory() as scratch:
        while time.monotonic() < until:
            part = run(
                Path(scratch),
                args.seed,
                {name: count for name, count in counts.items()},
                first=done,
                processes=args.processes,
            )
            done += max(counts.values())
            whole.counts += part.counts
            whole.failures += part.failures
            for failure in part.failures:
                print(
                    f"{failure['family']} {failure['case']}: {failure['reason'].strip().splitlines()[-1][:300]}",
                    flush=True,
                )
                if failure["case"] >= 0:
                    kept(Path(scratch), failure, args.seed, args.out)
            print(f"-- {whole.counts[:, 0].sum():,} tried, {len(whole.failures)} failed", flush=True)
    print(whole.table())
    for reason, count in whole.kinds().most_common():
        print(f"{count:6} {reason}")
    return bool(whole.failures)


if __name__ == "__main__":
    raise SystemExit(main())
