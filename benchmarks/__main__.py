"""``make bench``: every scenario with every rival in turn, round by round; medians, spread and ratios.

Interleaving means that a slow minute of the machine falls on all rivals alike; quote the ratios, not the figures.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import broadcast, kernels, layers, local, local_redis, servers, servers_memory, talk
from benchmarks.machine import machine
from benchmarks.page import write_page
from benchmarks.parts import ROOT, redis_server, wanted
from benchmarks.records import Figures, Row, Scenario, rows_of
from benchmarks.storage import keep, load
from benchmarks.terminal import Progress, about_time, lines, markdown


class Suite(NamedTuple):
    """Scenarios by title, why a rival cannot run, and about how long a run takes beside what ``--seconds`` gives it."""

    scenarios: dict[str, Scenario]
    missing: Callable[[str], str]
    beside: float


class Task(NamedTuple):
    """A scenario of a suite with the rivals that run in it; why others do not."""

    title: str
    scenario: Scenario
    rivals: list[str]
    absent: dict[str, str]


def nothing_missing(rival: str) -> str:
    return ""


def layer_scenarios(options: argparse.Namespace, stack: ExitStack) -> dict[str, Scenario]:
    setting = layers.Setting(stack.enter_context(redis_server()), options.seconds, options.loop)
    return {
        title: Scenario(row.rivals, partial(row.measure, setting=setting), *row[2:])
        for title, row in layers.SCENARIOS.items()
    }


SUITES: dict[str, Callable[[argparse.Namespace, ExitStack], Suite]] = {
    "layers": lambda o, stack: Suite(layer_scenarios(o, stack), layers.missing, 2.1),
    "local": lambda o, _: Suite(local.scenarios(o.seconds), nothing_missing, 0.6),
    "local_redis": lambda o, _: Suite(local_redis.scenarios(o.seconds), nothing_missing, 1.5),
    "servers": lambda o, _: Suite(servers.scenarios(servers.ROWS, o.seconds), servers.missing, 0.8),
    "http2": lambda o, _: Suite(servers.http2(o.seconds), servers.missing_http2, 1.7),
    "memory": lambda o, _: Suite(servers_memory.scenarios(), servers.missing, 4.8),
    "curves": lambda o, _: Suite(servers.scenarios(servers.CURVES, o.seconds), servers.missing, 1.0),
    "broadcast": lambda o, _: Suite(broadcast.scenarios(o.seconds, o.members, o.processes), broadcast.missing, 5.4),
    "talk": lambda o, _: Suite(talk.scenarios(o.seconds), talk.missing, 1.4),
    "kernels": lambda o, _: Suite(kernels.scenarios(), kernels.missing, 6.0),
}


def compare(
    scenario: Scenario, rivals: list[str], rounds: int, step: Callable[[str], None]
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """``rounds`` interleaved runs of each of ``rivals``, and what is to be told of those that failed in some or all.

    Whatever a run raises is its rival's failure: it does not cost the others their hour.
    """
    runs: dict[str, list[Figures]] = {rival: [] for rival in rivals}
    reasons: dict[str, str] = {}
    for number in range(rounds):
        for rival in rivals:
            step(f"{rival}, round {number + 1} of {rounds}")
            try:
                runs[rival].append(scenario.measure(rival))
            except Exception as error:
                reasons[rival] = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
    failed = {
        rival: f"{rounds - len(runs[rival])} of {rounds} rounds failed: {reason}" if rounds > 1 else reason
        for rival, reason in reasons.items()
    }
    return {rival: done for rival, done in runs.items() if done}, failed


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks")
    add = found.add_argument
    add("--rounds", type=int, default=1, help="runs of each rival in each row (1; 5 for figures to quote)")
    add("--seconds", type=float, default=0.7, help="length of one run (0.7)")
    add("--only", nargs="*", choices=list(SUITES), default=list(SUITES), help="these suites")
    add("--rows", nargs="*", default=[], help="rows whose title holds one of these")
    add("--rivals", nargs="*", default=[], help="rivals whose name holds one of these")
    add("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="event loop of all layers")
    add("--members", nargs="*", type=int, default=[10, 100, 1000], help="sockets of a room (10 100 1000)")
    add("--processes", nargs="*", type=int, default=[], help="server processes of a room of 1,000 (none)")
    add("--report", type=Path, default=ROOT / "benchmarks" / "report", help="where records and page are written")
    add("--page", action="store_true", help="measure nothing; make the page of the records that are there")
    add("--markdown", action="store_true", help="measure nothing; print those records as tables in Markdown")
    return found


def tasks(suite: Suite, options: argparse.Namespace) -> list[Task]:
    """What ``options`` ask of ``suite``."""
    found = []
    for title, scenario in suite.scenarios.items():
        if wanted(title, options.rows):
            asked = [rival for rival in scenario.rivals if wanted(rival, options.rivals)]
            absent = {rival: why for rival in asked if (why := suite.missing(rival))}
            if rivals := [rival for rival in asked if rival not in absent]:
                found.append(Task(title, scenario, rivals, absent))
    return found


def planned(options: argparse.Namespace) -> Progress:
    """All runs that ``options`` ask for, none begun yet."""
    runs, seconds = 0, 0.0
    for name in options.only:
        with ExitStack() as stack:
            suite = SUITES[name](options, stack)
            count = sum(len(task.rivals) for task in tasks(suite, options)) * options.rounds
        runs += count
        seconds += count * (suite.beside + options.seconds)
    return Progress(runs, seconds)


def measured(name: str, suite: Suite, options: argparse.Namespace, progress: Progress) -> Iterator[list[Row]]:
    """The rows of one scenario after the other."""
    for title, scenario, rivals, absent in tasks(suite, options):
        busy = os.getloadavg()[0]
        step = partial(progress.step, suite.beside + options.seconds, f"{name}: {title}")
        runs, failed = compare(scenario, rivals, options.rounds, step)
        progress.clear()
        rows = rows_of(name, title, scenario, runs, absent | failed)
        for row in rows:
            row.when, row.load, row.rounds = time.strftime("%Y-%m-%d %H:%M"), busy, options.rounds
        if not rows:
            print(f"\n{title}", *(f"  {rival} not run: {why}" for rival, why in failed.items()), sep="\n")
        yield rows


def main() -> None:
    options = parser().parse_args()
    if options.markdown:
        for name, _, rows in load(options.report):
            if name in options.only:
                print(f"\n**{name}**\n", *markdown(rows), sep="\n")
        return
    if not options.page:
        about = machine()
        print(f"{about['cpu']}, {about['cores']} cores, Python {about['python']}, {about['system']}")
        print("Ratio: how many times better ours is (first line of each); below 1 the rival is ahead.")
        print(
            "Then the median of all rounds, the lowest and the highest, and the share of a core that each process used."
        )
        progress = planned(options)
        print(
            f"{progress.total} runs, {options.rounds} of each rival in each row: {about_time(progress.seconds)}",
            flush=True,
        )
        started = time.monotonic()
        for name in options.only:
            with ExitStack() as stack:
                for rows in measured(name, SUITES[name](options, stack), options, progress):
                    print(*lines(rows), sep="\n", flush=True)
                    keep(options.report, name, about, rows)
        print(f"\ntook {time.monotonic() - started:.0f} s")
    page = write_page(options.report)
    print(f"records and the page of plots: {os.path.relpath(page)}")


if __name__ == "__main__":
    main()
