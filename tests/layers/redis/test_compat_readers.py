from __future__ import annotations

import asyncio
from typing import Any

from fastchannels.layers.redis import RedisCompatChannelLayer
from fastchannels.layers.redis.compat_readers import INBOX_BATCH, parse_entries

from ..redis_server import RedisServer
from ..waits import HELLO, soon, until


def make(server: RedisServer, prefix: str, **options: Any) -> RedisCompatChannelLayer:
    return RedisCompatChannelLayer(hosts=[server.url], prefix=prefix, **options)


def test_parse_entries() -> None:
    assert parse_entries(None) == parse_entries([]) == []
    assert parse_entries([b"a", b"1700000000.000001", b"b", b"inf"]) == [
        (b"a", 1700000000.000001),
        (b"b", float("inf")),
    ]


async def test_keys_rotate_and_counts_follow_the_readers(server: RedisServer) -> None:
    layer = make(server, "cr1.")
    name = await layer.new_channel()
    reader = layer._session().reader
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in (name, "a", "b", "b", "b")]
    await until(lambda: reader._asked == {"cr1.a", "cr1.b", layer.keys.channel(name)})
    inbox = layer.keys.channel(name)
    chosen = [reader.choose() for _ in range(3)]
    for keys, more in chosen:
        assert keys[0] == reader._wake
        assert set(keys[1:]) == {inbox, "cr1.a", "cr1.b"}
        assert more == {inbox: INBOX_BATCH - 1, "cr1.b": 2}
    assert {keys[1] for keys, _ in chosen} == {inbox, "cr1.a", "cr1.b"}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_flood_on_the_inbox_starves_no_ordinary_channel(server: RedisServer) -> None:
    layer, sender = make(server, "cr2.", capacity=10_000), make(server, "cr2.", capacity=10_000)
    name = await layer.new_channel()
    flooding = True
    layer.attach(name, lambda message: None)

    async def flood() -> None:
        while flooding:
            await asyncio.gather(*(sender.send(name, HELLO) for _ in range(50)))

    task = asyncio.create_task(flood())
    for n in range(20):
        await sender.send("quiet", {"n": n})
        assert await soon(layer.receive("quiet")) == {"n": n}
    flooding = False
    await task


async def test_a_pop_takes_what_waits_at_once(server: RedisServer) -> None:
    layer, sender = make(server, "cr3.", capacity=1000), make(server, "cr3.", capacity=1000)
    name = await layer.new_channel()
    await asyncio.gather(*(sender.send(name, {"n": n}) for n in range(500)))
    first = await soon(layer.receive(name))
    with server.client() as redis:
        redis.config_resetstat()
        assert [first["n"], *[(await soon(layer.receive(name)))["n"] for _ in range(499)]] == list(range(500))
        calls = redis.info("commandstats").get("cmdstat_bzpopmin", {"calls": 0})["calls"]
    assert calls <= 5


async def test_what_comes_for_a_cancelled_reader_is_kept(server: RedisServer) -> None:
    layer, sender = make(server, "cr4."), make(server, "cr4.")
    waiting = [asyncio.create_task(layer.receive("jobs")) for _ in range(3)]
    reader = layer._session().reader
    await until(lambda: reader._line.blocked)
    for task in waiting[1:]:
        task.cancel()
    await asyncio.gather(*(sender.send("jobs", {"n": n}) for n in range(3)))
    got = [(await soon(waiting[0]))["n"], *[(await soon(layer.receive("jobs")))["n"] for _ in range(2)]]
    assert got == [0, 1, 2]
