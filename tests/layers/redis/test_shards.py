"""Several hosts: the contract on three of them, and what is kept apart or moves."""

from __future__ import annotations

import asyncio
import collections
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.shards import Shards

from ..contract import ContractTests
from ..redis_server import RedisServer
from ..waits import DEADLINE, HELLO, soon, until

THREE = [Address(port=port) for port in (1, 2, 3)]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    servers = [RedisServer(tmp_path_factory.mktemp("shard")) for _ in range(3)]
    try:
        yield [server.start() for server in servers]
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def hosts(servers: list[RedisServer]) -> list[str]:
    return [server.url for server in servers]


def name_at(layer: RedisChannelLayer, shard: int, prefix: str = "g") -> str:
    return next(name for name in (f"{prefix}{n}" for n in range(1000)) if layer.shards.of(name) == shard)


class TestContract(ContractTests):
    def group_beside(self, layer: ChannelLayer) -> str:
        """One on the shard of the process: for others no order is promised."""
        assert isinstance(layer, RedisChannelLayer)
        return name_at(layer, layer._home)


def test_names_of_shards() -> None:
    shards = Shards(THREE)
    assert shards.names == ("localhost:1", "localhost:2", "localhost:3")
    assert [shards.number(name) for name in shards.names] == [0, 1, 2]
    assert Address(path="/s", db=3, password="x").name == "/s/3"
    with pytest.raises(InvalidChannelLayerError, match="localhost:1 twice"):
        Shards([*THREE, Address(port=1, password="other")])


def test_a_name_has_one_shard_whatever_the_order() -> None:
    names = [f"room.{n}" for n in range(300)]
    there, back = Shards(THREE), Shards(THREE[::-1])
    assert [there.names[there.of(name)] for name in names] == [back.names[back.of(name)] for name in names]
    share = collections.Counter(there.of(name) for name in names)
    assert min(share.values()) > 50
    assert Shards(THREE[:1]).of("x") == Shards(THREE[:1]).of_channel("a.p!x") == 0


def test_process_local_names_go_to_their_process() -> None:
    shards = Shards(THREE)
    for n in range(50):
        assert {shards.of_channel(f"{prefix}.{n:032x}!{n}") for prefix in ("a", "b", "websocket.send")} == {
            shards.of(f"{n:032x}")
        }


def test_another_host_takes_its_share_alone() -> None:
    old, new = Shards(THREE), Shards([*THREE, Address(port=4)])
    names = [f"room.{n}" for n in range(2000)]
    moved = [name for name in names if old.of(name) != new.of(name)]
    assert {new.of(name) for name in moved} == {3}
    assert 0.15 < len(moved) / len(names) < 0.35


async def test_messages_stay_where_they_are_when_a_host_is_added(make_layer: Any, hosts: list[str]) -> None:
    before = make_layer(hosts=hosts[:2])
    after = make_layer(hosts=hosts, prefix=before.prefix)
    channels = [f"jobs.{n}" for n in range(60)]
    for channel in channels:
        await before.send(channel, {"channel": channel})
    stayed = [channel for channel in channels if after.shards.of(channel) != 2]
    assert 20 < len(stayed) < 60
    for channel in stayed:
        assert await soon(after.receive(channel)) == {"channel": channel}
    for channel in set(channels) - set(stayed):
        assert (await before.pending(channel), await after.pending(channel)) == (1, 0)


async def test_groups_of_every_shard_reach_every_kind_of_member(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    local, foreign = await layer.new_channel(), await other.new_channel()
    ordinary = [f"jobs.{n}" for n in range(6)]
    for shard in range(3):
        group = name_at(layer, shard)
        for member in (local, foreign, *ordinary):
            await layer.group_add(group, member)
        await other.group_send(group, {"n": shard})
        await asyncio.to_thread(other.group_send_sync, group, {"n": -shard})
        for reader, name in ((layer, local), (other, foreign), *((layer, name) for name in ordinary)):
            assert [await soon(reader.receive(name)) for _ in range(2)] == [{"n": shard}, {"n": -shard}]
    await asyncio.to_thread(other.close_sync)


async def test_groups_on_several_shards_reach_each_member_once(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    groups = [name_at(layer, shard) for shard in range(3)]
    readers = [(layer, await layer.new_channel()), (other, await other.new_channel()), (layer, "jobs.1")]
    spared = await layer.new_channel()
    for group in groups:
        for member in (*(name for _, name in readers), spared):
            await layer.group_add(group, member)
    for n in range(5):
        await other.group_send(groups, {"n": n}, exclude=spared)
        await asyncio.to_thread(other.group_send_sync, groups, {"n": -n}, exclude=[spared])
        for reader, name in readers:
            # Of two messages by different shards either may be first.
            got = [await soon(reader.receive(name)) for _ in range(2)]
            assert sorted(message["n"] for message in got) == [-n, n]
    for reader, name in readers:
        # Behind all that the groups' shards still hold for it.
        for group in groups:
            await layer.group_send(group, {"after": group}, exclude=spared)
            assert await soon(reader.receive(name)) == {"after": group}
            for view, member in readers:
                if member != name:
                    assert await soon(view.receive(member)) == {"after": group}
    assert layer.inbox.unread(spared) == 0
    await asyncio.to_thread(other.close_sync)


async def test_full_ordinary_members_are_counted(make_layer: Any) -> None:
    layer = make_layer(capacity=1)
    for channel in ("a", "b", "c", "d"):
        await layer.group_add("g", channel)
    await layer.send("c", HELLO)
    await layer.group_send("g", {"n": 1})
    assert layer.statistics()["dropped"] == {"group_full": 1}
    await asyncio.to_thread(layer.group_send_sync, "g", {"n": 2})
    assert layer.statistics()["dropped"] == {"group_full": 5}
    await asyncio.to_thread(layer.close_sync)


async def test_a_shard_that_lost_its_data_is_told_again(make_layer: Any, servers: list[RedisServer]) -> None:
    layer = make_layer()
    layer.heartbeat = 0.1
    name = await layer.new_channel()
    groups = [name_at(layer, shard) for shard in range(3)]
    for group in groups:
        await layer.group_add(group, name)
    await until(lambda: len(layer.groups.groups()) == 3)
    for shard, group in enumerate(groups):
        with servers[shard].client() as redis:
            for key in redis.scan_iter(match=layer.keys.pattern()):
                redis.delete(key)
            known = functools.partial(redis.hlen, layer.keys.group(group))
            await until(lambda known=known: known() == 1)  # type: ignore[misc]
        await layer.group_send(group, {"n": shard})
        assert await soon(layer.receive(name)) == {"n": shard}


async def test_a_flush_makes_every_process_forget_every_shard(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    name = await layer.new_channel()
    for shard in range(3):
        await layer.group_add(name_at(layer, shard), name)
    await layer.send(name, HELLO)
    await until(lambda: len(layer.groups.groups()) == 3 and layer.inbox.unread(name) == 1)
    await other.flush()
    await until(lambda: not layer.groups.groups() and layer.inbox.unread(name) == 0)
    assert not any((layer._flying, layer._announced, layer._vacant, *layer._fences))


async def test_a_shard_that_is_away_stops_nothing_else(
    make_layer: Any, servers: list[RedisServer], tmp_path: Any
) -> None:
    lost = RedisServer(tmp_path).start()
    layer = make_layer(hosts=[servers[0].url, servers[1].url, lost.url], reconnect_timeout=0.5)
    layer.heartbeat = 0.1
    while layer._home == 2:
        layer._start_process()
    name = await layer.new_channel()
    here, gone = name_at(layer, 0), name_at(layer, 2)
    await layer.group_add(here, name)
    await layer.group_add(gone, name)
    await until(lambda: len(layer.groups.groups()) == 2)
    lost.kill()
    with pytest.raises(ConnectionError, match=str(lost.port)):
        await layer.group_send(gone, HELLO)
    waiting = asyncio.create_task(layer.receive(name))
    # Longer than the timeout: the reader of the lost shard has given up once by then.
    with pytest.raises(ConnectionError):
        await layer.receive(gone)
    await layer.group_send(here, HELLO)
    assert await soon(waiting) == HELLO
    try:
        lost.start()
        begun = time.monotonic()
        while time.monotonic() < begun + DEADLINE:
            await layer.group_send(gone, {"n": 2})
            try:
                assert await asyncio.wait_for(layer.receive(name), 0.2) == {"n": 2}
                break
            except asyncio.TimeoutError:
                continue
        assert time.monotonic() < begun + DEADLINE
    finally:
        await layer.close()
        lost.kill()


async def test_workers_on_several_shards_share_the_messages(make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    channels = [name_at(layer, shard, prefix) for shard in range(3) for prefix in ("a", "b")]
    got: list[int] = []
    done = threading.Event()

    def work(view: RedisChannelLayer) -> None:
        while not done.is_set():
            _, message = view.receive_many(channels, True, 0.2)
            if message is not None:
                got.append(message["n"])
        view.close_sync()

    views = [view_of(layer) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(view,)) for view in views]
    for thread in threads:
        thread.start()
    for n in range(600):
        await layer.send(channels[n % 6], {"n": n})
        if n % 7 == 0:
            await asyncio.sleep(0.002)
    await until(lambda: len(got) + sum(view._kept.count(name) for view in views for name in channels) >= 600)
    done.set()
    for thread in threads:
        await asyncio.to_thread(thread.join, DEADLINE)
    for view in views:
        while (taken := await asyncio.to_thread(view.receive_many, channels))[0] is not None:
            got.append(taken[1]["n"])
        await asyncio.to_thread(view.close_sync)
    assert sorted(got) == list(range(600))
