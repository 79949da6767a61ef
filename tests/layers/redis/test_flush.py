from __future__ import annotations

import asyncio
from typing import Any

from ..redis_server import RedisServer
from ..waits import HELLO, soon, until


async def test_flush_leaves_other_prefixes_and_foreign_keys(server: RedisServer, make_layer: Any) -> None:
    a, ab = make_layer(prefix="flush"), make_layer(prefix="flushed")
    foreign = ["flush", "flushjobs", "flush:group:g", "flush|stray", "xflush|q|jobs"]
    with server.client() as redis:
        for key in foreign:
            redis.set(key, 1)
        for layer in (a, ab):
            await layer.send("jobs", HELLO)
            await layer.group_add("g", "jobs")
            await layer.group_add("g", await layer.new_channel())
        await a.flush()
        assert redis.exists(*foreign) == len(foreign)
        assert await ab.pending("jobs") == 1
        assert redis.hlen(ab.keys.group("g")) == 2
        left = {a.keys.split(key.decode())[0] for key in redis.scan_iter(match=a.keys.pattern())}
        assert left <= {"l", "w", ""}
        redis.delete(*foreign)


async def test_flush_reaches_the_members_of_other_processes(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    layer.heartbeat = 0.1
    other = view_of(layer)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await layer.send(name, HELLO)
    await until(lambda: layer.inbox.unread(name) == 1)
    await other.flush()
    await until(lambda: not layer.groups.groups() and layer.inbox.unread(name) == 0)


async def test_flush_of_many_keys_in_a_thread(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    with server.client() as redis:
        with redis.pipeline() as pipeline:
            for n in range(3000):
                pipeline.rpush(layer.keys.queue(f"jobs.{n}"), b"x")
            pipeline.execute()
        await soon(asyncio.to_thread(layer.flush_sync))
        assert list(redis.scan_iter(match=layer.keys.pattern())) == []
    await asyncio.to_thread(layer.close_sync)


async def test_dead_process_does_not_hold_a_flush_up(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    with server.client() as redis:
        redis.set(layer.keys.lease("dead"), "heartbeat", px=60_000)
        await asyncio.wait_for(layer.flush(), 3)
        redis.delete(layer.keys.lease("dead"), layer.keys.inbox("dead"))
