"""``python -m bind2gen.mini.synthesis OUTDIR``: write the example sounds as FLAC."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import NAMES, write


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bind2gen.mini.synthesis", description="Write synthesised example sounds."
    )
    parser.add_argument("folder", type=Path, metavar="OUTDIR", help="where NAME.flac is written")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    write(options.folder, options.names, seed=options.seed)


if __name__ == "__main__":
    main()
