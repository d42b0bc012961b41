"""All demos in one page: ``python demos/app.py`` from a checkout, the same as ``bind2gen demo``, with its options."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # the checkout, in place of this folder
    from bind2gen.cli import main

    sys.exit(main(["demo", *sys.argv[1:]]))
