"""Emptying a layer in Redis without touching a key that is not its own (D-19)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import Any, Final, TypeAlias

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import wire
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.connection import Argument, Link
from fastchannels.layers.redis.keys import COUNTER, FLUSHED, LEASE, Keys
from fastchannels.layers.redis.outage import ReplyError

SCAN_COUNT: Final = 1000
#: Seconds that flush waits for the other processes to have read that it happened.
OTHERS_TIMEOUT: Final = 1.0
_PAUSE: Final = 0.005

#: Yields commands and is sent their replies; a pause in seconds where it yields a float.
_Steps: TypeAlias = "Generator[tuple[Argument, ...] | float, Any, None]"


def _steps(keys: Keys, shard: str, own: str, lifetime: int) -> _Steps:
    """The commands of a flush of ``shard``. ``own`` is the process that needs no note: it forgets by itself."""
    found, others = set[str](), set[str]()
    cursor: Any = b"0"
    while True:
        cursor, page = yield "SCAN", cursor, "MATCH", keys.pattern(), "COUNT", SCAN_COUNT
        for raw in page:
            key = raw.decode("utf-8", "surrogateescape")
            kind, name = keys.split(key)
            if kind in FLUSHED:
                found.add(key)
            elif kind == LEASE and name != own:
                others.add(name)
        if cursor == b"0":
            break
    # The counters first: with an inbox that is gone and a counter that stands, its messages would be taken for lost.
    ordered = sorted(found, key=lambda key: keys.split(key)[0] != COUNTER)
    doomed = [key.encode("utf-8", "surrogateescape") for key in ordered]
    for start in range(0, len(doomed), SCAN_COUNT):
        yield "UNLINK", *doomed[start : start + SCAN_COUNT]
    for process in others:
        yield "RPUSH", keys.inbox(process), wire.note(wire.FORGET, rest=shard.encode("utf-8"))
        yield "PEXPIRE", keys.inbox(process), lifetime
    ends = time.monotonic() + OTHERS_TIMEOUT
    for process in others:
        while (yield "EXISTS", keys.inbox(process)) and time.monotonic() < ends:
            yield _PAUSE


async def wipe(link: Link, keys: Keys, shard: str, own: str, lifetime: int) -> None:
    """Remove every message and membership under the prefix, and have every other live process forget its own."""
    steps = _steps(keys, shard, own, lifetime)
    step = next(steps)
    try:
        while True:
            if isinstance(step, float):
                await asyncio.sleep(step)
                step = steps.send(None)
            else:
                step = steps.send(await link.call(*step))
    except StopIteration:
        return


def wipe_sync(client: BlockingClient, keys: Keys, shard: str, own: str, lifetime: int) -> None:
    """:func:`wipe` for a thread without an event loop."""
    steps = _steps(keys, shard, own, lifetime)
    step = next(steps)
    try:
        while True:
            if isinstance(step, float):
                time.sleep(step)
                step = steps.send(None)
            else:
                step = steps.send(client.call(*step))
    except StopIteration:
        return
    except ReplyError as error:
        raise LayerUnavailable(f"Redis refused a command of flush: {error}") from error
