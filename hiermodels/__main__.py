"""The command line as ``python -m hiermodels``."""

import sys

from hiermodels.cli import main

if __name__ == "__main__":
    sys.exit(main())
