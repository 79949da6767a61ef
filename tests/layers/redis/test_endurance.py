"""What holds over time: cancelled receives, ten thousand that wait, processes that die, clocks that are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.members import LEASE

from ..redis_server import RedisServer, running
from ..waits import DEADLINE, in_thread, soon, until
from .peer import peer

ROOT = Path(__file__).parents[3]

# ---------------------------------------------------------------------- cancelling

#: A burst of sends, or a receive that is cancelled after some rounds of the loop and some tenths of a millisecond.
SEND = st.tuples(st.just("send"), st.integers(1, 4), st.just(0))
RECEIVE = st.tuples(st.just("receive"), st.integers(0, 9), st.integers(0, 15))
STEPS = st.lists(st.one_of(SEND, RECEIVE), min_size=20, max_size=120)


async def cancel_at_any_await(
    layer: RedisChannelLayer, sender: RedisChannelLayer, name: str, steps: list[tuple[str, int, int]], readers: int
) -> None:
    got: list[int] = []
    sent = 0
    for step, rounds, tenths in steps:
        if step == "send":
            for _ in range(rounds):
                await sender.send(name, {"n": sent})
                sent += 1
            continue
        tasks = [asyncio.create_task(layer.receive(name)) for _ in range(readers)]
        for _ in range(rounds):
            await asyncio.sleep(0)
        if tenths:
            await asyncio.sleep(tenths / 10_000)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                got.append((await task)["n"])
    while len(got) < sent:
        got.append((await soon(layer.receive(name)))["n"])
    last = asyncio.create_task(layer.receive(name))
    await sender.send(name, {"n": sent})
    # Nothing twice either: the next is the one that was sent last.
    assert (await soon(last))["n"] == sent
    if readers == 1:
        assert got == list(range(sent))
    assert sorted(got) == list(range(sent))


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("kind", ["ordinary", "local", "own"])
def test_receives_cancelled_at_any_await(make_layer: Any, kind: str, readers: int) -> None:
    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def run(steps: list[tuple[str, int, int]]) -> None:
        layer = make_layer(capacity=10_000)
        sender = layer if kind == "own" else make_layer(prefix=layer.prefix, capacity=10_000)

        async def use() -> None:
            name = "jobs" if kind == "ordinary" else await layer.new_channel()
            await cancel_at_any_await(layer, sender, name, steps, readers)

        asyncio.run(use())

    in_thread(run)


# ---------------------------------------------------------------------- idle


async def test_ten_thousand_waiting_receivers_cost_nothing(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()
    layer.heartbeat = 2.0
    names = [await layer.new_channel() for _ in range(9_900)] + [f"jobs{n}" for n in range(100)]
    waiting = [asyncio.create_task(layer.receive(name)) for name in names]
    window = 2.2 * layer.heartbeat
    with server.client() as redis:
        await layer.pending("jobs0")
        session = layer._session()
        await until(lambda: all(seat.channels._line.blocked for seat in session.seats))
        await asyncio.sleep(0.2)
        redis.config_resetstat()
        used, begun = time.process_time(), time.monotonic()
        await asyncio.sleep(window)
        used, took = time.process_time() - used, time.monotonic() - begun
        calls = {name: row["calls"] for name, row in redis.info("commandstats").items()}
    assert 1 <= calls.pop("cmdstat_getex") <= took / layer.heartbeat + 1
    # This test.
    assert set(calls) <= {"cmdstat_config", "cmdstat_config|resetstat", "cmdstat_info"}
    assert used < 0.01 * took
    # They do wait.
    await layer.send(names[5000], {"n": 1})
    await layer.send(names[-1], {"n": 2})
    assert [(await soon(waiting[n]))["n"] for n in (5000, -1)] == [1, 2]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# ---------------------------------------------------------------------- groups


async def test_killed_member_is_gone_in_time_and_the_others_miss_nothing(server: RedisServer, make_layer: Any) -> None:
    assert LEASE < 10
    layer = make_layer()
    name = await layer.new_channel()
    got: list[dict[str, Any]] = []
    layer.attach(name, got.append)
    await layer.group_add("g", name)
    with server.client() as redis, peer(server.url, layer.prefix, "members", "g", "5") as process:
        assert redis.hlen(layer.keys.group("g")) == 2
        # Inside the lease of 0.6 s that the peer has taken, as 10 s are outside the one of any process.
        process.kill()
        killed, sent = time.monotonic(), 0
        while redis.hlen(layer.keys.group("g")) == 2:
            await layer.group_send("g", {"n": sent})
            sent += 1
            assert time.monotonic() - killed < 0.6 + 2
            await asyncio.sleep(0.02)
    await until(lambda: len(got) == sent)
    assert [message["n"] for message in got] == list(range(sent))
    assert layer.statistics()["dropped"] == {"gone": 1}


async def test_groups_work_again_after_redis_was_started_empty(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        layers = [RedisChannelLayer(hosts=[server.url], reconnect_timeout=DEADLINE) for _ in range(3)]
        got: dict[int, list[int]] = defaultdict(list)
        for layer in layers:
            layer.heartbeat, layer.lease = 0.1, 1.0
            for group in ("a", "b"):
                name = await layer.new_channel()
                numbers = got[id(layer)]
                layer.attach(name, lambda message, numbers=numbers: numbers.append(message["n"]))
                await layer.group_add(group, name)
        for round_ in (10, 20):
            await asyncio.to_thread(server.kill)
            server.start()
            with server.client() as redis:
                await until(lambda redis=redis, keys=layers[0].keys: redis.hlen(keys.group("a")) == 3)
                await until(lambda redis=redis, keys=layers[0].keys: redis.hlen(keys.group("b")) == 3)
            await layers[0].group_send("a", {"n": round_})
            await asyncio.to_thread(layers[1].group_send_sync, "b", {"n": round_ + 1})
            await until(lambda n=round_: all(sorted(got[id(layer)])[-2:] == [n, n + 1] for layer in layers))
            await asyncio.to_thread(layers[1].close_sync)
        assert all(sorted(numbers) == [10, 11, 20, 21] for numbers in got.values())
        for layer in layers:
            await layer.close()


# ---------------------------------------------------------------------- clocks


async def test_order_and_expiry_do_not_depend_on_the_clocks_of_processes(
    server: RedisServer, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Senders that are 5 s wrong, either way, and messages that live for less than that."""
    layer = make_layer(capacity=10_000, expiry=4)
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + 3600)
    local, member = await layer.new_channel(), await layer.new_channel()
    got: dict[tuple[str, str], list[int]] = defaultdict(list)
    layer.attach(member, lambda message: got["group", message["from"]].append(message["n"]))
    await layer.group_add("g", member)

    async def read(way: str, name: str) -> None:
        while True:
            message = await layer.receive(name)
            got[way, message["from"]].append(message["n"])

    readers = [asyncio.create_task(read(way, name)) for way, name in (("jobs", "jobs"), ("local", local))]
    skews, count = ("-5", "0", "5"), 300
    with contextlib.ExitStack() as stack:
        for skew in skews:
            stack.enter_context(peer(server.url, layer.prefix, "writer", skew, str(count), "g", "jobs", local))
        await until(lambda: sum(map(len, got.values())) >= 3 * 3 * count)
    assert got == {(way, skew): list(range(count)) for way in ("jobs", "local", "group") for skew in skews}
    assert layer.statistics()["dropped"] == {}
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)


def test_no_code_of_the_layer_reads_a_wall_clock() -> None:
    wall = re.compile(r"\btime\.time(_ns)?\b|\bdatetime\b|from time import")
    layers = ROOT / "fastchannels" / "layers"
    sources = [*layers.rglob("*.py"), *(ROOT / "fastchannels" / "_core").glob("*.pyx")]
    assert len(sources) > 20
    # An encrypted message carries the time of its sender: one of another hour is taken for an old one played back.
    # And the server writes dates.
    assert {path.name for path in sources if wall.search(path.read_text())} <= {"crypto.py", "http1.pyx"}
