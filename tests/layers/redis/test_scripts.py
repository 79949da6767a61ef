from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from fastchannels.layers.redis import scripts, wire
from fastchannels.layers.redis.keys import Keys

from ..redis_server import RedisServer


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client(db=5) as client:
        client.flushdb()
        yield client


def run(client: redis.Redis, script: scripts.Script, keys: list[str], *arguments: Any) -> Any:
    return client.eval(script.source, len(keys), *keys, *arguments)


def test_digest_is_what_redis_computes(client: redis.Redis) -> None:
    for script in scripts.ALL:
        assert client.script_load(script.source) == script.digest


def test_queue_send(client: redis.Redis) -> None:
    before = time.time() * 1000 - 5
    assert run(client, scripts.QUEUE_SEND, ["q"], 60_000, 2, b"one", b"\x00two", b"three") == b"001"
    entries = [wire.parse_queued(entry) for entry in client.lrange("q", 0, -1)]
    assert [payload for _, payload in entries] == [b"one", b"\x00two"]
    assert all(before <= stamp <= time.time() * 1000 + 5 for stamp, _ in entries)
    assert 60_000 < client.pttl("q") <= 61_000
    assert run(client, scripts.QUEUE_SEND, ["q"], 60_000, 2, b"four") == b"1"


def test_queue_send_drops_expired_heads_before_it_refuses(client: redis.Redis) -> None:
    old = int(time.time() * 1000 - 10_000).to_bytes(6, "big")
    client.rpush("q", old + b"a", old + b"b")
    assert run(client, scripts.QUEUE_SEND, ["q"], 5_000, 2, b"c", b"d", b"e") == b"001"
    assert [wire.parse_queued(entry)[1] for entry in client.lrange("q", 0, -1)] == [b"c", b"d"]


def test_inbox_send_tells_full_channel_from_full_inbox(client: redis.Redis) -> None:
    client.sadd("f", "full!x")
    bodies = [wire.body(wire.MESSAGE, name, b"p") for name in ("a!x", "full!x", "b!x", "c!x")]
    assert run(client, scripts.INBOX_SEND, ["i", "f"], 60_000, 2, 90_000, *bodies) == b"0201"
    assert [wire.parse(entry)[2] for entry in client.lrange("i", 0, -1)] == ["a!x", "b!x"]
    assert 80_000 < client.pttl("i") <= 90_000


def test_notes_are_never_trimmed(client: redis.Redis) -> None:
    old = int(time.time() * 1000 - 10_000).to_bytes(6, "big")
    note = wire.note(wire.ADD, "a!x", b"g 1")
    client.rpush("i", old + b"m\x01a1", note, old + b"m\x01a2")
    body = wire.body(wire.MESSAGE, "a", b"3")
    assert run(client, scripts.INBOX_SEND, ["i", "f"], 5_000, 3, 90_000, body) == b"0"
    assert client.lrange("i", 0, 0) == [note]
    assert client.llen("i") == 3


def test_group_send(client: redis.Redis) -> None:
    keys = Keys("p")
    now = int(time.time() * 1000)
    client.hset(keys.group("g"), mapping={
        "alive": 1, "dead": 1, "=jobs": f"{now} 1", "=full": f"{now} 1", "=stale": f"{now - 10_000} 1",
    })  # fmt: skip
    client.set(keys.lease("alive"), "heartbeat")
    client.rpush(keys.queue("full"), now.to_bytes(6, "big") + b"x")
    body = wire.body(wire.GROUP, "g", b"payload")
    head = len(body) - len(b"payload")
    assert run(
        client, scripts.GROUP_SEND, [keys.group("g")], keys.base, body, head, 60_000, 5_000, 100, 90_000
    ) == [1, 3, 1]  # fmt: skip
    assert client.hkeys(keys.group("g")) == [b"alive", b"=jobs", b"=full"]
    (entry,) = client.lrange(keys.inbox("alive"), 0, -1)
    assert wire.parse(entry)[1:] == (wire.GROUP, "g", b"payload")
    (entry,) = client.lrange(keys.queue("jobs"), 0, -1)
    assert wire.parse_queued(entry)[1] == b"payload"
    assert not client.exists(keys.inbox("dead"))


def test_join_and_leave(client: redis.Redis) -> None:
    first = int(run(client, scripts.ANNOUNCE, ["l", "g", "h"], "me", 60_000, 600))
    body = wire.body(wire.ADD, "a.me!x", b"group")
    second = int(run(client, scripts.JOIN_PROCESS, ["g", "l", "i"], "me", 60_000, 600, 90_000, body))
    assert second > first
    (note,) = client.lrange("i", 0, -1)
    assert wire.parse(note) == (0, wire.ADD, "a.me!x", b"group %d" % second)
    assert 0 < client.pttl("l") <= 600
    # Who has not seen the second add cannot undo it.
    assert run(client, scripts.LEAVE_PROCESS, ["g", "h"], "me", first, first) == 1
    assert client.hget("g", "me") == b"%d" % second
    assert not client.exists("h")
    assert run(client, scripts.LEAVE_PROCESS, ["g"], "me", second) == 1
    assert not client.exists("g")
    # The counter does not start again, nor go back with the clock.
    third = int(run(client, scripts.ANNOUNCE, ["l", "g"], "me", 60_000, 600))
    assert third > second
    client.hset("h", "me", third + 60_000_000)
    assert int(run(client, scripts.ANNOUNCE, ["l", "g", "h"], "me", 60_000, 600)) == third + 60_000_001
    assert client.hget("g", "me") == client.hget("h", "me")


def test_heartbeat_tells_a_new_lease(client: redis.Redis) -> None:
    assert run(client, scripts.HEARTBEAT, ["l"], 600) == 0
    assert run(client, scripts.HEARTBEAT, ["l"], 600) == 1
    client.delete("l")
    # The grace that an add gives to a process is no heartbeat.
    run(client, scripts.ANNOUNCE, ["l", "g"], "me", 60_000, 600)
    assert run(client, scripts.HEARTBEAT, ["l"], 600) == 0
