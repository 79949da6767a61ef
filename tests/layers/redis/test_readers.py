from __future__ import annotations

import asyncio
from typing import Any

from fastchannels.layers.redis.readers import Kept

from ..redis_server import RedisServer
from ..waits import HELLO, soon, until


def test_kept_messages_are_in_order_and_expire() -> None:
    now, expired = [0.0], []
    kept = Kept(10, lambda: expired.append(1), lambda: now[0])
    kept.put("a", b"2", 10)
    kept.put("a", b"3", 10)
    kept.put("a", b"1", 5, first=True)
    assert kept.count("a") == 3
    now[0] = 6
    assert kept.take("a") == (b"2", 10)
    assert len(expired) == 1
    now[0] = 11
    assert kept.take("a") is None
    kept.put("b", b"4", 11)
    kept.purge()
    assert (len(expired), kept.count("b"), kept.take("b")) == (3, 0, None)


async def test_readers_come_and_go_while_a_pop_blocks(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    first = asyncio.create_task(layer.receive("a"))
    reader = layer._session().seats[0].channels
    await until(lambda: reader._line.blocked)
    second = asyncio.create_task(layer.receive("b"))
    await until(lambda: reader._asked == {"a", "b"} and reader._line.blocked)
    first.cancel()
    await until(lambda: reader._asked == {"b"} and reader._line.blocked)
    # Another process gets what this one no longer waits for.
    await other.send("a", HELLO)
    assert await soon(other.receive("a")) == HELLO
    await other.send("b", HELLO)
    assert await soon(second) == HELLO


async def test_pops_no_more_than_there_are_readers(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    readers = [asyncio.create_task(layer.receive("jobs")) for _ in range(3)]
    await until(lambda: layer._session().seats[0].channels._line.blocked)
    for n in range(10):
        await other.send("jobs", {"n": n})
    await soon(asyncio.gather(*readers))
    assert await other.pending("jobs") == 7
    readers = [asyncio.create_task(layer.receive("jobs")) for _ in range(4)]
    assert [message["n"] for message in await soon(asyncio.gather(*readers))] == [3, 4, 5, 6]
    assert await other.pending("jobs") == 3


async def test_flooded_channel_starves_no_other(make_layer: Any, view_of: Any) -> None:
    layer = make_layer(capacity=1000)
    other = view_of(layer)
    for n in range(200):
        await other.send("flood", {"n": n})
    await other.send("quiet", HELLO)
    order: list[str] = []

    async def read(channel: str) -> None:
        while True:
            await layer.receive(channel)
            order.append(channel)

    tasks = [asyncio.create_task(read(channel)) for channel in ("flood", "quiet")]
    await until(lambda: "quiet" in order)
    assert order.index("quiet") <= 3
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_message_of_a_cancelled_receive_is_kept_for_a_thread(make_layer: Any) -> None:
    layer = make_layer()
    task = asyncio.create_task(layer.receive("jobs"))
    reader = layer._session().seats[0].channels
    await until(lambda: reader._line.blocked)
    reader.on_batch(layer.keys.queue("jobs"), [b"\xff\xff\xff\xff\xff\xff" + layer.serialize(HELLO)], 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await layer.pending("jobs") == 1
    assert layer.receive_many(["jobs"]) == ("jobs", HELLO)


async def test_memberships_are_renewed_with_the_connection(server: RedisServer, make_layer: Any) -> None:
    """A master that took over may have the lease and lack the newest members."""
    layer = make_layer()
    layer.heartbeat = 0.1
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await until(lambda: layer.groups.groups() == ["g"] and layer._reader._line.blocked)
    key = layer.keys.group("g")
    with server.client() as redis:
        redis.delete(key)
        descriptor = layer._reader._line.connection._sock
        redis.client_kill_filter(addr="{}:{}".format(*descriptor.getsockname()))
        await until(lambda: redis.hlen(key) == 1)
    await layer.group_send("g", HELLO)
    assert await soon(layer.receive(name)) == HELLO
