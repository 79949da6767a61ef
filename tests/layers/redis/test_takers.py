"""Who waits for a message of which ordinary channel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.takers import Takers

END = 10.0  # the deadline of every payload here


class Bench:
    """Takers, with what they kept and how often they changed."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, bytes, float, bool]] = []
        self.changes = 0
        self.takers = Takers(asyncio.get_running_loop(), self.change, lambda *taken: self.kept.append(taken))

    def change(self) -> None:
        self.changes += 1

    async def waiting(self, name: str) -> asyncio.Task[bytes]:
        """A task that waits for ``name`` by now."""
        task = asyncio.create_task(self.takers.take(name))
        await asyncio.sleep(0)
        return task


async def soon(what: Any) -> Any:
    return await asyncio.wait_for(what, 5)


async def test_those_of_one_name_are_served_in_turn():
    bench = Bench()
    first, second = await bench.waiting("a"), await bench.waiting("a")
    assert (bench.takers.counts(), bench.changes) == ({"a": 2}, 2)
    bench.takers.give("a", b"1", END)
    bench.takers.give("a", b"2", END)
    assert (await soon(first), await soon(second)) == (b"1", b"2")
    assert "a" not in bench.takers
    bench.takers.give("a", b"3", END)
    assert bench.kept == [("a", b"3", END, False)]


async def test_a_cancelled_taker_hands_on_what_it_was_given():
    bench = Bench()
    first, second = await bench.waiting("a"), await bench.waiting("a")
    bench.takers.give("a", b"1", END)
    first.cancel()
    assert await soon(second) == b"1"
    alone = await bench.waiting("a")
    bench.takers.give("a", b"2", END)
    alone.cancel()
    await soon(asyncio.gather(alone, return_exceptions=True))
    assert bench.kept == [("a", b"2", END, True)]


async def test_cancelling_before_anything_came_leaves_nothing():
    bench = Bench()
    task = await bench.waiting("a")
    task.cancel()
    await soon(asyncio.gather(task, return_exceptions=True))
    assert len(bench.takers) == 0
    assert bench.kept == []


async def test_kept_messages_are_offered_as_long_as_somebody_waits():
    bench = Bench()
    task = await bench.waiting("a")
    kept = [(b"1", END), (b"2", END)]
    bench.takers.offer("a", lambda name: kept.pop(0) if kept else None)
    assert await soon(task) == b"1"
    assert kept == [(b"2", END)]


async def test_a_served_name_goes_behind_the_others():
    bench = Bench()
    tasks = [await bench.waiting(name) for name in "abb"]
    assert list(bench.takers) == ["a", "b"]
    bench.takers.served("a")
    assert list(bench.takers) == ["b", "a"]
    bench.takers.served("nobody's")
    bench.takers.fail(LayerUnavailable("over"))
    for task in tasks:
        with pytest.raises(LayerUnavailable, match="over"):
            await soon(task)
    assert len(bench.takers) == 0
