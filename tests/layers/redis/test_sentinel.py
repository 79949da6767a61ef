from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.sentinel import MasterUnknown, Sentinels, parse_sentinels

from ..contract import ContractTests
from ..redis_server import free_port
from ..waits import HELLO, soon, until
from .endings import run_many
from .sentinels import Replicated, replicated

#: Seconds from the death of a master to work on the next: the Sentinels take half of one to notice, then they vote.
FAILOVER = 20.0


@pytest.fixture(scope="module")
def redundant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with replicated(tmp_path_factory.mktemp("sentinel")) as cluster:
        yield cluster


@pytest.fixture
def hosts(redundant: Replicated) -> list[Any]:
    return [redundant.host]


class TestContract(ContractTests):
    pass


def sentinels(*options: Any) -> Sentinels:
    return Sentinels((Address("a", 1), Address("b", 2), Address("c", 3)), "m", *options)


def answers(place: Sentinels, *answers: Any) -> Address:
    """What ``find`` returns when the Sentinels answer so."""
    steps = place.find()
    asked = [next(steps)]
    try:
        for answer in answers:
            asked.append(steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer))
    except StopIteration as found:
        assert asked == list(place.sentinels[: len(asked)])
        address: Address = found.value
        return address
    raise AssertionError("it asked for more")


def test_the_first_sentinel_that_knows_is_believed() -> None:
    place = sentinels(Address(password="p", db=2))
    wanted = Address("10.0.0.1", 7, password="p", db=2)
    assert answers(place, [b"10.0.0.1", b"7"]) == wanted
    assert answers(place, OSError("gone"), None, [b"10.0.0.1", b"7"]) == wanted
    with pytest.raises(MasterUnknown, match=r"a:1 gone; b:2 knows no 'm'; c:3 .*port"):
        answers(place, OSError("gone"), None, [b"10.0.0.1", b"port"])


def test_names() -> None:
    place = sentinels(Address(password="hunter2", db=2))
    assert str(place) == "sentinel://a:1,b:2,c:3/m?db=2"
    assert place.name == Sentinels(place.sentinels[::-1], "m", Address(db=2)).name
    assert place.question == ("SENTINEL", "get-master-addr-by-name", "m")
    assert "hunter2" not in repr(place)


def test_forms() -> None:
    entry = {
        "sentinels": [("a", 1), ["b", "2"], "c"],
        "master_name": "m",
        "sentinel_kwargs": {"password": "s", "socket_timeout": 1},
        "db": 3,
        "password": "p",
        "socket_connect_timeout": 2,
    }
    place = parse_sentinels(entry)
    assert place.sentinels == tuple(Address(h, p, password="s") for h, p in (("a", 1), ("b", 2), ("c", 26379)))
    assert (place.master_name, place.master.db, place.master.password) == ("m", 3, "p")
    assert "sentinels" in entry


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"sentinels": [], "master_name": "m"}, "sentinels"),
        ({"sentinels": "a:1", "master_name": "m"}, "sentinels"),
        ({"sentinels": [("a", 1, 2)], "master_name": "m"}, "host, port"),
        ({"sentinels": [("a", 1)]}, "master_name"),
        ({"master_name": "m"}, "sentinels"),
        ({"sentinels": [("a", 1)], "master_name": "m", "host": "b"}, "Sentinels tell"),
        ({"sentinels": [("a", 1)], "master_name": "m", "sentinel_kwargs": {"pasword": 1}}, "'pasword'.*'password'"),
        ({"sentinels": [("a", 1)], "master_name": "m", "pasword": 1}, "'pasword'.*'password'"),
    ],
)
def test_what_cannot_be(entry: Any, text: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=text):
        parse_sentinels(entry)


def test_loops_that_end_at_any_step_leave_nothing_behind(make_layer: Any, view_of: Any) -> None:
    assert run_many(make_layer, view_of, 60) == (0, [])


async def test_a_sentinel_that_is_away_is_passed_over(redundant: Replicated, make_layer: Any) -> None:
    place = redundant.host
    place["sentinels"].insert(0, ("127.0.0.1", free_port()))
    layer = make_layer(hosts=[place])
    await layer.send("jobs", HELLO)
    assert await soon(asyncio.to_thread(layer.receive_many, ["jobs"], True, 5)) == ("jobs", HELLO)
    await asyncio.to_thread(layer.close_sync)


async def test_a_master_that_nobody_knows(redundant: Replicated, make_layer: Any) -> None:
    layer = make_layer(hosts=[{**redundant.host, "master_name": "other"}], reconnect_timeout=0.3)
    with pytest.raises(LayerUnavailable, match="knows no 'other'"):
        await layer.send("jobs", HELLO)
    with pytest.raises(LayerUnavailable, match="knows no 'other'"):
        await asyncio.to_thread(layer.send_sync, "jobs", HELLO)


class Traffic:
    """Numbered messages to every kind of reader, with what was sent for certain and what was received."""

    def __init__(self, layer: RedisChannelLayer, other: RedisChannelLayer) -> None:
        self.layer, self.other = layer, other
        #: When each message was acknowledged.
        self.sent: dict[str, dict[int, float]] = {"jobs": {}, "local": {}, "group": {}, "sync": {}}
        self.got: dict[str, list[int]] = {name: [] for name in self.sent}
        self._n = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._done = False

    async def start(self) -> None:
        name = await self.layer.new_channel()
        member = await self.layer.new_channel()
        self.layer.attach(member, lambda message: self.got["group"].append(message["n"]))
        await self.layer.group_add("g", member)
        self._tasks = [
            asyncio.create_task(self._read("jobs", "jobs")),
            asyncio.create_task(self._read("local", name)),
            asyncio.create_task(asyncio.to_thread(self._read_sync)),
            asyncio.create_task(self._write("jobs", lambda m: self.other.send("jobs", m))),
            asyncio.create_task(self._write("local", lambda m: self.other.send(name, m))),
            asyncio.create_task(self._write("group", lambda m: self.other.group_send("g", m))),
            asyncio.create_task(self._write("sync", lambda m: asyncio.to_thread(self.other.send_sync, "sync", m))),
        ]

    async def _read(self, kind: str, channel: str) -> None:
        while True:
            self.got[kind].append((await self.layer.receive(channel))["n"])

    def _read_sync(self) -> None:
        while not self._done:
            _, message = self.layer.receive_many(["sync"], True, 0.5)
            if message is not None:
                self.got["sync"].append(message["n"])
        self.layer.close_sync()

    async def _write(self, kind: str, send: Any) -> None:
        while not self._done:
            self._n += 1
            n = self._n
            try:
                await send({"n": n})
                self.sent[kind][n] = time.monotonic()
            except (LayerUnavailable, ChannelFull):
                pass
            await asyncio.sleep(0.005)

    async def flows(self) -> None:
        """Something that is sent from now on arrives, on every path."""
        mark = self._n
        await asyncio.wait_for(self._all_past(mark), FAILOVER)

    async def _all_past(self, mark: int) -> None:
        while not all(got and got[-1] > mark for got in self.got.values()):
            for task in self._tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._done = True
        await soon(asyncio.gather(*self._tasks[2:]))
        for task in self._tasks[:2]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.other.close_sync)


async def test_work_goes_on_at_the_next_master(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    with replicated(tmp_path) as cluster:
        layer = make_layer(hosts=[cluster.host], reconnect_timeout=FAILOVER)
        layer.heartbeat = 0.2
        traffic = Traffic(layer, view_of(layer))
        await traffic.start()
        await traffic.flows()
        first = cluster.master()
        begun = time.monotonic()
        await asyncio.to_thread(first.kill)
        await traffic.flows()
        assert time.monotonic() - begun < FAILOVER
        second = await asyncio.to_thread(cluster.master)
        assert second is not first
        await traffic.stop()
        for kind, got in traffic.got.items():
            assert got == sorted(set(got)), f"{kind}: out of order, or twice"
            # The old master took what it had acknowledged last with it: it told its replica later, or was telling us.
            lost = {n: round(at - begun, 2) for n, at in traffic.sent[kind].items() if n not in set(got)}
            assert all(-1.0 < at < 0.5 for at in lost.values()), (kind, lost)
        await layer.close()
        await traffic.other.close()


async def test_a_master_that_hangs_is_left(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    """It takes connections and answers nothing, and the pops that wait there hear of no end."""
    import signal

    with replicated(tmp_path) as cluster:
        layer = make_layer(hosts=[cluster.host], reconnect_timeout=3.0)
        layer.heartbeat = 0.2
        traffic = Traffic(layer, view_of(layer))
        await traffic.start()
        await traffic.flows()
        first = await asyncio.to_thread(cluster.master)
        assert first._process is not None
        first._process.send_signal(signal.SIGSTOP)
        try:
            await traffic.flows()
        finally:
            first._process.send_signal(signal.SIGCONT)
        # The old master is told that it is one no more; nothing that waited there comes back from the dead.
        await until(lambda: cluster.master() is not first)
        await traffic.flows()
        await traffic.stop()
        for kind, got in traffic.got.items():
            assert got == sorted(set(got)), f"{kind}: out of order, or twice"
        await layer.close()
        await traffic.other.close()
