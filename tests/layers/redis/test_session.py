from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import Any

import pytest

from fastchannels.layers.redis.popline import ListLine
from fastchannels.layers.redis.session import Sessions

from ..redis_server import RedisServer
from ..waits import DEADLINE, HELLO, in_thread, soon, until
from .endings import run_many


async def test_sharing_one_process_among_loops_and_threads(make_layer: Any) -> None:
    """The inbox is read on one loop; when that ends, another takes over."""
    layer = make_layer()
    name = await soon(asyncio.to_thread(lambda: asyncio.run(layer.new_channel())))
    assert layer._reader is None
    here = asyncio.create_task(layer.receive(name))
    await until(lambda: layer._reader is not None)

    async def there() -> dict[str, Any]:
        own = await layer.new_channel()
        await layer.send(own, HELLO)
        await layer.send(name, {"to": "here"})
        message: dict[str, Any] = await soon(layer.receive(own))
        return message

    assert await soon(asyncio.to_thread(lambda: asyncio.run(there()))) == HELLO
    assert await soon(here) == {"to": "here"}


async def test_reader_moves_to_a_loop_that_lives(make_layer: Any) -> None:
    layer = make_layer()
    name = await layer.new_channel()
    started = threading.Event()

    async def there() -> Any:
        task = asyncio.create_task(layer.receive(name))
        await asyncio.sleep(0)
        started.set()
        return await soon(task)

    received = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(there())))
    await asyncio.to_thread(started.wait, DEADLINE)
    await layer.close()
    await asyncio.to_thread(layer.send_sync, name, HELLO)
    assert await soon(received) == HELLO


def test_a_loop_that_ends_before_it_took_over_passes_it_on() -> None:
    class Loop:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def call_soon_threadsafe(self, call: Any, *arguments: Any) -> None:
            self.calls.append(lambda: call(*arguments))

    first, second = Loop(), Loop()
    sessions: Any = Sessions({first: None, second: None})  # type: ignore[dict-item]
    asked: list[bool] = []
    sessions.ask_one(lambda: asked.append(True))
    del sessions[first]
    for call in first.calls + second.calls:
        call()
    assert asked == []
    for call in second.calls:
        call()
    assert asked == [True]


def test_fifty_runs_leave_no_client_behind(server: RedisServer, make_layer: Any) -> None:
    layer = make_layer()

    async def use() -> None:
        name = await layer.new_channel()
        waiting = [asyncio.create_task(layer.receive(channel)) for channel in (name, "a", "b")]
        await layer.send(name, HELLO)
        assert await soon(waiting[0]) == HELLO

    with server.client() as redis:
        before = len(redis.client_list())
        in_thread(lambda: [asyncio.run(use()) for _ in range(50)])
        ends = time.monotonic() + DEADLINE
        while len(redis.client_list()) > before and time.monotonic() < ends:
            time.sleep(0.01)
        assert len(redis.client_list()) <= before


def test_two_hundred_loops_that_end_at_any_step_leave_nothing_behind(
    server: RedisServer, make_layer: Any, view_of: Any
) -> None:
    with server.client() as redis:
        before = len(redis.client_list())
        assert run_many(make_layer, view_of, 200) == (0, [])
        ends = time.monotonic() + DEADLINE
        while len(redis.client_list()) > before and time.monotonic() < ends:
            time.sleep(0.01)
        assert len(redis.client_list()) <= before


async def test_what_is_sent_as_the_layer_closes_ends(make_layer: Any) -> None:
    """It opens no connection that nobody would close."""
    layer = make_layer()
    await layer.send("jobs", HELLO)
    link = layer._session().seats[0].link
    late = asyncio.ensure_future(layer.send("jobs", HELLO))
    await asyncio.sleep(0)
    link.close()
    with pytest.raises(ConnectionError, match="closed"):
        await soon(late)
    asked = link.call("PING")
    with pytest.raises(ConnectionError, match="closed"):
        await soon(asked)
    assert link.attempt is None
    await layer.close()


async def test_close_asks_for_no_more_messages(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers that stay until the end do not have the pop asked once more: what it took would be lost."""
    layer = make_layer()
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("jobs", await layer.new_channel())]
    await until(lambda: layer._session().seats[0].channels._line.blocked and layer._reader._line.blocked)
    asked: list[Any] = []
    monkeypatch.setattr(ListLine, "pop", lambda line, *pop: asked.append(pop))
    await layer.close()
    assert asked == []
    for task in waiting:
        with pytest.raises(ConnectionError, match="closed"):
            await soon(task)


async def test_close_loses_no_message(make_layer: Any, view_of: Any) -> None:
    """A pop that blocks is ended in order: what it takes on its way out is there after the close."""
    layer = make_layer()
    other = view_of(layer)
    name = await layer.new_channel()
    for n in range(5):
        waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("jobs", name)]
        await until(lambda: layer._session().seats[0].channels._line.blocked and layer._reader._line.blocked)
        for task in waiting:
            task.cancel()
        # The loop stands still: Redis pops both for this process, which has not read them when it closes.
        other.send_sync("jobs", {"n": n})
        other.send_sync(name, {"n": n})
        await layer.close()
        assert await other.pending("jobs") == 0
        for channel in ("jobs", name):
            assert await soon(layer.receive(channel)) == {"n": n}
    other.close_sync()


async def test_receives_end_when_the_layer_is_closed(make_layer: Any) -> None:
    layer = make_layer()
    waiting = [asyncio.create_task(layer.receive(channel)) for channel in ("jobs", await layer.new_channel())]
    await layer.pending("jobs")
    await layer.close()
    for task in waiting:
        with pytest.raises(ConnectionError, match="closed"):
            await soon(task)


def test_loop_that_is_closed_without_ceremony_is_dropped(server: RedisServer, make_layer: Any) -> None:
    """Nobody finished its asynchronous generators, so the next loop closes the sockets."""
    layer = make_layer()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(layer.send("jobs", HELLO))
    connection = layer._sessions[loop].seats[0].link.connection
    assert connection is not None
    loop.close()
    assert asyncio.run(layer.receive("jobs")) == HELLO
    assert loop not in layer._sessions
    assert connection._sock.fileno() == -1
    del connection, loop
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
