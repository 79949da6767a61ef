from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.base import ChannelLayer
from fastchannels.layers.redis import RedisChannelLayer
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.outage import ReplyError

from ..redis_server import RedisServer
from ..waits import DEADLINE

MakeLayer = Callable[..., RedisChannelLayer]


@pytest.fixture
def make(server: RedisServer) -> Iterator[MakeLayer]:
    made: list[RedisChannelLayer] = []
    with server.client(db=6) as client:
        client.flushdb()

    def make(**options: object) -> RedisChannelLayer:
        layer = RedisChannelLayer(**{"hosts": [f"{server.url}/6"], **options})
        made.append(layer)
        return layer

    yield make
    for layer in made:
        layer.close_sync()


def commands(server: RedisServer) -> int:
    """Commands and script calls that Redis got from others, until now."""
    with server.client(db=6) as client:
        stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "blmpop", "blpop", "lmpop"))


def items(layer: ChannelLayer, *messages: tuple[str, dict[str, object]]) -> list[tuple[str, bytes]]:
    return [(channel, layer.codec.encode(message)) for channel, message in messages]


def test_one_write_sends_and_takes_a_batch(make: MakeLayer, server: RedisServer) -> None:
    layer, other = make(), make()
    for number in range(10):
        layer.send_sync("jobs", {"n": number})
    name = f"websocket.send.{other.client_id}!"
    # The connection is open, and the script known.
    layer.take_turn(["none"], 1, 0.01, items(layer, (f"{name}first", {})))
    before = commands(server)
    outgoing = items(layer, *[(f"{name}{number}", {"n": number}) for number in range(20)])
    taken = layer.take_turn(["jobs", "none"], 8, 1.0, outgoing)
    if layer._client()._multi:
        assert [message["n"] for _, message in taken] == list(range(8))
        assert commands(server) - before == 2
    assert outgoing == []
    assert {channel for channel, _ in taken} == {"jobs"}


def test_a_turn_waits_for_its_time_and_no_longer(make: MakeLayer) -> None:
    layer = make()
    begun = time.monotonic()
    assert layer.take_turn(["jobs"], 8, 0.05, []) == []
    assert 0.045 <= time.monotonic() - begun < 5
    timer = threading.Timer(0.05, lambda: layer.send_sync("jobs", {"n": 1}))
    timer.start()
    assert layer.take_turn(["jobs"], 8, DEADLINE, []) == [("jobs", {"n": 1})]
    timer.join()


def test_what_finds_no_room_stays_in_its_order(make: MakeLayer) -> None:
    layer = make(channel_capacity={"full": 2})
    outgoing = items(layer, *[(channel, {"n": n}) for n in range(5) for channel in ("full", "wide")])
    assert layer.take_turn([], 0, 0.0, outgoing) == []
    assert outgoing == items(layer, *[("full", {"n": n}) for n in (2, 3, 4)])
    assert [message["n"] for _, message in layer.take_turn(["full"], 5, 1.0, [])] in ([0, 1], [0])
    assert layer.take_turn([], 0, 0.0, outgoing) == []
    assert len(outgoing) in (1, 2)


def test_its_own_channels_and_other_shards_are_reached_too(make: MakeLayer, server: RedisServer) -> None:
    layer = make(hosts=[f"{server.url}/6", f"{server.url}/5"])
    names = [f"jobs.{number}" for number in range(20)]
    outgoing = items(layer, *[(name, {"name": name}) for name in names])
    assert layer.take_turn([names[0]], 5, DEADLINE, outgoing) == [(names[0], {"name": names[0]})]
    assert outgoing == []
    found = {}
    for _ in names[1:]:
        # Of several shards one message at a time is taken.
        [(channel, message)] = layer.take_turn(names, 5, DEADLINE, [])
        found[channel] = message["name"]
    assert found == {name: name for name in names[1:]}


def test_a_script_that_redis_forgot_is_loaded(make: MakeLayer, server: RedisServer) -> None:
    layer = make()
    with server.client(db=6) as client:
        client.script_flush()
    outgoing = items(layer, ("replies", {"n": 1}))
    layer.take_turn(["jobs"], 1, 0.01, outgoing)
    assert outgoing == []
    assert layer.receive_many(["replies"]) == ("replies", {"n": 1})


def test_a_redis_that_refuses_has_the_messages_dropped_with_a_word(
    make: MakeLayer, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make()
    with server.client(db=6) as client:
        client.set(layer._keys("replies").queue("replies"), "no list")
    outgoing = items(layer, ("replies", {"n": 1}), ("jobs", {"n": 2}))
    assert layer.take_turn(["jobs"], 1, DEADLINE, outgoing) == [("jobs", {"n": 2})]
    assert outgoing == []
    assert "1 messages were dropped: Redis at" in caplog.text


def test_what_found_no_room_keeps_its_order(make: MakeLayer) -> None:
    layer = make(channel_capacity={"full": 2})
    layer.send_sync("full", {"n": -1})
    outgoing = items(layer, *[("full", {"n": n}) for n in range(5)])
    layer.take_turn(["jobs"], 0, 0.01, outgoing)
    assert outgoing == items(layer, *[("full", {"n": n}) for n in range(1, 5)])


def test_what_did_not_run_is_kept(make: MakeLayer, server: RedisServer) -> None:
    layer = make()
    outgoing = items(layer, ("replies", {"n": 1}), ("replies", {"n": 2}))
    assert layer.take_turn(["jobs"], 1, 0.01, []) == []
    client = layer._client()
    ask_all = client.ask_all
    client.ask_all = lambda calls: [ReplyError("MOVED 1 there:1")] * len(calls)  # type: ignore[method-assign]
    assert layer.take_turn(["jobs"], 0, 0.01, outgoing) == []
    assert len(outgoing) == 2
    assert not client.connected, "another may be the place for it"
    client.ask_all = ask_all  # type: ignore[method-assign]
    assert layer.take_turn(["replies"], 1, DEADLINE, outgoing) == [("replies", {"n": 1})]
    assert layer.receive_many(["replies"]) == ("replies", {"n": 2})


def test_what_was_not_written_is_kept(make: MakeLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make()
    outgoing = items(layer, ("replies", {"n": 1}))
    with monkeypatch.context() as patch:
        patch.setattr(BlockingClient, "_connect", lambda self, ends: False)
        assert layer.take_turn(["jobs"], 1, 0.01, outgoing) == []
        assert len(outgoing) == 1

        def refuse(self: BlockingClient, ends: float | None) -> bool:
            raise LayerUnavailable("away")

        patch.setattr(BlockingClient, "_connect", refuse)
        with pytest.raises(LayerUnavailable):
            layer.take_turn(["jobs"], 1, 0.01, outgoing)
        assert len(outgoing) == 1
    assert layer.take_turn(["replies"], 1, DEADLINE, outgoing) == [("replies", {"n": 1})]


def test_a_connection_that_is_lost_in_the_wait_has_sent_what_was_answered(
    make: MakeLayer, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make()
    taken: list[object] = []
    outgoing = items(layer, ("replies", {"n": 1}))

    def turn() -> None:
        taken.extend(layer.take_turn(["jobs"], 1, DEADLINE, outgoing))

    thread = threading.Thread(target=turn)
    thread.start()
    with server.client(db=6) as client:

        def blocked() -> list[str]:
            return [row["id"] for row in client.client_list() if "b" in row["flags"] and row["db"] == "6"]

        ends = time.monotonic() + DEADLINE
        while not blocked():
            assert time.monotonic() < ends, "the pop waits"
        for number in blocked():
            client.client_kill_filter(_id=number)
    layer.send_sync("jobs", {"n": 2})
    thread.join(DEADLINE)
    assert taken == [("jobs", {"n": 2})]
    assert outgoing == []
    assert "dropped" not in caplog.text
    assert layer.receive_many(["replies"]) == ("replies", {"n": 1})


def test_what_expired_is_not_taken(make: MakeLayer) -> None:
    layer = make(expiry=0.1)
    layer.send_sync("jobs", {"n": 1})
    time.sleep(0.15)
    layer.send_sync("jobs", {"n": 2})
    taken = layer.take_turn(["jobs"], 8, DEADLINE, []) or layer.take_turn(["jobs"], 8, DEADLINE, [])
    assert taken == [("jobs", {"n": 2})]
