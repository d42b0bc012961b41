"""``python -m bind2gen`` is the command line."""

import sys

try:
    from .cli import main
except KeyboardInterrupt:  # so early that no command is there to say so
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
