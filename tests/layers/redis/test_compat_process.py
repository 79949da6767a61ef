from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, soon, until
from . import compat_fixtures

make_layer, view_of = compat_fixtures.make_layer, compat_fixtures.view_of


async def test_clocks_of_other_senders(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(expiry=5)
    with server.client() as redis:
        key = layer.keys.channel("jobs")
        now = time.time()
        # Within a second it is followed, so that order is that of arrival; one that is further ahead is not.
        redis.zadd(key, {layer.serialize({"ahead": 0.9}): now + 0.9})
        await layer.send("jobs", {"n": 1})
        assert await soon(layer.receive("jobs")) == {"ahead": 0.9}
        assert await soon(layer.receive("jobs")) == {"n": 1}
        redis.zadd(key, {layer.serialize({"ahead": 60}): now + 60})
        await layer.send("jobs", {"n": 2})
        assert await soon(layer.receive("jobs")) == {"n": 2}
        assert await soon(layer.receive("jobs")) == {"ahead": 60}
        # Too old by the clock of Redis: never handed out (D-07).
        for synchronous in (False, True):
            redis.zadd(key, {layer.serialize({"old": True}): now - 6, layer.serialize(HELLO): now + 1})
            if synchronous:
                assert await asyncio.to_thread(layer.receive_many, ["jobs"], True, DEADLINE) == ("jobs", HELLO)
            else:
                assert await soon(layer.receive("jobs")) == HELLO
    assert layer.statistics()["dropped"] == {"expired": 2}


async def test_detached_channel_leaves_its_groups(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    name, other = await layer.new_channel(), await layer.new_channel()
    for channel in (name, other):
        layer.attach(channel, lambda message: None)
        await layer.group_add("g", channel)
    with server.client() as redis:
        layer.detach(name)
        await until(lambda: redis.zrange(layer.keys.group("g"), 0, -1) == [other.encode()])
        # A late add is refused, as nobody will read it (D-11).
        await layer.group_add("g", name)
        assert redis.zcard(layer.keys.group("g")) == 1


async def test_refresh_brings_nobody_back(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer(group_expiry=0.6)
    other = view_of(layer)
    gone, stays = await layer.new_channel(), await layer.new_channel()
    for name in (gone, stays):
        layer.attach(name, lambda message: None)
        await layer.group_add("g", name)
    await other.group_discard("g", gone)
    with server.client() as redis:
        begun = redis.zscore(layer.keys.group("g"), stays)
        await until(lambda: (redis.zscore(layer.keys.group("g"), stays) or 0) > begun)
        assert redis.zcard(layer.keys.group("g")) == 1


async def test_memberships_survive_a_redis_that_lost_its_data(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    with running(tmp_path) as server:
        layer = make_layer(hosts=[server.url])
        other = view_of(layer)
        name, left = await layer.new_channel(), await layer.new_channel()
        got: list[dict[str, Any]] = []
        layer.attach(name, got.append)
        for channel in (name, left):
            await layer.group_add("g", channel)
        await layer.group_discard("g", left)
        server.kill()
        server.start()
        with server.client() as redis:
            await until(lambda: redis.zrange(layer.keys.group("g"), 0, -1) == [name.encode()])
        await other.group_send("g", HELLO)
        await until(lambda: got == [HELLO])


async def test_a_lost_connection_alone_brings_nobody_back(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    name, stays = await layer.new_channel(), await layer.new_channel()
    layer.attach(name, lambda message: None)
    for channel in (name, stays):
        await layer.group_add("g", channel)
    await other.group_discard("g", name)
    with server.client() as redis:
        await until(lambda: redis.exists(layer.keys.presence(layer.client_id)))
        reader = layer._session().reader
        begun = reader._line.connection
        begun.abort()
        await until(lambda: reader._line.blocked and reader._line.connection is not begun)
        await layer.send(stays, HELLO)
        assert await soon(layer.receive(stays)) == HELLO
        assert redis.zrange(layer.keys.group("g"), 0, -1) == [stays.encode()]


async def test_full_members_of_a_group_are_counted_by_their_process(make_layer: Any, view_of: Any, caplog: Any) -> None:
    layer = make_layer(capacity=1)
    other = view_of(layer)
    names = [await layer.new_channel() for _ in range(3)]
    for name in names:
        await layer.group_add("g", name)
    for n in range(2):
        await other.group_send("g", {"n": n})
        await until(lambda: all(layer.inbox.unread(name) == 1 for name in names))
    await until(lambda: layer.statistics()["dropped"] == {"group_full": 3})
    assert "3 of 3 members were full" in caplog.text
    assert [await soon(layer.receive(name)) for name in names] == [{"n": 0}] * 3


async def test_channels_that_nobody_reads_are_forgotten(make_layer: Any) -> None:
    layer = make_layer(group_expiry=0.3)
    name = await layer.new_channel()
    await layer.group_add("g", name)
    await until(lambda: not layer._joined and not layer._read_at)


@pytest.mark.parametrize("serializer_format", ["msgpack", "json"])
async def test_consumers_are_told_of_an_outage(
    tmp_path: Path, make_layer: Any, view_of: Any, serializer_format: str
) -> None:
    with running(tmp_path) as server:
        layer = make_layer(
            hosts=[server.url], on_disconnect="redis.lost", on_reconnect="redis.back",
            serializer_format=serializer_format, symmetric_encryption_keys=["k"],
        )  # fmt: skip
        other = view_of(layer)
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await other.group_send("g", {"type": "one"})
        assert await soon(layer.receive(name)) == {"type": "one"}
        for round in range(2):
            waiting = asyncio.create_task(layer.receive(name))
            await asyncio.sleep(0)
            server.kill()
            assert await soon(waiting) == {"type": "redis.lost"}
            server.start()
            assert await soon(layer.receive(name)) == {"type": "redis.back"}
            # Told when the memberships are there: nothing is to be waited for.
            await other.group_send("g", {"round": round})
            assert await soon(layer.receive(name)) == {"round": round}
