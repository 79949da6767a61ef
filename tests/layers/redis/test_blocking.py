from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import scripts
from fastchannels.layers.redis.address import parse_host
from fastchannels.layers.redis.blocking import BlockingClient
from fastchannels.layers.redis.outage import Outage

from ..redis_server import RedisServer
from ..waits import DEADLINE

ENTRY = b"\0\0\0\0\0\1payload"


@pytest.fixture
def client(server: RedisServer) -> Iterator[BlockingClient]:
    client = BlockingClient(Outage(parse_host(f"{server.url}/7"), DEADLINE))
    client.call("FLUSHDB")
    yield client
    client.close()


def test_commands(client: BlockingClient) -> None:
    assert client.call("RPUSH", "q", b"\x00") == 1
    with pytest.raises(LayerUnavailable, match="WRONGTYPE"):
        client.call("GET", "q")
    with pytest.raises(LayerUnavailable, match="WRONGTYPE"):
        client.run(scripts.JOIN_CHANNEL, ("q",), "c", 1000, 1)
    assert client.call("LLEN", "q") == 1


def test_unknown_script_is_loaded(client: BlockingClient) -> None:
    client.call("SCRIPT", "FLUSH")
    for _ in range(2):
        assert client.run(scripts.QUEUE_SEND, ("q",), 60_000, 5, b"x") == b"0"
    assert client.call("LLEN", "q") == 2


@pytest.mark.parametrize("multi", [True, False])
def test_pop_takes_one_of_each_key_in_turn(client: BlockingClient, multi: bool) -> None:
    client.call("PING")
    if multi and not client._multi:
        pytest.skip("this Redis is older than 7")
    client._multi = multi
    for key in ("a", "b"):
        client.call("RPUSH", key, *[ENTRY] * 4)
    for timeout in (None, 0.0, 1.0, 0.0001):
        popped = [client.pop(["a", "b"], timeout) for _ in range(2)]
        assert sorted(taken[0] for taken in popped if taken) == ["a", "b"]
    key, stamp, payload, now = client.pop(["a"], None) if client.call("RPUSH", "a", ENTRY) else ("", 0, b"", 0)
    assert (key, stamp, payload) == ("a", 1, b"payload")
    assert abs(now / 1000 - time.time()) < 5
    assert client.pop(["a", "b"], 0.0) is None
    begun = time.monotonic()
    assert client.pop(["a", "b"], 0.05) is None
    assert time.monotonic() - begun >= 0.045


def test_connection_that_redis_closed_meanwhile_is_replaced(server: RedisServer, client: BlockingClient) -> None:
    with server.client() as other:
        other.client_kill_filter(_id=client.call("CLIENT", "ID"))
    assert client.call("PING") == b"PONG"


def test_a_connection_that_was_cut_is_closed_before_the_next_is_opened(client: BlockingClient) -> None:
    client.call("PING")
    before = client._sock
    assert before is not None
    client.cut(OSError("the master is another now"))
    assert client.reach()
    assert client._sock is not before
    assert before.fileno() == -1


def test_pop_goes_on_over_a_lost_connection(server: RedisServer, client: BlockingClient) -> None:
    number = client.call("CLIENT", "ID")

    def cut() -> None:
        ends = time.monotonic() + DEADLINE
        with server.client(db=7) as other:
            while time.monotonic() < ends:
                if any(row["id"] == str(number) and "b" in row["flags"] for row in other.client_list()):
                    break
                time.sleep(0.005)
            other.client_kill_filter(_id=number)
            other.rpush("q", ENTRY)

    thread = threading.Thread(target=cut)
    thread.start()
    popped = client.pop(["q"], DEADLINE)
    thread.join(DEADLINE)
    assert popped is not None
    assert popped[2] == b"payload"


def test_signal_interrupts_a_pop_without_end(client: BlockingClient) -> None:
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
            client.pop(["q"], None)
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR1, old)
    # The reply of the pop is not taken for another's.
    assert client.call("ECHO", "x") == b"x"


def test_a_pop_lets_other_threads_run(client: BlockingClient) -> None:
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=count)
    thread.start()
    client.pop(["q"], 0.2)
    done.set()
    thread.join(DEADLINE)
    assert ticks > 10
