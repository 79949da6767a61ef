from __future__ import annotations

import asyncio
import random

import hiredis
import pytest

from fastchannels._core.codec import Codec
from fastchannels._core.outbox import Batch, Outbox, Route, Sender
from fastchannels.exceptions import InvalidMessageError, LayerUnavailable

DIGEST = "d" * 40


class Written:
    """An outbox with what it told of itself."""

    def __init__(self, most: int = 512, most_bytes: int = 1 << 20) -> None:
        self.begun = 0
        self.full: list[Batch] = []
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(loop, self._begin, self.full.append, most=most, most_bytes=most_bytes)

    def _begin(self) -> None:
        self.begun += 1


def route(channel: str = "a!1", key: str = "i", limit: int = 1000, **more: object) -> Route:
    return Route(channel, DIGEST, (key, "f"), (60_000, "x", b"\xff"), limit=limit, **more)  # type: ignore[arg-type]


def command(batch: Batch) -> list[bytes]:
    """The one command of its request, as Redis reads it."""
    reader = hiredis.Reader()
    data = batch.request()
    assert data is not None
    reader.feed(data)
    arguments: list[bytes] = reader.gets()
    assert not reader.has_data()
    assert arguments[:7] == [b"EVALSHA", DIGEST.encode(), b"2", b"i", b"f", b"60000", b"x"]
    assert arguments[7] == b"\xff"
    return arguments[8:]


async def test_an_argument_for_each_message() -> None:
    written = Written(most_bytes=60 * 70_100)
    payloads = [bytes([random.randrange(256)]) * random.choice([0, 1, 9, 10, 99, 100, 999, 70_000]) for _ in range(60)]
    for payload in payloads:
        assert written.outbox.push(route(start=b"s"), payload) is not None
    (batch,) = written.outbox.clear()
    assert command(batch) == [b"s" + payload for payload in payloads]
    assert (written.begun, len(batch), written.outbox.batches) == (1, 60, {})


async def test_joined_messages_stand_behind_their_sizes() -> None:
    written = Written()
    first, second = route(start=b"m1", joined=True), route("a!2", start=b"m2", joined=True)
    written.outbox.push(first, b"x" * 300)
    written.outbox.push(second, b"")
    (batch,) = written.outbox.clear()
    assert command(batch) == [b"2", b"\0\0\1\x2em1" + b"x" * 300 + b"\0\0\0\2m2"]


@pytest.mark.parametrize("joined", [False, True])
async def test_what_was_cancelled_before_is_left_out(joined: bool) -> None:
    for _ in range(30):
        written = Written()
        waiters = [written.outbox.push(route(joined=joined), b"%d" % number * number) for number in range(20)]
        kept = sorted(random.sample(range(20), random.randrange(1, 20)))
        for number, waiter in enumerate(waiters):
            assert waiter is not None
            if number not in kept:
                waiter.cancel()
        (batch,) = written.outbox.clear()
        left = [b"%d" % number * number for number in kept]
        if joined:
            left = [b"%d" % len(left), b"".join(len(each).to_bytes(4, "big") + each for each in left)]
        assert command(batch) == left
        assert len(batch) == len(kept)
        batch.settle(bytes(kept))
        assert [waiters[number].result() for number in kept] == kept  # type: ignore[union-attr]
    written = Written()
    alone = written.outbox.push(route(), b"x")
    assert alone is not None
    alone.cancel()
    assert written.outbox.clear()[0].request() is None


async def test_outcomes() -> None:
    written = Written()
    first, second, third = (written.outbox.push(route(), b"x") for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    (batch,) = written.outbox.clear()
    assert batch.request() is not None
    second.cancel()
    for wrong in (b"", b"12", b"1234"):
        with pytest.raises(ValueError, match="answers for 3 messages"):
            batch.settle(wrong)
    batch.settle(b"012")
    assert (first.result(), second.cancelled(), third.result()) == (48, True, 50)
    batch.fail(LayerUnavailable("late"))
    assert first.result() == 48
    waiting = written.outbox.push(route(), b"x")
    assert waiting is not None
    written.outbox.clear()[0].fail(LayerUnavailable("gone"))
    assert isinstance(waiting.exception(), LayerUnavailable)


async def test_batches_are_full_at_their_bounds_and_apart_by_list() -> None:
    written = Written(most=3, most_bytes=1000)
    for _ in range(7):
        written.outbox.push(route(key="i"), b"x")
    written.outbox.push(route(key="j"), b"x" * 1001)
    written.outbox.push(route(key="k"), b"x")
    assert [len(batch) for batch in written.full] == [3, 3, 1]
    assert {key: len(batch) for key, batch in written.outbox.batches.items()} == {"i": 1, "j": 0, "k": 1}
    assert [batch.request() is None for batch in written.outbox.clear()] == [False, True, False]


@pytest.mark.parametrize("most", [1, 2, 512])
async def test_batches_hold_no_more_of_a_channel_than_its_capacity(most: int) -> None:
    written = Written(most=most)
    pushed = [written.outbox.push(route(name, limit=2), b"x") for name in ("a", "b", "a", "a", "b", "b")]
    assert [waiter is not None for waiter in pushed] == [True, True, True, False, True, False]


async def test_sender() -> None:
    written = Written()
    sender = Sender(Codec(100))
    assert sender.push("a!1", {}) is None
    sender.routes["a!1"] = route()
    assert sender.push("a!1", {}) is None
    sender.outboxes[written.outbox.loop] = (written.outbox,)
    assert sender.push("a!1", {"n": 1}) is not None
    with pytest.raises(InvalidMessageError):
        sender.push("a!1", [])  # type: ignore[arg-type]
    sender.routes["own!1"] = route("own!1", own=True)
    assert sender.push("own!1", {}) is None
    assert command(written.outbox.clear()[0]) == [Codec().encode({"n": 1})]
    outboxes = sender.outboxes

    async def elsewhere() -> None:
        assert sender.push("a!1", {"n": 1}) is None
        assert outboxes[written.outbox.loop] is not None

    await asyncio.to_thread(asyncio.run, elsewhere())
