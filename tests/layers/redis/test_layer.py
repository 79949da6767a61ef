from __future__ import annotations

import asyncio
import inspect
import math
import os
import selectors
import time
from typing import Any

import pytest

from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.connection import BATCH_MESSAGES

from ..contract import ContractTests
from ..redis_server import RedisServer
from ..waits import DEADLINE, HELLO, in_child, in_thread, soon, until
from .peer import peer


class TestContract(ContractTests):
    pass


class TestContractBeforeRedis7(ContractTests):
    """The same with the commands that Redis 6.2 has."""

    @pytest.fixture(autouse=True)
    def old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fastchannels.layers.redis.blocking import BlockingClient
        from fastchannels.layers.redis.popline import ListLine

        for kind in (ListLine, BlockingClient):
            monkeypatch.setattr(kind, "_multi", property(lambda self: False, lambda self, value: None), raising=False)


@pytest.mark.parametrize(
    "test",
    ["attached_receiver", "flush", "close_and_use_again", "group_of_both_kinds", "each_message_reaches_one_reader"],
)
def test_on_uvloop(make_layer: Any, view_of: Any, test: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    layer = make_layer()
    views = {"layer": layer, "other": view_of(layer)}
    call = getattr(ContractTests(), f"test_{test}")
    arguments = [views[name] for name in inspect.signature(call).parameters]
    in_thread(lambda: uvloop.run(call(*arguments)))


@pytest.mark.parametrize("name", ["jobs", "local"])
def test_cancelled_receive_loses_nothing_on_uvloop(make_layer: Any, view_of: Any, name: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    layer = make_layer()
    other = view_of(layer)

    async def use() -> None:
        channel = name if name == "jobs" else await layer.new_channel()
        await ContractTests().test_cancelled_receive_loses_nothing(layer, other, channel)

    in_thread(lambda: uvloop.run(use()))


@pytest.mark.parametrize("address", ["url", "unix"])
def test_fifty_uvloops_and_a_fork(server: RedisServer, make_layer: Any, address: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    layer = make_layer(hosts=[server.url if address == "url" else f"unix://{server.path}"])

    async def use(channel: str = "jobs", fork: bool = False) -> None:
        name = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive(channel))
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        if fork:
            in_child(lambda: {"none": in_thread(lambda: uvloop.run(use("childs")))})
        await layer.send(channel, HELLO)
        assert await soon(waiting) == HELLO

    with server.client() as redis:
        before = len(redis.client_list())
        in_thread(lambda: [uvloop.run(use(fork=n == 49)) for n in range(50)])
        ends = time.monotonic() + DEADLINE
        while len(redis.client_list()) > before and time.monotonic() < ends:
            time.sleep(0.01)
        assert len(redis.client_list()) <= before


def test_options() -> None:
    assert {"hosts", "prefix", "inbox_capacity", "reconnect_timeout", "capacity", "expiry"} <= set(
        RedisChannelLayer.option_names()
    )
    for options in (
        *({"inbox_capacity": 0}, {"inbox_capacity": True}, {"reconnect_timeout": 0}, {"reconnect_timeout": "1"}),
        *({"prefix": "a|b"}, {"hosts": "redis://h"}, {"inbox_capcity": 1}),
    ):
        with pytest.raises(InvalidChannelLayerError, match=next(iter(options))):
            RedisChannelLayer(**options)  # type: ignore[arg-type]
    layer = RedisChannelLayer(hosts=["redis://me:hunter2@h:7"])
    assert str(layer) == "RedisChannelLayer(hosts=['redis://me:***@h:7'])"


async def test_four_processes_share_a_channel(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(capacity=100)
    total = 2000
    selector = selectors.DefaultSelector()
    got: list[int] = []
    with (
        peer(server.url, layer.prefix, "reader", "jobs") as a,
        peer(server.url, layer.prefix, "reader", "jobs") as b,
        peer(server.url, layer.prefix, "reader", "jobs") as c,
        peer(server.url, layer.prefix, "reader", "jobs") as d,
    ):
        shares = {}
        for process in (a, b, c, d):
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            selector.register(process.stdout.fileno(), selectors.EVENT_READ)
            shares[process.stdout.fileno()] = b""

        async def write() -> None:
            for n in range(total):
                while True:
                    try:
                        await layer.send("jobs", {"n": n})
                        break
                    except ChannelFull:
                        await asyncio.sleep(0.001)

        writer = asyncio.create_task(write())
        ends = time.monotonic() + 30
        while sum(share.count(b"\n") for share in shares.values()) < total and time.monotonic() < ends:
            for key, _ in await asyncio.to_thread(selector.select, 0.1):
                shares[key.fd] += os.read(key.fd, 65536)
        await soon(writer)
        # Time for one too many.
        for key, _ in await asyncio.to_thread(selector.select, 0.1):
            shares[key.fd] += os.read(key.fd, 65536)
    selector.close()
    for share in shares.values():
        numbers = [int(line) for line in share.split()]
        assert numbers
        got += numbers
    assert sorted(got) == list(range(total))


async def test_killed_process_leaves_its_groups(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    key = layer.keys.group("g")
    with server.client() as redis, peer(server.url, layer.prefix, "members", "g", "5") as process:
        assert redis.hlen(key) == 1
        await layer.group_send("g", HELLO)
        assert process.stdout is not None
        assert await soon(asyncio.to_thread(process.stdout.readline)) == "5\n"
        process.kill()
        ends = time.monotonic() + DEADLINE
        while redis.hlen(key) and time.monotonic() < ends:
            await layer.group_send("g", HELLO)
            await asyncio.sleep(0.05)
        assert redis.hlen(key) == 0


async def test_members_cost_one_push_a_process(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    got = 0

    def receiver(message: dict[str, Any]) -> None:
        nonlocal got
        got += 1

    for owner in (layer, other):
        for _ in range(100):
            name = await owner.new_channel()
            owner.attach(name, receiver)
            await owner.group_add("g", name)
    with server.client() as redis:
        redis.config_resetstat()
        await layer.group_send("g", HELLO)
        await until(lambda: got == 200)
        assert redis.info("commandstats")["cmdstat_rpush"]["calls"] == 2


async def test_lost_data_is_announced_again(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer(capacity=2)
    layer.heartbeat = 0.1
    other = view_of(layer)
    got: list[dict[str, Any]] = []
    name, slow = await layer.new_channel(), await layer.new_channel()
    layer.attach(name, got.append)
    layer.attach(slow, got.append)
    layer.pause(slow)
    await layer.group_add("g", name)
    await layer.send(slow, HELLO)
    await layer.send(slow, HELLO)
    with server.client() as redis:
        full = layer.keys.full(layer.client_id)
        await until(lambda: redis.scard(full) == 1)
        for key in redis.scan_iter(match=layer.keys.pattern()):
            redis.delete(key)
        await until(lambda: redis.hlen(layer.keys.group("g")) == 1 and redis.scard(full) == 1)
    await other.group_send("g", {"n": 1})
    await until(lambda: got == [{"n": 1}])
    with pytest.raises(ChannelFull):
        await other.send(slow, HELLO)


async def test_membership_outlives_group_expiry_without_sends(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(group_expiry=0.6)
    name = await layer.new_channel()
    got: list[dict[str, Any]] = []
    layer.attach(name, got.append)
    await layer.group_add("g", name)
    await asyncio.sleep(1.2)
    await layer.group_send("g", HELLO)
    await until(lambda: got == [HELLO])


async def test_idle_readers_send_heartbeats_only(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    layer.heartbeat = 0.2
    waiting = [asyncio.create_task(layer.receive(name)) for name in ("a", "b", await layer.new_channel())]
    await layer.pending("a")
    with server.client() as redis:
        await asyncio.sleep(0.3)  # the blocking pops are on their way
        redis.config_resetstat()
        await asyncio.sleep(1.0)
        calls = {name: row["calls"] for name, row in redis.info("commandstats").items()}
    assert 3 <= calls.pop("cmdstat_getex") <= 6
    # This test.
    assert set(calls) <= {"cmdstat_config", "cmdstat_config|resetstat", "cmdstat_info"}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_sends_of_one_tick_share_script_calls(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(capacity=1000)
    await layer.send("jobs", {"n": -1})
    with server.client() as redis:
        redis.config_resetstat()
        await asyncio.gather(*(layer.send("jobs", {"n": n}) for n in range(300)))
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == math.ceil(300 / BATCH_MESSAGES)
    assert [(await soon(layer.receive("jobs")))["n"] for _ in range(301)] == list(range(-1, 300))


async def test_capacity_is_exact_for_own_channels(make_layer: Any) -> None:
    layer = make_layer(capacity=3)
    a, b = await layer.new_channel(), await layer.new_channel()
    results = await asyncio.gather(*(layer.send(a, {"n": n}) for n in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 3 + [ChannelFull] * 2
    await layer.send(b, HELLO)
    assert await layer.pending(a) == 3
    assert await soon(layer.receive(a)) == {"n": 0}
    await layer.send(a, {"n": 5})
    assert [(await soon(layer.receive(a)))["n"] for _ in range(3)] == [1, 2, 5]


async def test_inbox_capacity(make_layer: Any, view_of: Any) -> None:
    layer = make_layer(inbox_capacity=5, capacity=100)
    gone = f"specific.{'0' * 32}!x"
    for _ in range(5):
        await layer.send(gone, HELLO)
    with pytest.raises(ChannelFull, match="inbox_capacity"):
        await layer.send(gone, HELLO)


async def test_message_queued_before_a_discard_is_delivered(make_layer: Any) -> None:
    layer = make_layer()
    name = await layer.new_channel()
    for n in range(50):
        await layer.group_add("g", name)
        await asyncio.gather(layer.group_send("g", {"n": n}), layer.group_discard("g", name))
        await layer.group_send("g", {"after": n})
        assert await soon(layer.receive(name)) == {"n": n}
    await until(lambda: not layer.groups.groups())
    assert layer.inbox.unread(name) == 0


async def test_message_queued_before_an_add_is_not_delivered(make_layer: Any) -> None:
    layer = make_layer()
    before, name = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("g", before)
    for n in range(50):
        await layer.group_send("g", {"before": n})
        await layer.group_add("g", name)
        await layer.group_send("g", {"n": n})
        await layer.group_discard("g", name)
        assert await soon(layer.receive(name)) == {"n": n}
        assert [await soon(layer.receive(before)) for _ in range(2)] == [{"before": n}, {"n": n}]


async def test_late_add_of_a_closed_channel_is_refused(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    layer.heartbeat = 0.1
    other = view_of(layer)
    name = await layer.new_channel()
    layer.attach(name, lambda message: None)
    layer.detach(name)
    await other.group_add("g", name)
    with server.client() as redis:
        await until(lambda: redis.hlen(layer.keys.group("g")) == 0)
    assert layer.groups.groups() == []


async def test_group_is_left_with_its_last_member(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    layer.heartbeat = other.heartbeat = 0.5
    names = [await layer.new_channel() for _ in range(3)]
    for name in names:
        layer.attach(name, lambda message: None)
    await layer.group_add("g", names[0])
    await other.group_add("g", names[1])
    await layer.group_add("g", names[2])
    await until(lambda: len(layer.groups.members("g")) == 3)
    with server.client() as redis:
        layer.detach(names[0])
        await other.group_discard("g", names[1])
        await until(lambda: len(layer.groups.members("g")) == 1)
        assert redis.hlen(layer.keys.group("g")) == 1
        layer.detach(names[2])
        await until(lambda: redis.hlen(layer.keys.group("g")) == 0)


async def test_expired_message_behind_the_reader_is_not_delivered(make_layer: Any) -> None:
    """Judged by the clock of Redis, also for what no sender was there to trim."""
    layer = make_layer(expiry=0.2)
    for name in ("jobs", await layer.new_channel()):
        await layer.send(name, {"n": 1})
        await asyncio.sleep(0.3)
        await layer.send(name, {"n": 2})
        assert await soon(layer.receive(name)) == {"n": 2}


def test_fork_with_live_connections(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()

    async def use() -> None:
        name = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive("jobs"))
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        session = layer._session().seats[0]
        await until(lambda: session.channels._line.blocked)
        lines = (session.link, session.channels._line, session.inbox._line, layer._client())
        inherited = [getattr(line, "connection", line)._sock.fileno() for line in lines]
        assert in_child(lambda: child(inherited))["own"] == HELLO
        # The connections of this process are whole.
        await layer.send(name, {"n": 2})
        assert await soon(layer.receive(name)) == {"n": 2}
        await layer.send("jobs", {"n": 3})
        assert await soon(waiting) == {"n": 3}
        layer.send_sync("jobs", {"n": 4})
        layer.close_sync()

    def child(inherited: list[int]) -> dict[str, Any]:
        for descriptor in inherited:
            # A blocked pop that lived on here would take messages from the parent.
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

        async def use() -> dict[str, Any]:
            name = await layer.new_channel()
            await layer.send(name, HELLO)
            return {"own": await soon(layer.receive(name))}

        return in_thread(lambda: asyncio.run(use()))

    async def main() -> None:
        layer.send_sync("other", HELLO)
        await use()

    in_thread(lambda: asyncio.run(main()))


async def test_unix_socket(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(hosts=[f"unix://{server.path}?db=3"])
    name = await layer.new_channel()
    await layer.send(name, HELLO)
    assert await soon(layer.receive(name)) == HELLO
    assert await asyncio.to_thread(layer.receive_many, ["jobs"]) == (None, None)
    with server.client(db=3) as redis:
        assert redis.exists(layer.keys.lease(layer.client_id))
