"""``python -m fastchannels``: the command ``fastchannels``."""

import sys

from fastchannels.cli import main

if __name__ == "__main__":
    sys.exit(main())
