"""``make bench-check``: the instructions of each kernel beside those that were written down; no load can touch either.

    python -m benchmarks.check [WORD ...]          kernels whose title holds one of the words
    python -m benchmarks.check --update [WORD ...] write down what is counted now

Exits with 1 when a kernel runs more than 3% more instructions than before. What was written down with another compiler,
processor or Python says nothing about the code: then it tells so, and compares nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import kernels
from benchmarks.machine import compiler, processor_features
from benchmarks.parts import HERE, wanted

BASELINE = HERE / "check.json"
TOLERANCE = 0.03
TITLES = (*kernels.C_WORK, *kernels.PYTHON_WORK)


def conditions() -> dict[str, str]:
    """What else than our code decides how many instructions run."""
    valgrind = subprocess.run(["valgrind", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    return {
        **compiler(),
        "vectors": " ".join(name for name in ("ssse3", "avx2") if name in processor_features()),
        "python": platform.python_version(),
        "valgrind": valgrind,
    }


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A line for each condition that is not what it was."""
    return [f"{name}: {then.get(name)} then, {now[name]} now" for name in now if then.get(name) != now[name]]


def verdict(then: float | None, now: float) -> tuple[bool, str]:
    """Whether ``now`` is within the tolerance of ``then`` or below, and what to say of it."""
    if then is None:
        return True, "new: write it down with UPDATE=1"
    change = now / then - 1
    if change > TOLERANCE:
        return False, f"{change:+.1%}: MORE than {TOLERANCE:.0%} above what was written down"
    if change < -TOLERANCE:
        return True, f"{change:+.1%}: fewer; write it down with UPDATE=1"
    return True, f"{change:+.1%}"


def compare(counted: Mapping[str, float], baseline: Mapping[str, float], say: Callable[[str], None]) -> bool:
    """Say how each kernel moved; whether all are within the tolerance."""
    good = True
    for title, now in counted.items():
        right, words = verdict(baseline.get(title), now)
        good = good and right
        say(f"{title:<48}{baseline.get(title, 0):>14,.0f}{now:>14,.0f}  {words}")
    return good


def main(arguments: list[str], path: Path = BASELINE) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args(arguments)
    now = conditions()
    data = json.loads(path.read_text()) if path.is_file() else {"conditions": now, "instructions": {}}
    other = differing(data["conditions"], now)
    if other and not options.update:
        print("written down under other conditions, so nothing is compared:", *other, sep="\n  ")
        return 0
    counted = {}
    print(f"{'instructions':<48}{'then':>14}{'now':>14}")
    good = True
    for title in TITLES:
        if wanted(title, options.words):
            counted[title] = round(kernels.instructions(title))
            good = compare({title: counted[title]}, data["instructions"], lambda line: print(line, flush=True)) and good
    if not options.update:
        return 0 if good else 1
    kept = {} if other else {title: data["instructions"][title] for title in TITLES if title in data["instructions"]}
    path.write_text(json.dumps({"conditions": now, "instructions": {**kept, **counted}}, indent=1) + "\n")
    print(f"written down in {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
