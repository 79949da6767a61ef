from __future__ import annotations

import logging
from typing import Any

import pytest

from fastchannels.layers.redis import RedisChannelLayer, wire

from ..waits import HELLO


@pytest.fixture
def layer() -> RedisChannelLayer:
    """Without a connection: what is tested here needs none."""
    return RedisChannelLayer()


def dispatch(layer: RedisChannelLayer, entries: list[bytes], now: int) -> None:
    layer._intakes[0].hand_on(entries, now)


def entry(layer: RedisChannelLayer, stamp: int, kind: int, name: str) -> bytes:
    return stamp.to_bytes(6, "big") + wire.body(kind, name, layer.serialize(HELLO))


def test_bad_entry_does_not_stop_the_next(layer: RedisChannelLayer, caplog: pytest.LogCaptureFixture) -> None:
    name = layer.new_local_channel("specific")
    bad = [b"", b"junk", wire.note(wire.ADD, name, b"nonsense"), wire.note(wire.DISCARD, name, b"\xff")]
    dispatch(layer, [*bad, entry(layer, 1000, wire.MESSAGE, name)], 1000)
    assert layer.inbox.unread(name) == 1
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == len(bad)


def test_age_is_judged_at_delivery(layer: RedisChannelLayer) -> None:
    name = layer.new_local_channel("specific")
    layer.groups.add("g", name)
    now = 1_000_000
    for kind, target in ((wire.MESSAGE, name), (wire.OWN, name), (wire.GROUP, "g")):
        dispatch(layer, [entry(layer, now - 60_000, kind, target)], now)
        dispatch(layer, [entry(layer, now - 59_000, kind, target)], now)
    assert layer.inbox.unread(name) == 3
    assert layer.statistics()["dropped"] == {"expired": 3}


def test_accepted_messages_may_overshoot_and_group_messages_may_not() -> None:
    layer = RedisChannelLayer(capacity=2)
    name = layer.new_local_channel("specific")
    layer.groups.add("g", name)
    dispatch(layer, [entry(layer, 1, wire.MESSAGE, name)] * 3 + [entry(layer, 1, wire.GROUP, "g")], 1)
    assert layer.inbox.unread(name) == 3
    assert layer._full == {name}
    assert layer.statistics()["dropped"]["group_full"] == 1


async def test_nothing_is_kept_for_channels_that_came_and_went(make_layer: Any) -> None:
    layer = make_layer()
    for _ in range(20):
        name = await layer.new_channel()
        layer.attach(name, lambda message: None)
        await layer.group_add("g", name)
        await layer.send(name, HELLO)
        await layer.group_discard("g", name)
        await layer.group_add("g", name)
        layer.detach(name)
    await layer.flush()
    assert not any((layer._flying, layer._announced, layer._vacant, layer._full, *layer._fences, layer.inbox.waiters()))
