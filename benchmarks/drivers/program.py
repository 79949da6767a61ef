"""A program in C, compiled when its source is newer, in place of this process: ``program.py NAME [ARGUMENT ...]``."""

import os
import sys

from benchmarks.parts import compiled

path = compiled(sys.argv[1])
os.execv(path, [path, *sys.argv[2:]])
