"""A wait of one thread for channels of several shards, in which no message is taken twice or dropped."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.blocking import LEAST_TIMEOUT, MARGIN, BlockingClient

#: Milliseconds that a token outlives its use.
TOKEN_LIFETIME: Final = 60_000
#: Seconds of one wait while a shard is away: it is looked for again after each.
AWAY_PAUSE: Final = 0.5

#: Of the few descriptors of one wait. Windows has no poll.
Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)

#: ``(key, stamp, payload, now)``
Popped: TypeAlias = "tuple[str, int, bytes, int]"
#: The client that pops, its keys, the client that ends a pop of the first, and the list that it does so by.
Shard: TypeAlias = "tuple[BlockingClient, list[str], BlockingClient, str]"


def pop_any(shards: Sequence[Shard], timeout: float | None, keep: Callable[[Popped], None]) -> Popped | None:
    """The first entry of any key of any shard, or None after ``timeout`` seconds.

    It waits in a blocking pop at every shard. When one gives an entry, the others are ended by a token on their lists,
    which have names not used before; an entry that one of them gave meanwhile goes to ``keep``. Raises
    ``LayerUnavailable`` when a shard is away for longer than ``reconnect_timeout``, over calls.
    """
    ends = None if timeout is None else time.monotonic() + timeout
    while True:
        # Without a wait nothing is taken that is not returned.
        for client, keys, _, _ in shards:
            popped = client.pop(keys, 0.0) if client.reach() else None
            if popped is not None:
                return popped
        left = None if ends is None else ends - time.monotonic()
        if left is not None and left < LEAST_TIMEOUT:
            return None
        here = [shard for shard in shards if shard[0].connected]
        pauses = [AWAY_PAUSE if len(here) < len(shards) else None, left, *(client.longest for client, *_ in here)]
        left = min((pause for pause in pauses if pause is not None), default=None)
        if not here:
            time.sleep(AWAY_PAUSE if left is None else left)
            continue
        popped = _wait(here, left, keep)
        if popped is not None:
            return popped


def _wait(shards: Sequence[Shard], left: float | None, keep: Callable[[Popped], None]) -> Popped | None:
    asked: dict[int, Shard] = {}
    selector = Selector()
    taken: Popped | None = None
    try:
        for shard in shards:
            client, keys, _, token = shard
            try:
                descriptor = client.ask(keys, left, token)
            except LayerUnavailable:
                continue
            asked[descriptor] = shard
            selector.register(descriptor, selectors.EVENT_READ)
        ended = None if left is None else time.monotonic() + left + MARGIN
        while len(asked) == len(shards) and taken is None:
            pause = None if ended is None else max(0.0, ended - time.monotonic())
            ready = selector.select(pause)
            if not ready:
                # No answer long after its time: these connections are lost.
                for client, *_ in asked.values():
                    client.abandon()
                asked.clear()
            for key, _ in ready:
                client = asked[key.fd][0]
                try:
                    answered, popped = client.answer()
                except LayerUnavailable:
                    answered, popped = True, None
                if answered:
                    del asked[key.fd]
                    selector.unregister(key.fd)
                    if popped is not None and taken is None:
                        taken = popped
                    elif popped is not None:
                        keep(popped)
        for client, _, ending, token in asked.values():
            try:
                ending.call("RPUSH", token, "1")
                ending.call("PEXPIRE", token, TOKEN_LIFETIME)
                popped = client.finish()
            except Exception:
                # It cannot be ended in order. At most once: what it takes from here on is lost.
                client.abandon()
            else:
                if taken is None:
                    taken = popped
                elif popped is not None:
                    keep(popped)
        asked.clear()
        return taken
    finally:
        # Left early, by a signal: nobody will read these answers.
        for client, *_ in asked.values():
            client.abandon()
