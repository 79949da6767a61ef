"""Redis goes and comes back: consumers are told once, and their groups work again by themselves (D-05, D-44)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import parse_host
from fastchannels.layers.redis.keys import Keys
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.readers import InboxReader

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, soon, until

LOST, BACK = {"type": "redis.lost"}, {"type": "redis.back"}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server


def layer_of(server: RedisServer, **options: Any) -> RedisChannelLayer:
    layer = RedisChannelLayer(
        hosts=[server.url], reconnect_timeout=DEADLINE, on_disconnect="redis.lost", on_reconnect="redis.back", **options
    )
    layer.heartbeat = 0.1
    return layer


class Consumer:
    """Receives as a consumer of Channels 4 does."""

    def __init__(self, layer: RedisChannelLayer, name: str) -> None:
        self.got: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._run(layer, name))

    async def _run(self, layer: RedisChannelLayer, name: str) -> None:
        while True:
            self.got.append(await layer.receive(name))

    def texts(self) -> list[str]:
        return [message["type"] for message in self.got]


async def have(consumers: list[Consumer], count: int) -> None:
    await until(lambda: all(len(consumer.got) >= count for consumer in consumers))


async def test_killed_and_started_again_empty(own_server: RedisServer) -> None:
    layer, other = layer_of(own_server), layer_of(own_server)
    names = [await layer.new_channel() for _ in range(3)]
    consumers = [Consumer(layer, name) for name in names]
    for name in names:
        await layer.group_add("g", name)
    await other.group_send("g", {"type": "one"})
    await until(lambda: all(consumer.texts() == ["one"] for consumer in consumers))
    for round in (1, 2):
        await asyncio.to_thread(own_server.kill)
        await have(consumers, 3 * round - 1)
        await asyncio.sleep(0.3)  # beats fail meanwhile
        own_server.start()
        await have(consumers, 3 * round)
        # Told when the memberships have arrived: nothing is to be waited for.
        await soon(other.group_send("g", {"type": "more"}))
        await have(consumers, 3 * round + 1)
    for consumer in consumers:
        assert consumer.texts() == ["one", "redis.lost", "redis.back", "more", "redis.lost", "redis.back", "more"]
        consumer.task.cancel()


async def test_lease_that_ended_without_an_outage(own_server: RedisServer) -> None:
    layer, other = layer_of(own_server), layer_of(own_server)
    name = await layer.new_channel()
    consumer = Consumer(layer, name)
    await layer.group_add("g", name)
    with own_server.client() as redis:
        await until(lambda: layer._reader._confirmed)  # type: ignore[union-attr]
        # As others see a process that stood still: they take it for dead and out of the group.
        redis.delete(layer.keys.lease(layer.client_id), layer.keys.group("g"))
        await until(lambda: len(consumer.got) == 2)
        assert redis.hlen(layer.keys.group("g")) == 1
    await other.group_send("g", {"type": "more"})
    await until(lambda: consumer.texts() == ["redis.lost", "redis.back", "more"])
    consumer.task.cancel()


async def test_the_connection_of_the_inbox_alone(own_server: RedisServer) -> None:
    layer = layer_of(own_server)
    name = await layer.new_channel()
    consumer = Consumer(layer, name)
    with own_server.client() as redis:
        for round in (1, 2):
            # The one connection that a heartbeat is never on.
            await until(lambda: any(c["flags"] == "b" for c in redis.client_list()))
            for client in redis.client_list():
                if client["flags"] == "b":
                    redis.client_kill_filter(_id=client["id"])
            await have([consumer], 2 * round)
    assert consumer.texts() == ["redis.lost", "redis.back"] * 2
    await layer.send(name, {"type": "after"})
    await until(lambda: consumer.texts()[-1] == "after")
    consumer.task.cancel()


async def test_nothing_is_told_at_the_start_and_on_a_second_loop(own_server: RedisServer) -> None:
    layer = layer_of(own_server)

    async def use() -> None:
        name = await layer.new_channel()
        consumer = Consumer(layer, name)
        assert layer._reader is not None
        beats = {layer._reader._beating}
        await until(lambda: len(beats.add(layer._reader._beating) or beats) > 3)  # type: ignore[union-attr,func-returns-value]
        assert consumer.got == []
        consumer.task.cancel()
        await layer.close()

    await soon(use())
    with own_server.client() as redis:
        redis.flushall()
    await soon(use())


async def test_a_loop_that_ends_during_an_outage(own_server: RedisServer) -> None:
    layer = layer_of(own_server)
    consumer = Consumer(layer, await layer.new_channel())
    await soon(layer.pending("jobs"))
    await asyncio.to_thread(own_server.kill)
    await have([consumer], 1)
    consumer.task.cancel()
    await layer.close()
    own_server.start()
    # The next reader of the inbox finds Redis back, and tells of the next outage.
    consumer = Consumer(layer, await layer.new_channel())
    await have([consumer], 1)
    await asyncio.to_thread(own_server.kill)
    await have([consumer], 2)
    assert consumer.texts() == ["redis.back", "redis.lost"]
    consumer.task.cancel()


async def test_shards_are_one_store(own_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("second")) as second:
        servers = (own_server, second)
        layer = RedisChannelLayer(
            hosts=[server.url for server in servers], reconnect_timeout=DEADLINE,
            on_disconnect="redis.lost", on_reconnect="redis.back",
        )  # fmt: skip
        layer.heartbeat = 0.1
        name = await layer.new_channel()
        groups = [f"g{n}" for n in range(8)]
        for group in groups:
            await layer.group_add(group, name)
        consumer = Consumer(layer, name)
        await until(lambda: len(layer._readers) == 2 and all(reader._confirmed for reader in layer._readers))
        for server in servers:
            await asyncio.to_thread(server.kill)
        await have([consumer], 1)
        own_server.start()
        await until(lambda: any(reader._confirmed for reader in layer._readers))
        assert consumer.texts() == ["redis.lost"]
        second.start()
        await have([consumer], 2)
        for group in groups:
            await soon(layer.group_send(group, {"type": group}))
        await have([consumer], 2 + len(groups))
        assert consumer.texts()[:2] == ["redis.lost", "redis.back"]
        assert sorted(consumer.texts()[2:]) == groups
        consumer.task.cancel()
        await layer.close()


class FakeLink:
    """Gives futures that the test answers."""

    def __init__(self) -> None:
        self.beats: list[asyncio.Future[int]] = []
        self.pings: list[asyncio.Future[bytes]] = []

    def run(self, *arguments: Any) -> asyncio.Future[int]:
        self.beats.append(asyncio.get_running_loop().create_future())
        return self.beats[-1]

    def call(self, *command: Any) -> asyncio.Future[Any]:
        if command[0] == "GETEX":
            return self.run()
        assert command == ("PING",)
        self.pings.append(asyncio.get_running_loop().create_future())
        return self.pings[-1]


async def test_beats_of_before_and_after_a_loss() -> None:
    told: list[str] = []

    class Owner:
        client_id = "c"
        group_expiry = 60.0

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: told.append(name)

    async def answer(future: asyncio.Future[Any], result: Any) -> None:
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        await asyncio.sleep(0)

    link = FakeLink()
    place = parse_host("redis://h")
    loop = asyncio.get_running_loop()
    reader = InboxReader(loop, link, Outage(place, 1), Keys("p"), Owner(), 60, 6)  # type: ignore[arg-type]
    reader._beat_now()
    await answer(link.beats[0], 0)
    await answer(link.pings[0], b"PONG")
    assert told == ["reannounce", "store_back"]
    told.clear()

    # Two beats wait for the next connection: the first finds the lease gone, the second begins it, and so do not tell
    # apart what they found.
    reader._beat_now()
    reader.on_lost()
    await answer(link.beats[1], None)
    await answer(link.beats[2], 0)
    await answer(link.beats[3], 1)
    assert told == ["inbox_lost", "store_lost", "tally", "reannounce"]
    await answer(link.pings[1], b"PONG")
    assert told[4:] == ["store_back"]
    told.clear()

    # A beat that left on the broken connection is tried again once, and a ping that failed by the next beat.
    reader.on_lost()
    await answer(link.beats[4], LayerUnavailable("lost"))
    await answer(link.beats[5], LayerUnavailable("lost"))
    assert len(link.beats) == 6
    reader._beat_now()
    await answer(link.beats[6], 1)
    await answer(link.pings[2], LayerUnavailable("lost"))
    reader._beat_now()
    await answer(link.beats[7], 1)
    # The lease stood, and the memberships are told again all the same.
    assert told == ["inbox_lost", "store_lost", "tally", "refresh"]
    await answer(link.pings[3], b"PONG")
    assert told[4:] == ["store_back"]
    told.clear()

    # Nothing broke, and the lease is gone all the same.
    reader._beat_now()
    await answer(link.beats[8], b"heartbeat")
    assert told == []
    reader._beat_now()
    await answer(link.beats[9], b"joined")
    await answer(link.beats[10], 0)
    await answer(link.pings[4], b"PONG")
    assert told == ["store_lost", "reannounce", "store_back"]
    reader.close()
