"""`python -m oxloop`: the same command as `oxloop`."""

import sys

from oxloop.cli import main

if __name__ == "__main__":
    sys.exit(main())
