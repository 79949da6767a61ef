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
from benchmarks.terminal import Progress, lines, markdown


class Suite(NamedTuple):
    """Scenarios by title, and why a rival cannot run."""

    scenarios: dict[str, Scenario]
    missing: Callable[[str], str]


def nothing_missing(rival: str) -> str:
    return ""


def layer_scenarios(options: argparse.Namespace, stack: ExitStack) -> dict[str, Scenario]:
    setting = layers.Setting(stack.enter_context(redis_server()), options.seconds, options.loop)
    return {
        title: Scenario(row.rivals, partial(row.measure, setting=setting), *row[2:])
        for title, row in layers.SCENARIOS.items()
    }


SUITES: dict[str, Callable[[argparse.Namespace, ExitStack], Suite]] = {
    "layers": lambda o, stack: Suite(layer_scenarios(o, stack), layers.missing),
    "local": lambda o, _: Suite(local.scenarios(o.seconds), nothing_missing),
    "local_redis": lambda o, _: Suite(
        {title: Scenario(*row) for title, row in local_redis.scenarios(o.seconds).items()}, nothing_missing
    ),
    "servers": lambda o, _: Suite(servers.scenarios(servers.ROWS, o.seconds), servers.missing),
    "http2": lambda o, _: Suite(servers.http2(o.seconds), servers.missing_http2),
    "memory": lambda o, _: Suite(servers_memory.scenarios(), servers.missing),
    "curves": lambda o, _: Suite(servers.scenarios(servers.CURVES, o.seconds), servers.missing),
    "broadcast": lambda o, _: Suite(broadcast.scenarios(o.seconds, o.members, o.processes), broadcast.missing),
    "talk": lambda o, _: Suite(talk.scenarios(o.seconds), talk.missing),
    "kernels": lambda o, _: Suite(kernels.scenarios(), kernels.missing),
}


def compare(
    scenario: Scenario, rivals: list[str], rounds: int, step: Callable[[str], None]
) -> tuple[dict[str, list[Figures]], dict[str, str]]:
    """``rounds`` interleaved runs of each of ``rivals``; what failed is not run, for the reason beside it."""
    runs: dict[str, list[Figures]] = {rival: [] for rival in rivals}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for rival in rivals:
            step(f"{rival}, round {number + 1} of {rounds}")
            if rival in runs:
                try:
                    runs[rival].append(scenario.measure(rival))
                except RuntimeError as error:
                    failed[rival] = str(error)
                    del runs[rival]
    return runs, failed


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks")
    add = found.add_argument
    add("--rounds", type=int, default=5)
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


def measured(name: str, suite: Suite, options: argparse.Namespace) -> Iterator[list[Row]]:
    """The rows of one scenario after the other."""
    chosen: dict[str, list[str]] = {}
    absent: dict[str, dict[str, str]] = {}
    for title, scenario in suite.scenarios.items():
        if wanted(title, options.rows):
            asked = [rival for rival in scenario.rivals if wanted(rival, options.rivals)]
            absent[title] = {rival: why for rival in asked if (why := suite.missing(rival))}
            chosen[title] = [rival for rival in asked if rival not in absent[title]]
    progress = Progress(sum(map(len, chosen.values())) * options.rounds)
    for title, rivals in chosen.items():
        if not rivals:
            continue
        busy = os.getloadavg()[0]
        scenario = suite.scenarios[title]
        runs, failed = compare(scenario, rivals, options.rounds, partial(progress.step, title))
        progress.clear()
        rows = rows_of(name, title, scenario, runs, absent[title] | failed)
        for row in rows:
            row.when, row.load, row.rounds = time.strftime("%Y-%m-%d %H:%M"), busy, options.rounds
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
        started = time.monotonic()
        for name in options.only:
            with ExitStack() as stack:
                for rows in measured(name, SUITES[name](options, stack), options):
                    print(*lines(rows), sep="\n", flush=True)
                    keep(options.report, name, about, rows)
        print(f"\n{time.monotonic() - started:.0f} s")
    page = write_page(options.report)
    print(f"records and the page of plots: {os.path.relpath(page)}")


if __name__ == "__main__":
    main()
