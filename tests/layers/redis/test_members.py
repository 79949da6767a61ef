from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import RedisChannelLayer, members, wire
from fastchannels.layers.redis.members import MOVES, NOTES

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, HELLO, in_thread, soon, until

# ---------------------------------------------------------------------- order by the caller, against a model (D-50)

GROUPS = ("g", "h")
CHANNELS = 4
MOVE = st.tuples(st.sampled_from(["add", "discard"]), st.integers(0, 1), st.integers(0, CHANNELS - 1))
PUBLISH = st.tuples(st.sampled_from(["group_send", "peer_group_send"]), st.integers(0, 1), st.just(0))
SEND = st.tuples(st.just("send"), st.just(0), st.integers(0, CHANNELS - 1))
PAUSE = st.tuples(st.just("pause"), st.integers(0, 3), st.just(0))
STEPS = st.lists(st.one_of(MOVE, MOVE, PUBLISH, SEND, PAUSE), min_size=10, max_size=80)


class Caller:
    """Does steps one after the other, and knows what each channel must get. The last channel is the other process's."""

    def __init__(self, layer: RedisChannelLayer, peer: RedisChannelLayer) -> None:
        self.layer, self.peer = layer, peer
        self.names: list[str] = []
        self.got: dict[str, list[int]] = {}
        self.wanted: dict[str, list[int]] = {}
        self.members: dict[str, set[str]] = {group: set() for group in GROUPS}
        self.sent = 0

    async def start(self) -> None:
        for number in range(CHANNELS):
            layer = self.layer if number < CHANNELS - 1 else self.peer
            name = await layer.new_channel()
            self.names.append(name)
            self.got[name], self.wanted[name] = [], []
            layer.attach(name, lambda message, got=self.got[name]: got.append(message["n"]))  # type: ignore[misc]

    def step(self, verb: str, group_number: int, channel_number: int) -> Any:
        """What to await; the model has done it already."""
        group, name = GROUPS[group_number % 2], self.names[channel_number]
        if verb == "pause":
            return asyncio.sleep(group_number / 100)
        if verb == "add":
            self.members[group].add(name)
            return self.layer.group_add(group, name)
        if verb == "discard":
            self.members[group].discard(name)
            return self.layer.group_discard(group, name)
        self.sent += 1
        message = {"n": self.sent}
        for wanted in [name] if verb == "send" else self.members[group]:
            self.wanted[wanted].append(self.sent)
        if verb == "send":
            return self.layer.send(name, message)
        return self.layer.group_send(group, message) if verb == "group_send" else self._by_peer(group, message)

    async def _by_peer(self, group: str, message: dict[str, int]) -> None:
        """The other process sends, when it has heard of what was done before: by the layer, as processes hear."""
        heard = asyncio.get_running_loop().create_future()
        name = await self.peer.new_channel()
        self.peer.attach(name, heard.set_result)
        await self.layer.send(name, {})
        await heard
        self.peer.detach(name)
        await self.peer.group_send(group, message)

    async def settle(self) -> None:
        self.sent += 1
        for name in self.names:
            self.wanted[name].append(self.sent)
            await self.layer.send(name, {"n": self.sent})
        await until(lambda: all(got and got[-1] == self.sent for got in self.got.values()))


def two_layers(make_layer: Any) -> Caller:
    layer = make_layer(capacity=10_000)
    peer = make_layer(prefix=layer.prefix, capacity=10_000)
    # Groups are left, and announced again, in the middle of a run.
    layer.heartbeat = peer.heartbeat = 0.01
    return Caller(layer, peer)


def test_order_of_one_caller(make_layer: Any) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def run(steps: list[tuple[str, int, int]]) -> None:
        async def use() -> None:
            caller = two_layers(make_layer)
            await caller.start()
            for step in steps:
                await soon(caller.step(*step))
            await caller.settle()
            assert caller.got == caller.wanted
            assert set(caller.layer.groups.groups()) | set(caller.peer.groups.groups()) == {
                group for group, names in caller.members.items() if names
            }

        asyncio.run(use())

    in_thread(run)


def test_order_of_calls_that_are_not_awaited_one_by_one(make_layer: Any) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def run(steps: list[tuple[str, int, int]]) -> None:
        async def use() -> None:
            caller = two_layers(make_layer)
            await caller.start()
            anchor = await caller.layer.new_channel()
            for group in GROUPS:
                await caller.layer.group_add(group, anchor)
            # By one process alone, whose calls take effect in the order in which they begin.
            own = [step for step in steps if step[0] != "peer_group_send" and step[2] < CHANNELS - 1]
            for start in range(0, len(own), 9):
                await soon(asyncio.gather(*(caller.step(*step) for step in own[start : start + 9])))
            await caller.settle()
            assert caller.got == caller.wanted

        asyncio.run(use())

    in_thread(run)


async def test_outage_in_the_middle(own_server: RedisServer) -> None:
    layer, peer = (RedisChannelLayer(hosts=[own_server.url], reconnect_timeout=DEADLINE) for _ in range(2))
    layer.heartbeat = peer.heartbeat = 0.1
    caller = Caller(layer, peer)
    await caller.start()

    async def work(rounds: int) -> None:
        for number in range(rounds):
            for verb in ("add", "discard", "group_send", "add"):
                done = False
                while not done:
                    try:
                        await caller.step(verb, number, (number // 2 + len(verb)) % CHANNELS)
                        done = True
                    except LayerUnavailable:  # moves are made again until they succeed
                        await asyncio.sleep(0.01)
            if number % 8 == 0:
                await asyncio.sleep(0.001)

    await soon(work(40))
    for _ in range(2):
        working = asyncio.create_task(work(400))
        await asyncio.sleep(0.02)
        await asyncio.to_thread(own_server.kill)
        await asyncio.sleep(0.1)
        own_server.start()
        await soon(working)
        await until(lambda: all(side._readers[0]._confirmed for side in (layer, peer)))
        await caller.settle()
        # Messages were lost; of memberships none, and none was made up.
        for got in (*caller.got.values(), *caller.wanted.values()):
            got.clear()
        for group in (0, 1):
            await soon(caller.step("peer_group_send", group, 0))
            await soon(caller.step("group_send", group, 0))
        await caller.settle()
        assert caller.got == caller.wanted
        assert not any(layer._fences)


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("own")) as server:
        yield server


# ---------------------------------------------------------------------- what Redis is asked


class Calls:
    """Counts commands that Redis ran, without those of the test."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        with server.client() as redis:
            redis.config_resetstat()

    def __call__(self) -> dict[str, int]:
        with self._server.client() as redis:
            rows = redis.info("commandstats")
        return {
            name: row["calls"]
            for name, row in ((name.removeprefix("cmdstat_"), row) for name, row in rows.items())
            if name in ("rpush", "evalsha", "hset", "hdel")
        }


async def test_moves_of_one_turn_are_one_note(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    names = [await layer.new_channel() for _ in range(64)]
    await layer.group_add("g", names[0])
    await until(lambda: not layer._fences[0])
    calls = Calls(server)
    await asyncio.gather(*(layer.group_add("g", name) for name in names))
    await until(lambda: len(layer.groups.members("g")) == 64)
    assert calls() == {"rpush": 1}
    # A message stands between two notes.
    await asyncio.gather(
        *(layer.group_discard("g", name) for name in names[:32]),
        layer.send("elsewhere", HELLO),
        *(layer.group_discard("g", name) for name in names[32:]),
    )
    await until(lambda: not layer.groups.groups())
    assert calls()["rpush"] == 1 + 2 + 1


async def test_first_members_of_one_turn_are_one_script_call(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    name = await layer.new_channel()
    await layer.group_add("first", name)
    calls = Calls(server)
    await asyncio.gather(*(layer.group_add(f"g{n}", name) for n in range(50)), layer.group_add("g0", name))
    assert calls() == {"evalsha": 1, "hset": 50, "rpush": 51}
    await until(lambda: len(layer.groups) == 51)


async def test_empty_group_is_left_after_a_while(server: RedisServer, make_layer: Any, view_of: Any) -> None:
    layer = make_layer()
    other = view_of(layer)
    layer.heartbeat = 0.3
    name = await layer.new_channel()
    key = layer.keys.group("g")
    await layer.group_add("g", name)
    calls = Calls(server)
    with server.client() as redis:
        await layer.group_discard("g", name)
        await until(lambda: not layer.groups.groups())
        assert redis.hlen(key) == 1
        # What comes for nobody is no loss.
        await other.group_send("g", HELLO)
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
        assert layer.statistics()["dropped"] == {}
        assert "g" not in layer.groups
        await layer.group_add("g", name)
        await layer.group_discard("g", name)
        assert "hset" not in calls()
        await until(lambda: redis.hlen(key) == 0)
        await until(lambda: not layer._announced)
        # And it is joined again.
        await layer.group_add("g", name)
        await other.group_send("g", {"n": 1})
        assert await soon(layer.receive(name)) == {"n": 1}
        await until(lambda: not layer._vacant)


async def test_group_that_redis_counts_this_process_in_by_mistake(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    layer.heartbeat = 0.1
    await layer.new_channel()
    key = layer.keys.group("g")
    with server.client() as redis:
        await until(lambda: redis.exists(layer.keys.lease(layer.client_id)))
        redis.hset(key, layer.client_id, 5)
        await layer.group_send("g", HELLO)
        await until(lambda: redis.hlen(key) == 0)


# ---------------------------------------------------------------------- what may go wrong between a move and its note


async def prepared(make_layer: Any) -> tuple[RedisChannelLayer, str]:
    layer: RedisChannelLayer = make_layer()
    name = await layer.new_channel()
    await layer.group_add("g", await layer.new_channel())
    await until(lambda: not layer._fences[0])
    return layer, name


@pytest.mark.parametrize("lose", ["link", "inbox", "reply"])
async def test_note_that_is_lost(make_layer: Any, lose: str) -> None:
    layer, name = await prepared(make_layer)
    ways: dict[str, Callable[[], object]] = {
        "link": lambda: layer._seat("g").link.connection.abort(),  # type: ignore[union-attr]
        "inbox": lambda: layer.inbox_lost(),
        "reply": lambda: layer._on_note(next(iter(layer._fences[0])), ReplyFailed()),
    }
    for verb, wanted in ((layer.group_add, True), (layer.group_discard, False)):
        await verb("g", name)
        assert (name in layer.groups.members("g")) is not wanted
        ways[lose]()
        await until(lambda wanted=wanted: (name in layer.groups.members("g")) is wanted)
        # Its note, if it comes, does nothing; the next are made.
        await soon(layer.group_discard("g", name))
        await soon(layer.group_add("g", name))
        await soon(layer.group_send("g", HELLO))
        assert await soon(layer.receive(name)) == HELLO


class ReplyFailed(LayerUnavailable):
    """As of a Redis that is out of memory."""


async def test_flush_between_a_move_and_its_note(server: RedisServer, make_layer: Any) -> None:
    layer, name = await prepared(make_layer)
    with server.client() as redis:
        redis.delete(layer.keys.group("g"))
        redis.rpush(layer.keys.inbox(layer.client_id), wire.note(wire.FORGET))
        await layer.group_add("g", name)
        await until(lambda: redis.hlen(layer.keys.group("g")) == 1 and "g" in layer._announced)
    assert layer.groups.members("g") == (name,)
    await layer.group_send("g", HELLO)
    assert await soon(layer.receive(name)) == HELLO


async def test_channel_that_is_closed_before_its_note_comes(make_layer: Any) -> None:
    layer, name = await prepared(make_layer)
    layer.attach(name, lambda message: None)
    await layer.group_add("g", name)
    layer.detach(name)
    await until(lambda: not layer._fences[0])
    assert name not in layer.groups.members("g")
    await layer.group_add("g", name)
    assert not layer._fences[0]


async def test_many_moves_let_others_run(make_layer: Any) -> None:
    layer, name = await prepared(make_layer)
    ran = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ran.set_result, None)
    for _ in range(MOVES):
        assert not ran.done()
        await layer.group_add("g", name)
    assert ran.done()


async def test_notes_that_do_not_come_hold_up_the_caller(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, name = await prepared(make_layer)
    written = 0

    async def move(*arguments: object) -> None:
        nonlocal written
        written += 1

    monkeypatch.setattr(layer, "_move", move)
    for _ in range(NOTES):
        await layer.group_add("g", name)
        layer._note.close()  # type: ignore[union-attr]
    assert written == 0
    await layer.group_add("g", name)
    assert written == 1


async def test_moves_on_another_loop(make_layer: Any) -> None:
    layer, name = await prepared(make_layer)

    async def elsewhere() -> None:
        await layer.group_add("g", name)
        await layer.group_send("g", {"n": 1})
        await layer.group_discard("g", name)
        await layer.group_send("g", {"n": 2})
        await layer.send(name, {"n": 3})
        await layer.close()

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    assert [await soon(layer.receive(name)) for _ in range(2)] == [{"n": 1}, {"n": 3}]
    await asyncio.to_thread(thread.join, DEADLINE)
    assert name not in layer.groups.members("g")


async def test_move_that_was_not_told(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, name = await prepared(make_layer)
    monkeypatch.setattr(members, "NOTES", 0)

    async def fail(*arguments: object) -> None:
        raise LayerUnavailable("x")

    for verb in (layer.group_add, layer.group_discard):
        with monkeypatch.context() as patched:
            patched.setattr(layer, "_push_note", fail)
            with pytest.raises(LayerUnavailable):
                await verb("g", name)
        assert name not in layer.groups.members("g")
        assert not layer._fences[0]
        await layer.group_add("g", name)
        await until(lambda: name in layer.groups.members("g"))


async def test_sends_to_a_group_that_redis_has_lost_are_counted(server: RedisServer, make_layer: Any) -> None:
    """Its members here miss them, until the next heartbeat tells Redis of them again."""
    layer, name = await prepared(make_layer)
    await layer.group_add("g", name)
    await layer.group_send("g", HELLO)
    assert await soon(layer.receive(name)) == HELLO
    with server.client() as redis:
        redis.delete(layer.keys.group("g"))
    await layer.group_send("g", HELLO)
    await layer.group_send(["g", "h"], HELLO)
    await asyncio.to_thread(layer.group_send_sync, "g", HELLO)
    await layer.group_send("h", HELLO)
    assert layer.statistics()["dropped"] == {"gone": 3}
    await asyncio.to_thread(layer.close_sync)
