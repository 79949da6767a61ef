from __future__ import annotations

import selectors
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import waiting
from fastchannels.layers.redis.address import parse_host
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.waiting import Popped, Shard, pop_any

from ..redis_server import RedisServer
from ..waits import DEADLINE

ENTRY = b"\0\0\0\0\0\1payload"


@pytest.fixture(params=["BLMPOP", "BLPOP", "select"])
def shards(
    server: RedisServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Shard]]:
    """Databases of one server in the place of hosts, each with a key of its own."""
    if request.param == "BLPOP":
        monkeypatch.setattr(
            BlockingClient, "_multi", property(lambda self: False, lambda self, value: None), raising=False
        )
    elif request.param == "select":
        monkeypatch.setattr(waiting, "Selector", selectors.SelectSelector)
    outages = [Outage(parse_host(f"{server.url}/{db}"), DEADLINE) for db in (8, 9, 10)]
    shards = [(BlockingClient(outage), [f"q{n}"], BlockingClient(outage), "t") for n, outage in enumerate(outages)]
    for _, _, ending, _ in shards:
        ending.call("FLUSHDB")
    yield shards
    for client, _, ending, _ in shards:
        client.close()
        ending.close()


def keep_nothing(popped: Popped) -> None:
    raise AssertionError(popped)


def test_what_is_there_is_taken_one_at_a_time(shards: list[Shard]) -> None:
    for _, keys, ending, _ in shards:
        ending.call("RPUSH", *keys, ENTRY)
    taken = [pop_any(shards, timeout, keep_nothing) for timeout in (None, 0.0, 1.0)]
    assert [popped[0] for popped in taken if popped] == ["q0", "q1", "q2"]
    assert pop_any(shards, 0.0, keep_nothing) is None


def test_it_waits_for_its_time(shards: list[Shard]) -> None:
    begun = time.monotonic()
    assert pop_any(shards, 0.05, keep_nothing) is None
    assert 0.045 <= time.monotonic() - begun < 5


def test_entries_that_come_at_once_are_all_there(shards: list[Shard], server: RedisServer) -> None:
    """One is returned, what the others popped before they were ended is kept, and no pop stays behind."""
    for n in range(20):
        kept: list[Popped] = []

        def push(kept: list[Popped] = kept) -> None:
            for db, (_, keys, *_) in zip((8, 9, 10), shards, strict=True):
                with server.client(db=db) as redis:
                    redis.rpush(keys[0], ENTRY)

        thread = threading.Timer(0.01, push)
        thread.start()
        popped = pop_any([(*shard[:3], f"t{n}") for shard in shards], DEADLINE, kept.append)
        thread.join(DEADLINE)
        assert popped is not None
        left = sum(ending.call("LLEN", *keys) for _, keys, ending, _ in shards)
        assert 1 + len(kept) + left == 3
        for _, keys, ending, _ in shards:
            ending.call("DEL", *keys)


def test_pop_goes_on_when_one_connection_is_cut(shards: list[Shard], server: RedisServer) -> None:
    numbers = [client.call("CLIENT", "ID") for client, *_ in shards]

    def cut() -> None:
        ends = time.monotonic() + DEADLINE
        with server.client(db=10) as other:
            while time.monotonic() < ends:
                blocked = [row["id"] for row in other.client_list() if "b" in row["flags"]]
                if set(map(str, numbers)) <= set(blocked):
                    break
                time.sleep(0.005)
            other.client_kill_filter(_id=numbers[0])
            other.rpush("q2", ENTRY)

    thread = threading.Thread(target=cut)
    thread.start()
    popped = pop_any(shards, DEADLINE, keep_nothing)
    thread.join(DEADLINE)
    assert popped is not None
    assert popped[0] == "q2"


def test_a_host_that_is_away_does_not_hold_the_others_up(shards: list[Shard]) -> None:
    gone = Outage(parse_host(("127.0.0.1", 1)), 0.3)
    shards[0][2].call("RPUSH", "q0", ENTRY)
    both = [(BlockingClient(gone), ["q"], BlockingClient(gone), "t"), shards[0]]
    popped = pop_any(both, None, keep_nothing)
    assert popped is not None
    assert popped[0] == "q0"
    begun = time.monotonic()
    with pytest.raises(LayerUnavailable, match=r"127\.0\.0\.1:1"):
        pop_any(both, None, keep_nothing)
    assert time.monotonic() - begun < 5


def test_signal_ends_a_wait_and_its_pops(shards: list[Shard]) -> None:
    class Stop(Exception):
        pass

    def handler(number: int, frame: FrameType | None) -> None:
        raise Stop

    old = signal.signal(signal.SIGUSR1, handler)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Stop):
            pop_any(shards, None, keep_nothing)
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, old)
    for client, keys, ending, _ in shards:
        assert not client.connected
        # Redis 6.2 forgets a connection after the commands that arrive together with its end.
        ending.call("PING")
        ending.call("RPUSH", *keys, ENTRY)
        assert ending.call("LLEN", *keys) == 1
