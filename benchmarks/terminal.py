"""What a person at a terminal sees: one line of progress while it lasts, then a table for each scenario."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from benchmarks.records import Row, Series, short

WIDTH = 30
SURE = 30.0  # seconds after which the pace counts as much as what was expected


def about_time(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds > 90 else f"about {seconds:.0f} s"


class Progress:
    """Counts runs, and tells how many are left and about how long they will take.

    ``seconds``: what all are expected to take. The pace at which they do corrects what is told, the more so the longer
    they run.
    """

    def __init__(self, total: int, seconds: float) -> None:
        self.total = total
        self.seconds = seconds
        self.done = 0
        self.expected = 0.0
        self.begun = time.monotonic()

    def step(self, seconds: float, title: str, text: str) -> None:
        """A run begins that is expected to take ``seconds``."""
        pace = (time.monotonic() - self.begun + SURE) / (self.expected + SURE)
        left = about_time(max(self.seconds - self.expected, seconds) * pace)
        self.done += 1
        self.expected += seconds
        line = f"{self.done} of {self.total}, {left} left: {title}: {text}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line[:118]}", end="", flush=True)
        elif self.done % 10 == 1:  # a log wants a sign of life, not a line a run
            print(line, flush=True)

    def clear(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)


def ratio_of(series: Series) -> str:
    return f"{series.ratio:.3g}x" if series.ratio is not None else ""


def line_of(series: Series) -> str:
    if series.not_run:
        return f"{'':>10} {series.rival:<{WIDTH}}   not run: {series.not_run}"
    assert series.median is not None
    line = f"{ratio_of(series):>10} {series.rival:<{WIDTH}}{short(series.median):>12}"
    if series.low is not None and series.high is not None and len(series.values) > 1:
        line += f"   {short(series.low)} to {short(series.high)}"
    if series.cpu:
        line += "   CPU: " + ", ".join(f"{name} {part:.0%}" for name, part in series.cpu.items())
    if series.lost:
        line += f"   LOST {short(series.lost)}"
    if series.failed:
        line += f"   {series.failed}"
    return line


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """The table of one scenario. CPU shares stand beside its first figure."""
    for number, row in enumerate(rows):
        if not number:
            yield f"\n{row.group}"
        yield f"  {row.figure} ({row.better} is better)"
        for series in row.series:
            if number:
                series = Series(**{**vars(series), "cpu": {}, "lost": 0.0, "failed": ""})
            yield line_of(series)
        for target in row.targets:
            got = "not measured" if target.got is None else f"{short(target.got)}, {'met' if target.met else 'NOT met'}"
            yield f"{'':>11}wanted {target.text}: {got}"


def cell(series: Series) -> str:
    if series.not_run or series.median is None:
        return f"{series.rival}: not run"
    failed = f"; {series.failed}" if series.failed else ""
    return f"{ratio_of(series) or '-'} {series.rival} ({short(series.median)}{failed})"


def markdown(rows: Iterable[Row]) -> Iterator[str]:
    """The same as a table for a page of documentation: the first figure of each scenario, and those with targets."""
    yield "| scenario | figure | ours (lowest to highest) | better than | wanted |"
    yield "|---|---|---:|---|---|"
    groups: set[str] = set()
    for row in rows:
        ours, *others = row.series
        if ours.median is None or ours.low is None or ours.high is None or (row.group in groups and not row.targets):
            continue
        name = "" if row.group in groups else row.group
        groups.add(row.group)
        told = f"{short(ours.median)} ({short(ours.low)} to {short(ours.high)})"
        missed = [target.text for target in row.targets if target.met is False]
        verdict = ("not reached: " + "; ".join(missed)) if missed else "reached" if row.targets else ""
        yield f"| {name} | {row.figure} | {told} | {', '.join(map(cell, others))} | {verdict} |"
