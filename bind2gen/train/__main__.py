"""``bind2gen train``, as a module that ``accelerate launch -m bind2gen.train`` can start."""

from __future__ import annotations

import sys

from ..cli import main as command_line


def main(arguments: list[str] | None = None) -> int:
    """Exit code of ``bind2gen train ARGUMENTS``; default is those of the process."""
    return command_line(["train", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
