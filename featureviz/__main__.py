"""``python -m featureviz``."""

import sys

from featureviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
