from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from fastchannels.exceptions import ChannelFull, InvalidChannelLayerError, LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import RedisChannelLayer, RedisCompatChannelLayer

from ..contract import ContractTests, MakeLayer, ViewOf
from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, in_child, in_thread, soon, until
from . import compat_fixtures
from .channels_redis_peer import channels_redis_peer
from .endings import run_many
from .sentinels import Replicated, replicated

make_layer, view_of = compat_fixtures.make_layer, compat_fixtures.view_of


async def put_raw(layer: RedisCompatChannelLayer, channel: str, *bodies: bytes) -> None:
    """Put bytes on a channel that no sender makes, behind what is there."""
    for body in bodies:
        await layer._session().link.call("ZADD", layer.keys.channel(channel), time.time(), os.urandom(12) + body)


class TestContract(ContractTests):
    """Three tests differ: one as the wire has no place for what it asks, two as bytes go into Redis by other ways."""

    async def test_capacity_of_a_local_name_is_its_own(self, make_layer: MakeLayer, view_of: ViewOf) -> None:
        """Nothing tells a sender in another process that a name is full (D-39): the newest are dropped and counted."""
        layer = make_layer(capacity=3)
        other = view_of(layer)
        slow, quick = await layer.new_channel(), await layer.new_channel()
        got: list[dict[str, Any]] = []
        layer.attach(slow, got.append)
        layer.attach(quick, got.append)
        layer.pause(slow)
        for n in range(6):
            await other.send(slow, {"n": n})
            await until(lambda n=n: layer.inbox.unread(slow) == min(3, n + 1))  # type: ignore[misc]
        await until(lambda: layer.statistics()["dropped"] == {"full": 3})
        with pytest.raises(ChannelFull, match=slow):
            await layer.send(slow, HELLO)
        await other.send(quick, {"to": "quick"})
        await until(lambda: got == [{"to": "quick"}])
        layer.resume(slow)
        await until(lambda: got[1:] == [{"n": 0}, {"n": 1}, {"n": 2}])
        await other.send(slow, {"n": 6})
        await until(lambda: got[-1] == {"n": 6})

    async def test_undecodable_bytes_are_dropped(
        self, layer: ChannelLayer, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert isinstance(layer, RedisCompatChannelLayer)
        await put_raw(layer, name, b"\xc1", b"", b"\x93\x01")
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.name == "fastchannels.layer"]
        assert len(errors) == 1
        assert layer.statistics()["dropped"] == {"undecodable": 3}

    @pytest.mark.parametrize("format", ["json", "msgpack"])
    async def test_encrypted_with_rotated_keys(
        self, make_layer: MakeLayer, view_of: ViewOf, format: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        layer = make_layer(symmetric_encryption_keys=["new", b"old"], serializer_format=format)
        assert isinstance(layer, RedisCompatChannelLayer)
        shared = {"prefix": layer.prefix, "serializer_format": format}
        old = make_layer(symmetric_encryption_keys=["old"], **shared)
        others = [make_layer(**shared), make_layer(symmetric_encryption_keys=["stranger"], **shared)]
        name = await layer.new_channel()
        await layer.group_add("g", name)
        for channel in ("jobs", name):
            for sender in (view_of(layer), old):
                await sender.send(channel, {"secret": "sesame"})
                assert await soon(layer.receive(channel)) == {"secret": "sesame"}
        await old.group_send("g", {"n": "group"})
        assert await soon(layer.receive(name)) == {"n": "group"}
        assert b"sesame" not in layer.serialize({"secret": "sesame"})
        token = layer.serialize(HELLO)[12:]
        for channel in ("jobs", name):
            for other in others:
                await other.send(channel, {"secret": "sesame"})
            await put_raw(layer, channel, token[:-8] + b"AAAAAAA=", token[: len(token) // 2], b"")
            await layer.send(channel, {"n": "after"})
            assert await soon(layer.receive(channel)) == {"n": "after"}
        assert layer.statistics()["dropped"] == {"undecodable": 10}
        errors = [r for r in caplog.records if r.levelno == logging.ERROR and r.name == "fastchannels.layer"]
        assert len(errors) == 1
        assert "sesame" not in caplog.text


# ---------------------------------------------------------------------- beside channels_redis


@pytest.mark.parametrize("serializer_format", ["msgpack", "json"])
@pytest.mark.parametrize("keys", [None, ["k2", "k1"]], ids=["clear", "encrypted"])
async def test_exchange_with_channels_redis(
    server: RedisServer, make_layer: Any, keys: list[str] | None, serializer_format: str
) -> None:
    options = {"symmetric_encryption_keys": keys, "serializer_format": serializer_format, "capacity": 3}
    ours: RedisCompatChannelLayer = make_layer(**options)
    value: dict[str, Any] = {"type": "chat.message", "text": "é☃", "n": [1, None, 1.5, {"a": True}]}
    if serializer_format == "msgpack":
        value["b"] = b"\x00\xff"
    # redis-py 8 has a socket_timeout of its own, on which an idle receive of channels_redis fails (D-43).
    host = {"address": server.url, "socket_timeout": None}
    with channels_redis_peer(hosts=[host], prefix=ours.prefix, **options) as theirs:
        # Ordinary channels.
        await ours.send("jobs", value)
        assert await theirs.call("receive", "jobs") == value
        await theirs.call("send", "jobs", value)
        assert await soon(ours.receive("jobs")) == value
        await theirs.call("send", "jobs", value)
        assert await asyncio.to_thread(ours.receive_many, ["jobs"], True, DEADLINE) == ("jobs", value)
        await asyncio.to_thread(ours.send_sync, "jobs", value)
        assert await theirs.call("receive", "jobs") == value

        # Process-local channels, of two prefixes.
        their_name = await theirs.call("new_channel")
        their_other = await theirs.call("new_channel", "other")
        our_name, our_second = await ours.new_channel(), await ours.new_channel()
        our_other = await ours.new_channel("websocket.send")
        for name in (their_name, their_other):
            await ours.send(name, value)
            assert await theirs.call("receive", name) == value
        for name in (our_name, our_second, our_other):
            await theirs.call("send", name, value)
            assert await soon(ours.receive(name)) == value

        # A group with members of every kind, added from both sides.
        for name in (our_name, our_second, their_other):
            await theirs.call("group_add", "g", name)
        for name in (our_other, their_name, "jobs"):
            await ours.group_add("g", name)
        for n, sender in enumerate((ours.group_send, lambda *message: theirs.call("group_send", *message))):
            await sender("g", {**value, "round": n})
            for name in (our_name, our_second, our_other, "jobs"):
                assert await soon(ours.receive(name)) == {**value, "round": n}
            for name in (their_name, their_other):
                assert await theirs.call("receive", name) == {**value, "round": n}
        await theirs.call("group_discard", "g", our_name)
        await ours.group_discard("g", their_name)
        for n, sender in enumerate((ours.group_send, lambda *message: theirs.call("group_send", *message))):
            await sender("g", {"round": n})
            assert await soon(ours.receive(our_second)) == {"round": n}
            assert await theirs.call("receive", their_other) == {"round": n}
        assert ours.inbox.unread(our_name) == 0

        # Nothing came twice, and both count the same queue.
        assert await soon(ours.receive("jobs")) == {"round": 0}
        await ours.send("jobs", value)
        await theirs.call("send", "jobs", value)
        assert await theirs.call("send", "jobs", value) == "ChannelFull"
        with pytest.raises(ChannelFull):
            await ours.send("jobs", value)
        assert await ours.pending("jobs") == 3
        statistics = await asyncio.to_thread(ours.channel_statistics, "jobs")
        assert 0 <= statistics.pop("messages_max_age") < DEADLINE
        assert statistics == {"messages_pending": 3, "channel_full_count": 1}
        await theirs.call("flush")
        assert await ours.pending("jobs") == 0
    assert ours.statistics()["dropped"] == {}


async def test_keys_and_times_are_those_of_channels_redis(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer(expiry=30, group_expiry=100)
    gone = "specific." + "0" * 32 + "!"
    await layer.send("jobs", HELLO)
    await layer.send(gone + "x", HELLO)
    await layer.group_add("g", gone + "x")
    await layer.group_add("g", gone + "y")
    await layer.group_add("g", "other")
    await layer.group_send("g", HELLO)
    prefix = layer.prefix
    with server.client() as redis:
        assert {key.decode() for key in redis.scan_iter(prefix + "*")} == {
            prefix + name for name in ("jobs", gone, ":group:g", "other")
        }
        for key, expiry in (("jobs", 30), (gone, 30), (":group:g", 100)):
            assert expiry - 5 < redis.ttl(prefix + key) <= expiry
            assert all(
                time.time() - 5 < score < time.time() + 5
                for _, score in redis.zrange(prefix + key, 0, -1, withscores=True)
            )
        bodies = [layer.wire.open(member) for member in redis.zrange(prefix + gone, 0, -1)]
        assert [layer.wire.split(body)[0] for body in bodies] == [gone + "x", [gone + "x", gone + "y"]]
        assert layer.deserialize(redis.zrange(prefix + "jobs", 0, -1)[0]) == HELLO


async def test_messages_in_flight_elsewhere_are_left_there(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    key = layer.keys.channel("jobs") + "$inflight"
    with server.client() as redis:
        redis.zadd(key, {layer.serialize({"n": "theirs"}): time.time()})
        await layer.send("jobs", HELLO)
        assert await soon(layer.receive("jobs")) == HELLO
        assert await asyncio.to_thread(layer.receive_many, ["jobs"]) == (None, None)
        assert redis.zcard(key) == 1


# ---------------------------------------------------------------------- this process


def test_says_which_wire_it_speaks(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fastchannels.layer"):
        RedisCompatChannelLayer(hosts=["redis://me:hunter2@h:7"], prefix="p")
    [line] = [record.getMessage() for record in caplog.records]
    assert "wire of channels_redis" in line
    assert "redis://me:***@h:7" in line


def test_options() -> None:
    assert {
        "hosts", "prefix", "expiry", "group_expiry", "capacity", "channel_capacity", "symmetric_encryption_keys",
        "random_prefix_length", "serializer_format",
    } <= set(RedisCompatChannelLayer.option_names())  # fmt: skip
    for options in (
        *({"reconnect_timeout": 0}, {"prefix": 1}, {"hosts": "redis://h"}, {"hosts": ["redis://a", "redis://b"]}),
        *(
            {"random_prefix_length": -1},
            {"serializer_format": "xml"},
            {"symmetric_encryption_keys": "k"},
            {"capcity": 1},
        ),
    ):
        with pytest.raises(InvalidChannelLayerError, match=next(iter(options))):
            RedisCompatChannelLayer(**options)  # type: ignore[arg-type]


async def test_flush_leaves_what_is_not_of_this_wire(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    native = RedisChannelLayer(hosts=[server.url], prefix=layer.prefix)
    await native.send("jobs", HELLO)
    with server.client() as redis:
        foreign = [layer.prefix + name for name in ("text", ":stats", "two words")]
        redis.set(foreign[0], "x")
        redis.zadd(foreign[1], {"x": 1})
        redis.zadd(foreign[2], {"x": 1})
        redis.zadd(layer.keys.channel("jobs") + "$inflight", {"x": 1})
        await layer.group_add("g", "jobs")
        await layer.group_send("g", HELLO)
        await layer.flush()
        left = {key.decode() for key in redis.scan_iter(layer.prefix + "*")}
        assert left == {*foreign, native.keys.queue("jobs")}
    await native.close()


async def test_names_of_several_prefixes_share_one_pop(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    names = [await layer.new_channel(prefix) for prefix in ("specific", "websocket.send", "http.response")]
    waiting = [asyncio.create_task(layer.receive(name)) for name in (*names, "jobs", "more")]
    await asyncio.sleep(0)
    late = await layer.new_channel("late")
    for name in (late, *names, "jobs", "more"):
        await other.send(name, {"to": name})
    assert [(await soon(task))["to"] for task in waiting] == [*names, "jobs", "more"]
    assert await soon(layer.receive(late)) == {"to": late}
    with server.client() as redis:
        blocked = [client for client in redis.client_list() if client["cmd"].startswith("bz")]
        assert len(blocked) <= 1


async def test_idle_readers_send_nothing(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    waiting = [asyncio.create_task(layer.receive(name)) for name in ("a", "b", await layer.new_channel())]
    await layer.pending("a")
    with server.client() as redis:
        reader = layer._session().reader
        await until(lambda: reader._line.blocked and not reader._waking)
        await layer.pending("a")  # what was sent before has been answered
        redis.config_resetstat()
        await asyncio.sleep(0.5)
        assert set(redis.info("commandstats")) <= {"cmdstat_config", "cmdstat_config|resetstat", "cmdstat_info"}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_redis_killed_and_started_again(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    with running(tmp_path) as server:
        layer = make_layer(hosts=[server.url])
        other = view_of(layer)
        name = await layer.new_channel()
        local, jobs = asyncio.create_task(layer.receive(name)), asyncio.create_task(layer.receive("jobs"))
        await layer.pending("jobs")
        server.kill()
        server.start()
        for channel, task in ((name, local), ("jobs", jobs)):
            await other.send(channel, HELLO)
            assert await soon(task) == HELLO
        await layer.group_add("g", name)
        await other.group_send("g", HELLO)
        assert await soon(layer.receive(name)) == HELLO
        assert await asyncio.to_thread(_read_over_a_restart, layer, server) == ("sync", HELLO)


def _read_over_a_restart(layer: RedisCompatChannelLayer, server: RedisServer) -> Any:
    layer.send_sync("warm", HELLO)
    server.kill()
    server.start()
    layer.send_sync("sync", HELLO)
    try:
        return layer.receive_many(["sync"], True, DEADLINE)
    finally:
        layer.close_sync()


async def test_scripts_that_redis_forgot(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    await layer.group_add("g", "jobs")
    with server.client() as redis:
        for synchronous in (False, True):
            redis.script_flush()
            if synchronous:
                await asyncio.to_thread(layer.group_send_sync, "g", HELLO)
            else:
                await layer.group_send("g", HELLO)
            assert await soon(layer.receive("jobs")) == HELLO


def test_sentinels(tmp_path: Path, make_layer: Any, view_of: Any) -> None:
    async def use(replicas: Replicated) -> None:
        layer = make_layer(hosts=[replicas.host])
        other = view_of(layer)
        name = await layer.new_channel()
        await layer.group_add("g", name)
        await other.group_send("g", HELLO)
        assert await soon(layer.receive(name)) == HELLO
        await layer.send("jobs", HELLO)
        assert await soon(other.receive("jobs")) == HELLO

    with replicated(tmp_path) as replicas:
        in_thread(lambda: asyncio.run(use(replicas)))


async def test_redis_away(tmp_path: Path, make_layer: Any) -> None:
    with running(tmp_path) as server:
        layer = make_layer(hosts=[server.url], reconnect_timeout=0.3)
        name = await layer.new_channel()
        waiting = [asyncio.create_task(layer.receive(channel)) for channel in (name, "jobs")]
        await layer.pending("jobs")
        server.kill()
        for task in waiting:
            with pytest.raises(LayerUnavailable):
                await soon(task)
        with pytest.raises(LayerUnavailable):
            await soon(layer.send("jobs", HELLO))
        with pytest.raises(LayerUnavailable):
            await soon(asyncio.to_thread(layer.receive_many, ["jobs"], True))
        server.start()
        # The inbox is tried again without end, for receivers that are attached.
        await soon(layer.send(name, HELLO))
        assert await soon(layer.receive(name)) == HELLO


def test_loops_that_end_at_any_step_leave_nothing_behind(make_layer: Any, view_of: Any) -> None:
    assert run_many(make_layer, view_of, 100) == (0, [])


def test_fork_with_live_connections(make_layer: Any) -> None:
    layer = make_layer()

    async def use() -> None:
        name = await layer.new_channel()
        waiting = asyncio.create_task(layer.receive("jobs"))
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        session = layer._session()
        await until(lambda: session.reader._line.blocked)
        inherited = [line.connection._sock.fileno() for line in (session.link, session.reader._line)]
        assert in_child(lambda: child(inherited))["own"] == HELLO
        await layer.send(name, {"n": 2})
        assert await soon(layer.receive(name)) == {"n": 2}
        await layer.send("jobs", {"n": 3})
        assert await soon(waiting) == {"n": 3}

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

    in_thread(lambda: asyncio.run(use()))


@pytest.mark.parametrize(
    "test",
    ["attached_receiver", "flush", "close_and_use_again", "group_of_both_kinds", "each_message_reaches_one_reader"],
)
def test_on_uvloop(make_layer: Any, view_of: Any, test: str) -> None:
    uvloop = pytest.importorskip("uvloop")
    layer = make_layer()
    views = {"layer": layer, "other": view_of(layer)}
    call = getattr(TestContract(), f"test_{test}")
    arguments = [views[name] for name in inspect.signature(call).parameters]
    in_thread(lambda: uvloop.run(call(*arguments)))
