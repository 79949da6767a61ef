"""Event loops that end while a layer works on them, at every step of its way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import warnings
from typing import Any

from ..waits import HELLO


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


async def work(layer: Any, other: Any, turns: int, complaints: list[str]) -> None:
    """Use both layers for so many turns of the loop; then leave, close, or be cancelled while closing."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    name = await layer.new_channel()
    calls = layer.receive(name), layer.receive("jobs"), other.send("jobs", HELLO), layer.group_add("g", name)
    for call in calls:
        # Whatever becomes of it.
        asyncio.ensure_future(call).add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns % 3 == 1:
        await layer.close()
        await other.close()
    elif turns % 3 == 2:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(layer.close(), turns * 0.00001)


def run_many(make_layer: Any, view_of: Any, loops: int) -> tuple[int, list[str]]:
    """What ``loops`` runs left behind: descriptors, and complaints of loops and of the collector."""
    complaints: list[str] = []
    shared = make_layer()
    partner = view_of(shared)
    asyncio.run(work(shared, partner, 3, complaints))
    gc.collect()  # what earlier tests left is not counted
    before = descriptors()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for turns in range(loops):
            layer = shared if turns % 2 else make_layer()
            asyncio.run(work(layer, partner if turns % 2 else view_of(layer), turns, complaints))
        gc.collect()
    return descriptors() - before, complaints + [str(warning.message) for warning in warned]
