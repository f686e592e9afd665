"""`python -m streamws`: the `streamws` command, from the sources of the current folder if they lie there."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
