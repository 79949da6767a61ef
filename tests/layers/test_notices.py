"""Who is told that the store was lost and is back, and how often (D-44)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastchannels.exceptions import InvalidChannelLayerError
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.layers.notices import BUSY

from .waits import HELLO, soon

LOST, BACK = {"type": "redis.lost"}, {"type": "redis.back"}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(**options: Any) -> InMemoryChannelLayer:
    clock = Clock()
    kind = type("Clocked", (InMemoryChannelLayer,), {"clock": staticmethod(clock), "now": clock})
    return kind(**{"on_disconnect": "redis.lost", "on_reconnect": "redis.back", **options})  # type: ignore[no-any-return]


async def test_each_local_name_that_is_read_is_told_once() -> None:
    layer = make(capacity=1)
    waiting, unread = await layer.new_channel(), await layer.new_channel()
    attached, full = layer.new_local_channel("x"), layer.new_local_channel("x")
    got: list[dict[str, Any]] = []
    layer.attach(attached, got.append)
    layer.attach(full, got.append)
    layer.pause(full)
    await layer.send(full, HELLO)
    await layer.send(unread, HELLO)
    reads = [asyncio.create_task(layer.receive(name)) for name in (waiting, "jobs")]
    await asyncio.sleep(0)
    for _ in range(3):
        layer.store_lost()
    assert await soon(reads[0]) == LOST
    assert got == [LOST]
    for _ in range(3):
        layer.store_back()
    assert await soon(layer.receive(waiting)) == BACK
    # A notice comes behind what waits, also on a full channel.
    layer.resume(full)
    assert got == [LOST, BACK, HELLO, LOST, BACK]
    assert layer.inbox.unread(unread) == 1
    assert not reads[1].done()
    layer.store_lost()
    assert await soon(layer.receive(waiting)) == LOST
    await layer.send("jobs", HELLO)
    assert await soon(reads[1]) == HELLO


async def test_a_reader_that_is_busy_with_a_message_is_told() -> None:
    layer = make()
    busy, gone, cancelled = [await layer.new_channel() for _ in range(3)]
    for name in (busy, gone, cancelled):
        await layer.send(name, HELLO)
        assert await soon(layer.receive(name)) == HELLO
    task = asyncio.create_task(layer.receive(cancelled))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    layer.detach(gone)
    layer.store_lost()
    assert layer.inbox.held("specific") == [busy]
    assert await soon(layer.receive(busy)) == LOST
    assert layer.notices is not None
    layer.now.now += BUSY  # type: ignore[attr-defined]
    layer.store_back()
    assert layer.inbox.held("specific") == []
    assert layer.notices._busy == {}


async def test_several_parts_are_one_store() -> None:
    layer = make()
    name = layer.new_local_channel("x")
    got: list[dict[str, Any]] = []
    layer.attach(name, got.append)
    layer.store_back(1)
    for part in (1, 2):
        layer.store_lost(part)
    assert got == [LOST]
    layer.store_back(1)
    assert got == [LOST]
    layer.store_back(2)
    assert got == [LOST, BACK]


async def test_one_option_alone() -> None:
    for option, told in (("on_disconnect", LOST), ("on_reconnect", BACK)):
        layer = make(**{"on_disconnect": None, "on_reconnect": None, option: told["type"]})
        got: list[dict[str, Any]] = []
        layer.attach(layer.new_local_channel("x"), got.append)
        layer.store_lost()
        layer.store_back()
        assert got == [told]
    silent = InMemoryChannelLayer()
    silent.attach(silent.new_local_channel("x"), got.append)
    silent.store_lost()
    silent.store_back()
    assert silent.notices is None
    assert got == [told]


@pytest.mark.parametrize("value", ["", 7, b"redis.lost", ["redis.lost"]])
def test_a_notice_is_the_type_of_a_message(value: Any) -> None:
    for option in ("on_disconnect", "on_reconnect"):
        with pytest.raises(InvalidChannelLayerError, match=f"CONFIG option {option}="):
            InMemoryChannelLayer(**{option: value})
