"""Who waits for room in a channel, in what order, and what becomes of those who leave."""

from __future__ import annotations

import asyncio

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.memory import InMemoryChannelLayer
from fastchannels.server import lane as lane_module
from fastchannels.server.lane import Lane
from tests.server.support import DEADLINE, until

FOREVER = float("inf")


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Room(InMemoryChannelLayer):
    """Counts how often it is asked."""

    def __init__(self, capacity=1):
        super().__init__(channel_capacity={"jobs": capacity})
        self.asked = 0

    async def send(self, channel, message, **options):
        self.asked += 1
        await super().send(channel, message, **options)


def yes():
    return True


def lane_of(layer, clock=None):
    return Lane(layer, "jobs", clock or Clock())


def start(lane, number, wanted=yes, until=FOREVER):
    return asyncio.ensure_future(lane.send({"number": number}, until, wanted))


async def numbers(layer, count):
    return [(await asyncio.wait_for(layer.receive("jobs"), DEADLINE))["number"] for _ in range(count)]


async def test_there_is_room():
    layer = Room(3)
    lane = lane_of(layer)
    assert await asyncio.wait_for(asyncio.gather(*(start(lane, i) for i in range(3))), DEADLINE) == [True] * 3
    assert (lane.waiting, lane.waited, layer.asked) == (0, 0, 3)
    assert await numbers(layer, 3) == [0, 1, 2]


async def test_first_come_first_served(caplog):
    caplog.set_level("INFO")
    layer = Room(2)
    lane = lane_of(layer)
    sending = [start(lane, i) for i in range(200)]
    await until(lambda: lane.waiting == 198, "the line")
    assert await numbers(layer, 200) == list(range(200))
    assert await asyncio.wait_for(asyncio.gather(*sending), DEADLINE) == [True] * 200
    assert (lane.waiting, lane.waited) == (0, 198)
    assert layer.asked < 600, "only the first in line asks, and of those behind it each once more at most"
    (record,) = caplog.records
    for told in ("'jobs'", "capacity of 2", "channel_capacity"):
        assert told in record.message


async def test_a_newcomer_goes_to_the_end_of_the_line():
    layer = Room()
    lane = lane_of(layer)
    sending = [start(lane, 0), start(lane, 1)]
    await until(lambda: lane.waiting == 1, "the line")
    assert await numbers(layer, 1) == [0]
    sending.append(start(lane, 2))
    assert await numbers(layer, 2) == [1, 2]
    await asyncio.wait_for(asyncio.gather(*sending), DEADLINE)


async def test_full_for_too_long():
    layer, clock = Room(), Clock()
    lane = lane_of(layer, clock)
    await start(lane, 0)
    sending = [start(lane, i, until=clock.now + i) for i in (1, 2, 3)]
    await until(lambda: lane.waiting == 3, "the line")
    clock.now += 2.5
    for full in sending[:2]:
        with pytest.raises(layer.ChannelFull, match="channel_capacity"):
            await asyncio.wait_for(full, DEADLINE)
    assert await numbers(layer, 2) == [0, 3]
    assert await sending[2]
    assert lane.waiting == 0


async def test_no_time_to_wait():
    layer, clock = Room(), Clock()
    lane = lane_of(layer, clock)
    await start(lane, 0)
    with pytest.raises(layer.ChannelFull):
        await asyncio.wait_for(start(lane, 1, until=clock.now), DEADLINE)
    assert (lane.waiting, lane.waited, layer.asked) == (0, 0, 2)


@pytest.mark.parametrize("leaving", [[1], [2], [3], [1, 2], [2, 3], [1, 2, 3]])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_leaves_holds_nobody_up(leaving, cancelled):
    layer = Room()
    lane = lane_of(layer)
    gone = set()
    sending = {i: start(lane, i, lambda i=i: i not in gone) for i in range(5)}
    await until(lambda: lane.waiting == 4, "the line")
    gone.update(leaving)
    if cancelled:
        for i in leaving:
            sending[i].cancel()
        await until(lambda: lane.waiting == 4 - len(leaving), "those that stay")
    stay = [i for i in range(5) if i not in gone]
    assert await numbers(layer, len(stay)) == stay
    outcomes = await asyncio.wait_for(asyncio.gather(*sending.values(), return_exceptions=True), DEADLINE)
    if cancelled:
        assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes] == [i in gone for i in range(5)]
    else:
        assert outcomes == [i in stay for i in range(5)]
    assert lane.waiting == 0


async def test_cancelled_in_the_very_turn():
    """The turn was given to a task that is cancelled before it runs: the next one gets it."""
    layer = Room()
    lane = lane_of(layer)
    sending = [start(lane, i) for i in range(4)]
    await until(lambda: lane.waiting == 3, "the line")
    sending[1].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sending[2].cancel()
    assert await numbers(layer, 2) == [0, 3]
    await asyncio.wait_for(asyncio.wait(sending), DEADLINE)


async def test_another_error_is_for_its_sender_alone(monkeypatch):
    layer = Room()
    lane = lane_of(layer)
    sending = [start(lane, i) for i in range(3)]
    await until(lambda: lane.waiting == 2, "the line")
    whole = layer.send
    away = [True]

    async def send(channel, message):
        if away and message["number"] == 1:
            away.clear()
            raise LayerUnavailable("the store is away")
        await whole(channel, message)

    monkeypatch.setattr(layer, "send", send)
    assert await numbers(layer, 2) == [0, 2]
    with pytest.raises(LayerUnavailable):
        await asyncio.wait_for(sending[1], DEADLINE)


async def test_one_line_in_the_log_for_a_while(caplog):
    caplog.set_level("INFO")
    layer, clock = Room(), Clock()
    lane = lane_of(layer, clock)
    for number in range(3):
        sending = [start(lane, i) for i in range(2)]
        await until(lambda: lane.waiting == 1, "the line")
        await numbers(layer, 2)
        await asyncio.wait_for(asyncio.wait(sending), DEADLINE)
        clock.now += lane_module._LOG_INTERVAL if number else 1.0
    assert len(caplog.records) == 2
