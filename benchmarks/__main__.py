"""``make bench``: every scenario with every rival in turn, round by round; medians, spread and ratios.

Interleaving means that a slow minute of the machine falls on all rivals alike; quote the ratios, not the figures.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import broadcast, layers, local, servers, servers_memory, talk
from benchmarks.parts import OURS, PEERS, ROOT, redis_server, wanted

Figures = dict[str, float]
PEER_NAMES = [
    "channels_redis",
    "daphne",
    "granian",
    "gunicorn",
    "hypercorn",
    "picows",
    "uvicorn",
    "uvloop",
    "hiredis",
    "redis",
]
REPORT = ROOT / "benchmarks" / "report"


def versions(python: str, names: list[str]) -> dict[str, str]:
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)


def machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": len(model),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ours": versions(OURS, ["fastchannels", "hiredis", "redis", "uvloop"]),
        "peers": versions(PEERS, PEER_NAMES),
    }


def progress(line: str) -> None:
    """One line that overwrites itself, for a person at a terminal."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="", flush=True)


def compare(
    title: str, rivals: tuple[str, ...], rounds: int, measure: Callable[[str], Figures]
) -> dict[str, list[Figures]]:
    """``rounds`` interleaved runs of each rival; one that fails is left out, and the reason printed."""
    runs: dict[str, list[Figures]] = {rival: [] for rival in rivals}
    for number in range(rounds):
        for rival in list(runs):
            progress(f"{title}: round {number + 1} of {rounds}, {rival}")
            try:
                runs[rival].append(measure(rival))
            except RuntimeError as error:
                print(f"{title}: {rival} is left out: {error}")
                del runs[rival]
    progress("")
    return runs


def show(title: str, runs: dict[str, list[Figures]]) -> list[dict[str, object]]:
    """Print one table, the first figure's ratio first; return it as records."""
    rivals = list(runs)
    records: list[dict[str, object]] = []
    if not rivals:
        return records
    print(f"\n{title}")
    for figure in runs[rivals[0]][0]:
        print(f"  {figure}")
        taking = [rival for rival in rivals if figure in runs[rival][0]]
        medians = {rival: statistics.median(run[figure] for run in runs[rival]) for rival in taking}
        for rival in taking:
            values = sorted(run[figure] for run in runs[rival])
            ratio = medians[rivals[0]] / medians[rival] if medians[rival] and figure != "lost" else None
            shown = f"{ratio:9.3f}x" if ratio is not None and rival != rivals[0] else " " * 10
            print(f"    {shown} {rival:<24}{medians[rival]:>14,.2f}   ({values[0]:,.2f} to {values[-1]:,.2f})")
            records.append(
                {"scenario": title, "figure": figure, "rival": rival, "median": medians[rival], "runs": values}
            )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="length of one run")
    parser.add_argument("--only", choices=["layers", "local", "servers", "broadcast", "talk"])
    parser.add_argument("--rows", nargs="*", default=[], help="of all but layers: rows whose title holds one of these")
    parser.add_argument(
        "--rivals", nargs="*", default=[], help="of all but layers: rivals whose name holds one of these"
    )
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="event loop of all layers")
    arguments = parser.parse_args()
    about = machine()
    print(f"{about['cpu']}, {about['cores']} cores, Python {about['python']}")
    print(f"ours {about['ours']}\npeers {about['peers']}")
    print("Ratios are ours divided by the rival's medians; in brackets the lowest and highest run.")
    records: list[dict[str, object]] = []
    started = time.monotonic()
    if arguments.only in (None, "layers"):
        with redis_server() as url:
            setting = layers.Setting(url, arguments.seconds, arguments.loop)
            for title, scenario in layers.SCENARIOS.items():
                measure = partial(scenario.measure, setting=setting)
                records += show(title, compare(title, scenario.rivals, arguments.rounds, measure))
    groups = []
    if arguments.only in (None, "local"):
        groups.append((local.scenarios(arguments.seconds), local.missing))
    if arguments.only in (None, "servers"):
        groups.append((servers.scenarios(arguments.seconds) | servers_memory.scenarios(), servers.missing))
    if arguments.only in (None, "broadcast"):
        groups.append((broadcast.scenarios(arguments.seconds), broadcast.missing))
    if arguments.only in (None, "talk"):
        groups.append((talk.scenarios(arguments.seconds), talk.missing))
    for rows, missing in groups:
        for title, (rivals, measure) in rows.items():
            chosen = tuple(rival for rival in rivals if wanted(rival, arguments.rivals) and not missing(rival))
            if chosen and wanted(title, arguments.rows):
                records += show(title, compare(title, chosen, arguments.rounds, measure))
    REPORT.mkdir(exist_ok=True)
    path = REPORT / "latest.json"
    path.write_text(json.dumps({"machine": about, "records": records}, indent=1))
    print(f"\n{time.monotonic() - started:.0f} s; records in {Path(path).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
