"""Messages of a thread on their way: one script call to each list, all in one write."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastchannels._core.outbox import Batch, Outbox, Route
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.connection import BATCH_BYTES, BATCH_MESSAGES
from fastchannels.layers.redis.keys import MARK
from fastchannels.layers.redis.outage import NOT_RUN, ReplyError, refused
from fastchannels.layers.redis.places import Place

if TYPE_CHECKING:
    from fastchannels.layers.base import Message
    from fastchannels.layers.redis.layer import RedisChannelLayer

logger = logging.getLogger("fastchannels.layer")

_STORED: Final = ord("0")
#: A channel, and a message for it as bytes.
Item = tuple[str, bytes]


class Calls:
    """The script calls that send ``items`` to one shard. ``others`` are those that cannot go this way."""

    def __init__(self, items: list[Item], shard: int, route_of: Callable[[str], Route]) -> None:
        self.others: list[Item] = []
        self._full: list[Item] = []
        #: Redis has not run a call, since it is not the place for it now: another connection may be.
        self.turned_away = False
        self._sending = []
        self._batches: list[Batch] = []
        outbox = Outbox(None, bool, self._batches.append, most=BATCH_MESSAGES, most_bytes=BATCH_BYTES)
        for item in items:
            route = route_of(item[0])
            if route.own or route.shard != shard:
                self.others.append(item)
            elif (code := outbox.push(route, item[1])) is None:
                self._full.append(item)
            else:
                self._sending.append((item, code))
        self._batches += outbox.clear()
        #: To be written.
        self.commands = [command for batch in self._batches if (command := batch.request()) is not None]

    def settle(self, answers: list[Any], place: Place, again: Callable[[bytes], Any]) -> int:
        """Take what Redis answered, and return how many messages it stored; ``again`` runs a call once more.

        Those that were lost on the way are logged.
        """
        for batch, command, answer in zip(self._batches, self.commands, answers, strict=True):
            if isinstance(answer, ReplyError) and answer.code == "NOSCRIPT":
                # Nothing ran.
                answer = again(command)
            if isinstance(answer, bytes) and len(answer) == len(batch):
                batch.settle(answer)
                continue
            if isinstance(answer, ReplyError) and answer.code in NOT_RUN:
                self.turned_away = True
                batch.fail(answer)
                continue
            error = refused(place, answer) if isinstance(answer, ReplyError) else answer
            if not isinstance(error, LayerUnavailable):
                error = LayerUnavailable(f"Redis at {place} answered {answer!r:.80}")
            batch.fail(error)
            logger.error("%d messages were dropped: %s", len(batch), error)
        stored, back = 0, []
        for item, code in self._sending:
            error = code.exception()
            if isinstance(error, ReplyError) or (error is None and code.result() != _STORED):
                back.append(item)
            else:
                stored += error is None
        self._sending = []
        # Those that found no room before they were written were given after these.
        self._full = back + self._full
        return stored

    def left(self) -> list[Item]:
        """What was not written, did not run or found no room, and the others that are left."""
        return [item for item, _ in self._sending] + self._full + self.others


# HOT: benchmarks/talk.py
def take_turn(
    layer: RedisChannelLayer, shard: int, channels: list[str], most: int, timeout: float, outgoing: list[Item]
) -> list[tuple[str, Message]]:
    """What :meth:`ChannelLayer.take_turn` does, in one write, for ``channels`` of one shard."""
    client = layer._client(shard)
    calls = Calls(outgoing, shard, lambda channel: layer._sender.routes.get(channel) or layer._find_route(channel))
    answers: list[Any] = []
    popped: list[tuple[str, int, bytes, int]] = []
    try:
        if calls.others:
            layer._push_all(calls.others)
        if most:
            keys = [layer._shard_keys[shard].queue(channel) for channel in channels]
            popped = client.turn(calls.commands, answers, keys, timeout, most)
        elif calls.commands:
            answers += client.ask_all(calls.commands)
    finally:
        if answers:
            layer._sent += calls.settle(answers, layer._outages[shard].address, client.ask_again)
        outgoing[:] = calls.left()
        if calls.turned_away:
            client.close()
    taken = []
    for key, stamp, payload, now in popped:
        if now - stamp >= layer._expiry_ms:
            layer._on_expired()
        elif (message := layer._decode_or_drop(payload)) is not None:
            taken.append((key.rpartition(MARK)[2], message))
    layer._received += len(taken)
    return taken
