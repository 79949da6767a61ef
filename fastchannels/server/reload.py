"""Which files of a project changed, for ``--reload``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

_PAUSE: Final = 0.4  # seconds between two looks
_SKIPPED: Final = {"__pycache__", "node_modules"}


def watch(directories: Sequence[str], report: Callable[[], object], alive: Callable[[], bool]) -> None:
    """Call ``report`` after each change of a Python file below ``directories``, as long as ``alive`` says so.

    By watchfiles where that is installed, otherwise by looking at all files again and again.
    """
    try:
        from watchfiles import PythonFilter
        from watchfiles import watch as changes
    except ImportError:
        _poll(directories, report, alive)
        return
    waits = changes(*directories, watch_filter=PythonFilter(), rust_timeout=1000, yield_on_timeout=True, step=20)
    for changed in waits:
        if not alive():
            return
        if changed:
            report()


def _poll(directories: Sequence[str], report: Callable[[], object], alive: Callable[[], bool]) -> None:
    before = snapshot(directories)
    while alive():
        time.sleep(_PAUSE)
        now = snapshot(directories)
        if now != before:
            before = now
            report()


def snapshot(directories: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Time of change and size of each Python file."""
    found = {}
    for path in _python_files(directories):
        try:
            status = os.stat(path)
        except OSError:
            continue  # it vanished in between
        found[path] = (status.st_mtime_ns, status.st_size)
    return found


def _python_files(directories: Sequence[str]) -> Iterator[str]:
    for top in directories:
        for directory, names, files in os.walk(top):
            if "pyvenv.cfg" in files:
                names.clear()  # an environment, whose packages are not edited
                continue
            names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
            yield from (os.path.join(directory, name) for name in files if name.endswith(".py"))
