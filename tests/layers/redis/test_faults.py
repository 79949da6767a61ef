"""Numbered messages on every path while Redis, or the way to it, is broken and comes back.

Held for each fault: no call takes longer than its deadline, nothing arrives twice or out of order, a message is lost
only where the test says so, and every path works again 2 s after the fault has passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, soon, until
from .proxy import DOWN, UP, Proxy, proxied

#: Seconds after its return in which every path works again, and what a busy machine may add to them.
RESUME = 2.0
NOISE = 2.0
#: ``reconnect_timeout`` of these layers, longer than any fault here.
LIMIT = 6.0


class Way:
    """One way of a message, and what became of each number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.told: set[int] = set()
        self.failed: dict[int, str] = {}
        self.got: list[int] = []
        self.longest = 0.0
        #: What had arrived when this way worked again.
        self.resumed = 0

    def next(self) -> dict[str, Any]:
        self.number += 1
        return {"n": self.number, "path": f"{self.name}-payload"}

    def took(self, begun: float) -> None:
        self.longest = max(self.longest, time.monotonic() - begun)

    @property
    def lost(self) -> set[int]:
        """Of which the sender was told that they are stored, and that nobody got."""
        return self.told - set(self.got)

    def check(self) -> None:
        assert len(set(self.got)) == len(self.got), f"{self.name}: twice"
        assert self.got == sorted(self.got), f"{self.name}: out of order"
        assert max(self.lost, default=0) < self.resumed, f"{self.name}: lost after work had resumed"
        assert set(self.got) <= self.told | set(self.failed), f"{self.name}: never sent"
        # An attempt to connect may begin just before the limit.
        assert self.longest < LIMIT * 1.2 + NOISE, f"{self.name}: a send took {self.longest:.1f} s"


class Traffic:
    """A sender and a receiver at work on each path: ordinary and process-local channels, a group, the sync twins."""

    def __init__(self, sender: RedisChannelLayer, receiver: RedisChannelLayer) -> None:
        self.sender = sender
        self.receiver = receiver
        self.jobs, self.local, self.group, self.sync = map(Way, ("jobs", "local", "group", "sync"))
        self.ways = (self.jobs, self.local, self.group, self.sync)
        self._tasks: list[asyncio.Task[None]] = []
        self._senders: list[asyncio.Task[None]] = []
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self.unexpected: list[BaseException] = []

    async def start(self) -> None:
        local, member = await self.receiver.new_channel(), await self.receiver.new_channel()
        self.receiver.attach(member, lambda message: self.group.got.append(message["n"]))
        await soon(self.receiver.group_add("g", member))
        for way, send in (
            (self.jobs, lambda message: self.sender.send("jobs", message)),
            (self.local, lambda message: self.sender.send(local, message)),
            (self.group, lambda message: self.sender.group_send("g", message)),
        ):
            self._senders.append(asyncio.create_task(self._send(way, send)))
        for way, name in ((self.jobs, "jobs"), (self.local, local)):
            self._tasks.append(asyncio.create_task(self._receive(way, name)))
        for call in (self._send_sync, self._receive_sync):
            self._threads.append(threading.Thread(target=self._guard, args=(call,), daemon=True))
            self._threads[-1].start()
        await self.flowing()

    async def _send(self, way: Way, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            message, begun = way.next(), time.monotonic()
            try:
                await send(message)
                way.told.add(message["n"])
            except LayerUnavailable as error:
                way.failed[message["n"]] = str(error)
            way.took(begun)
            await asyncio.sleep(0.005)

    async def _receive(self, way: Way, name: str) -> None:
        while True:
            try:
                way.got.append((await self.receiver.receive(name))["n"])
            except LayerUnavailable:
                await asyncio.sleep(0.01)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:
            self.unexpected.append(error)

    def _send_sync(self) -> None:
        while not self._stopping.is_set():
            message, begun = self.sync.next(), time.monotonic()
            try:
                self.sender.send_sync("sync", message)
                self.sync.told.add(message["n"])
            except LayerUnavailable as error:
                self.sync.failed[message["n"]] = str(error)
            self.sync.took(begun)
            time.sleep(0.005)
        self.sender.close_sync()

    def _receive_sync(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(LayerUnavailable):
                _, message = self.receiver.receive_many(["sync"], True, 0.2)
                if message is not None:
                    self.sync.got.append(message["n"])
        self.receiver.close_sync()

    async def flowing(self) -> None:
        """Wait until a message that is sent from now on has arrived on every path."""
        marks = {way: way.number for way in self.ways}
        await until(lambda: all(way.got and way.got[-1] > mark for way, mark in marks.items()) or self.broken)
        assert not self.broken, self.unexpected

    @property
    def broken(self) -> bool:
        return bool(self.unexpected) or any(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """End the senders, let what is on its way arrive, end the receivers."""
        self._stopping.set()
        await soon(asyncio.gather(*self._senders))
        with contextlib.suppress(AssertionError):
            ends = time.monotonic() + 1.0
            await until(lambda: time.monotonic() > ends or not any(way.lost for way in self.ways))
        self._ended.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, DEADLINE)
            assert not thread.is_alive()
        assert not self.unexpected
        for way in self.ways:
            way.check()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may break."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture
def proxy(own_server: RedisServer) -> Iterator[Proxy]:
    with proxied(own_server.port) as proxy:
        yield proxy


def layer_at(url: str, **options: Any) -> RedisChannelLayer:
    layer = RedisChannelLayer(**{"hosts": [url], "reconnect_timeout": LIMIT, "capacity": 10_000, **options})
    layer.heartbeat, layer.lease = 0.2, 2.0
    return layer


@contextlib.asynccontextmanager
async def traffic_at(url: str) -> AsyncIterator[Traffic]:
    """Traffic before, during and after what the block does; the block is left when the fault has passed."""
    traffic = Traffic(layer_at(url), layer_at(url))
    await traffic.start()
    yield traffic
    back = time.monotonic()
    await traffic.flowing()
    took = time.monotonic() - back
    for way in traffic.ways:
        way.resumed = way.got[-1]
    await traffic.stop()
    await traffic.sender.close()
    await traffic.receiver.close()
    assert took < RESUME + NOISE, f"work resumed {took:.1f} s after the return of Redis"


def lost(traffic: Traffic) -> dict[str, set[int]]:
    return {way.name: way.lost for way in traffic.ways if way.lost}


def failed(traffic: Traffic) -> set[str]:
    return {reason for way in traffic.ways for reason in way.failed.values()}


async def test_killed_and_started_empty(own_server: RedisServer) -> None:
    async with traffic_at(own_server.url) as traffic:
        await asyncio.to_thread(own_server.kill)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(own_server.start)
    assert all("unknown" in reason for reason in failed(traffic))
    # What Redis held is gone with it, and what a group was sent before its members' processes were back.
    assert sum(len(numbers) for name, numbers in lost(traffic).items() if name != "group") < 20


async def test_frozen_and_thawed(own_server: RedisServer) -> None:
    assert own_server._process is not None
    async with traffic_at(own_server.url) as traffic:
        own_server._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3.0)  # past the lease
        own_server._process.send_signal(signal.SIGCONT)
    assert not failed(traffic)
    missed = lost(traffic)
    # Every lease had ended meanwhile: the first group send took the receiver for dead, and says so.
    gone = traffic.sender.statistics()["dropped"].get("gone", 0)
    assert set(missed) <= {"group"}
    assert not missed or gone >= 1


async def test_made_a_replica_and_a_master_again(own_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with own_server.client() as redis, caplog.at_level(logging.INFO, "fastchannels.layer"):
        async with traffic_at(own_server.url) as traffic:
            before = redis.info("stats")["total_connections_received"]
            redis.replicaof("127.0.0.1", 1)
            await asyncio.sleep(1.2)
            opened = redis.info("stats")["total_connections_received"] - before
            redis.replicaof("NO", "ONE")
    assert not failed(traffic)
    assert not lost(traffic)
    # Four links, three pops, an attempt each at 0, 50, 150, 350, 750 ms or so.
    assert opened < 80
    assert any("READONLY" in record.getMessage() for record in caplog.records)


async def test_stays_a_replica(own_server: RedisServer) -> None:
    layer = layer_at(own_server.url, reconnect_timeout=0.5)
    await layer.send("jobs", HELLO)
    waiting = asyncio.create_task(layer.receive("other"))
    await asyncio.to_thread(layer.send_sync, "jobs", HELLO)
    with own_server.client() as redis:
        await until(lambda: any("b" in row["flags"] for row in redis.client_list()))
        redis.replicaof("127.0.0.1", 1)
        begun = time.monotonic()
        for call in (
            waiting,
            layer.send("jobs", HELLO),
            asyncio.to_thread(layer.send_sync, "jobs", HELLO),
            asyncio.to_thread(layer.group_discard_sync, "g", "jobs"),
        ):
            with pytest.raises(LayerUnavailable, match="READONLY"):
                await soon(call)
        assert await soon(asyncio.to_thread(layer.receive_many, ["jobs"], True, 0.1)) == (None, None)
        assert time.monotonic() - begun < 5 * 0.5 + NOISE
        redis.replicaof("NO", "ONE")
    assert await soon(layer.receive("jobs")) == HELLO
    await layer.close()


async def test_out_of_memory(own_server: RedisServer) -> None:
    with own_server.client() as redis:
        async with traffic_at(own_server.url) as traffic:
            redis.config_set("maxmemory", "1")
            marks = {way: len(way.failed) for way in traffic.ways}
            # At once, not after reconnect_timeout: memory does not come back by itself.
            await until(lambda: all(len(way.failed) > mark + 10 for way, mark in marks.items()))
            redis.config_set("maxmemory", "0")
    assert not lost(traffic)
    assert failed(traffic)
    for reason in failed(traffic):
        assert "out of memory, so nothing was stored: " in reason
        assert "maxmemory" in reason
    for way in traffic.ways:
        assert not set(way.got) & set(way.failed)


async def test_out_of_memory_does_not_keep_from_reading(own_server: RedisServer) -> None:
    """A reader that comes when memory is full is how it becomes free again."""
    layer = layer_at(own_server.url)
    for channel in ("b", "sync"):
        await layer.send(channel, HELLO)
    name = await layer.new_channel()
    await layer.send(name, HELLO)
    await layer.group_add("g", name)
    first = asyncio.create_task(layer.receive("a"))
    with own_server.client() as redis:
        await until(lambda: sum("b" in row["flags"] for row in redis.client_list()) == 2)
        redis.config_set("maxmemory", "1")
        assert await soon(layer.receive("b")) == HELLO
        assert await soon(layer.receive(name)) == HELLO
        assert await soon(asyncio.to_thread(layer.receive_many, ["sync"])) == ("sync", HELLO)
        begun = time.monotonic()
        with contextlib.suppress(LayerUnavailable):
            await soon(layer.group_discard("g", name))
        await until(lambda: not layer.groups.groups())
        first.cancel()
        await soon(layer.close())
        assert time.monotonic() - begun < NOISE
        redis.config_set("maxmemory", "0")
    await asyncio.gather(first, return_exceptions=True)


async def test_scripts_flushed_under_load(own_server: RedisServer) -> None:
    with own_server.client() as redis:
        async with traffic_at(own_server.url) as traffic:
            for _ in range(50):
                redis.script_flush()
                await asyncio.sleep(0.01)
    assert not failed(traffic)
    assert not lost(traffic)


async def test_cut_in_the_middle_of_a_send(proxy: Proxy) -> None:
    """A command of which Redis got a half is one that it never ran."""
    async with traffic_at(proxy.url) as traffic:
        for way in traffic.ways * 2:
            proxy.cut(UP, f"{way.name}-payload".encode(), 3)
            await until(lambda: proxy.done)
    assert not lost(traffic)
    assert {"unknown" in reason for reason in failed(traffic)} == {True}


@pytest.mark.parametrize("keep", [0, 3])
async def test_cut_before_the_end_of_an_answer_with_messages(proxy: Proxy, keep: int) -> None:
    """They are lost: those to a process are counted, and of ordinary channels every such answer."""
    async with traffic_at(proxy.url) as traffic:
        for way in traffic.ways:
            proxy.cut(DOWN, f"{way.name}-payload".encode(), keep)
            await until(lambda: proxy.done)
            await traffic.flowing()
    dropped, missing = traffic.receiver.statistics()["dropped"], lost(traffic)
    assert dropped["torn"] == len(missing["local"]) + len(missing["group"])
    assert dropped["torn_pops"] == 2
    # Here, with a message every few milliseconds, they are few.
    assert 2 <= sum(map(len, missing.values())) < 20 * 4


async def test_the_last_message_before_a_silence_is_counted(proxy: Proxy) -> None:
    layer = layer_at(proxy.url)
    name = await layer.new_channel()
    await layer.send(name, HELLO)
    assert await soon(layer.receive(name)) == HELLO
    proxy.cut(DOWN, b"the last", 0)
    await layer.send(name, {"text": "the last"})
    await until(lambda: layer.statistics()["dropped"].get("torn", 0) == 1)
    await layer.close()


async def test_every_connection_cut_again_and_again(proxy: Proxy) -> None:
    async with traffic_at(proxy.url) as traffic:
        for _ in range(10):
            await asyncio.sleep(0.05)
            proxy.cut_all()
    assert all("unknown" in reason for reason in failed(traffic))


async def test_bytes_that_nobody_asked_for(proxy: Proxy) -> None:
    async with traffic_at(proxy.url) as traffic:
        for garbage in (b"\x00nonsense\r\n", b"$5\r\nab", b":1\r\n", b"*-1\r\n", b"+OK\r\n-ERR no\r\n"):
            proxy.inject(garbage)
            await asyncio.sleep(0.05)
            await traffic.flowing()


async def test_answers_that_are_not_of_the_question(proxy: Proxy) -> None:
    async with traffic_at(proxy.url) as traffic:
        for way in traffic.ways:
            proxy.insert(DOWN, f"{way.name}-payload".encode(), b"x\r\n*1\r\n")
            await until(lambda: proxy.done)
            await traffic.flowing()


async def test_stalled_way(proxy: Proxy) -> None:
    async with traffic_at(proxy.url) as traffic:
        proxy.stall()
        await asyncio.sleep(1.0)
        proxy.resume()
    assert not failed(traffic)
    assert not lost(traffic)


async def test_way_that_stays_stalled(proxy: Proxy) -> None:
    layer = layer_at(proxy.url, reconnect_timeout=0.5)
    await layer.send("jobs", HELLO)
    await asyncio.to_thread(layer.send_sync, "jobs", HELLO)
    proxy.stall()
    begun = time.monotonic()
    with pytest.raises(LayerUnavailable, match="no answer"):
        await soon(layer.send("jobs", HELLO))
    # Now there is no connection, and none is to be had.
    with pytest.raises(LayerUnavailable, match="could not be reached"):
        await soon(layer.send("jobs", HELLO))
    for _ in range(2):
        with pytest.raises(LayerUnavailable):
            await soon(asyncio.to_thread(layer.send_sync, "jobs", HELLO))
    assert time.monotonic() - begun < 4 * 0.5 * 1.2 + NOISE
    begun = time.monotonic()
    with contextlib.suppress(LayerUnavailable):
        assert await soon(asyncio.to_thread(layer.receive_many, ["jobs"], True, 0.2)) == (None, None)
    assert time.monotonic() - begun < 0.2 + NOISE
    proxy.resume()
    begun = time.monotonic()
    await soon(layer.send("jobs", HELLO))
    assert time.monotonic() - begun < RESUME + NOISE
    await layer.close()


async def test_slow_way(proxy: Proxy) -> None:
    async with traffic_at(proxy.url) as traffic:
        proxy.delay = 0.05
        await asyncio.sleep(0.5)
        proxy.delay = 0.0
    assert not failed(traffic)
    assert not lost(traffic)


async def test_login_that_is_refused_is_not_tried_in_a_storm(own_server: RedisServer) -> None:
    layer = layer_at(own_server.url)
    name = await layer.new_channel()
    layer.attach(name, lambda message: None)
    await layer.send("jobs", HELLO)
    with own_server.client(password="secret") as redis:
        # Who is connected stays logged in.
        redis.config_set("requirepass", "secret")
        await until(lambda: any("b" in row["flags"] for row in redis.client_list()))
        before = redis.info("stats")["total_connections_received"]
        for row in redis.client_list():
            if row["id"] != str(redis.client_id()):
                redis.client_kill_filter(_id=row["id"])
        begun, told = time.monotonic(), []
        while time.monotonic() - begun < 1.0:
            for call in (layer.send("jobs", HELLO), asyncio.to_thread(layer.send_sync, "jobs", HELLO)):
                with pytest.raises(LayerUnavailable) as caught:
                    await soon(call)
                told.append(str(caught.value))
            await asyncio.sleep(0.005)
        assert len(told) > 30
        # The first may still have met the connection that was cut.
        assert all("NOAUTH" in text and "password" in text for text in told[1:])
        assert redis.info("stats")["total_connections_received"] - before < 12
        redis.config_set("requirepass", "")
        begun = time.monotonic()
        while time.monotonic() - begun < DEADLINE:
            with contextlib.suppress(LayerUnavailable):
                await soon(layer.send("jobs", HELLO))
                break
            await asyncio.sleep(0.02)
        assert time.monotonic() - begun < RESUME + NOISE
    await layer.close()
