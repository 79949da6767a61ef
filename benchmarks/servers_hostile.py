"""The hostile requests of ``tests/server/hostile.py`` put to each server: how many are answered as the RFCs demand.

python -m benchmarks.servers_hostile [RIVAL ...]
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter

from benchmarks.parts import free_port, running, wait_for_port, wanted
from benchmarks.servers import ASGI, command, missing
from tests.server.hostile import CASES, Case, ask

PATIENCE = 2.0  # seconds after which a server that neither answers nor closes is stuck


async def outcome(port: int, case: Case) -> str:
    """The outcome of ``case``; what is no HTTP, and what the application should not have seen, are outcomes too."""
    try:
        found, answers = await ask(port, case, PATIENCE)
    except Exception as error:  # h11 is in no interpreter's exceptions
        return type(error).__name__
    first = answers[-1 if case.more else 0].body if answers else b""
    if found.startswith(("200", "100")) and case.seen not in first:
        return f"{found} but the application saw {first[:60]!r}"
    return found


def judge(server: str) -> dict[str, str]:
    """Case: the outcome, for each that is not as demanded."""
    port = free_port()
    what = command(server, "tests.server.hostile:application", port)
    failed: dict[str, str] = {}
    with running(what, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port, process)
        for case in CASES:
            found = asyncio.run(outcome(port, case))
            if found not in case.allowed:
                failed[case.name] = found
            if process.poll() is not None:
                raise RuntimeError(f"{server} ended at {case.name}")
    return failed


def kind(found: str) -> str:
    """What is wrong with an outcome."""
    if found == "stuck":
        return "stuck"
    return "taken" if found.startswith("200") or found.endswith("+") else "refused otherwise"


def main() -> None:
    print(f"{len(CASES)} requests; an outcome that an RFC permits is right, however strict fastchannels itself is")
    for server in ASGI:
        if not wanted(server, sys.argv[1:]):
            continue
        if why := missing(server):
            print(f"\n{server}: not run: {why}")
            continue
        failed = judge(server)
        kinds = Counter(kind(found) for found in failed.values())
        print(f"\n{server}: {len(CASES) - len(failed)} right", *(f", {count} {what}" for what, count in kinds.items()))
        for name, found in failed.items():
            print(f"    {name}: {found}")


if __name__ == "__main__":
    main()
