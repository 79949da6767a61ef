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


def send_to_inbox(client: redis.Redis, names: list[str], capacity: int, expiry: int = 60_000) -> Any:
    messages = b"".join(wire.message(wire.MESSAGE, name, b"p") for name in names)
    return run(client, scripts.INBOX_SEND, ["i", "f", "c"], expiry, capacity, 90_000, len(names), messages)


def taken_apart(entry: bytes) -> tuple[int, list[tuple[int, str, bytes]]]:
    """How many messages went before those of a batch, and they themselves."""
    assert entry[6:8] == b"b\0"
    messages, at = [], 14
    while at < len(entry):
        size = int.from_bytes(entry[at : at + 4], "big")
        messages.append(wire.parse(bytes(6) + entry[at + 4 : at + 4 + size])[1:])
        at += 4 + size
    return int.from_bytes(entry[8:14], "big"), messages


def test_inbox_send_tells_full_channel_from_full_inbox(client: redis.Redis) -> None:
    client.sadd("f", "full!x")
    assert send_to_inbox(client, ["a!x", "full!x", "b!x", "c!x"], 2) == b"0201"
    (entry,) = client.lrange("i", 0, -1)
    assert taken_apart(entry) == (0, [(wire.MESSAGE, "a!x", b"p"), (wire.MESSAGE, "b!x", b"p")])
    assert 80_000 < client.pttl("i") <= 90_000
    assert client.pttl("c") > 86_000_000, "a day"
    assert send_to_inbox(client, ["a!x"], 2) == b"1"
    assert client.get("c") == b"2"


def test_messages_of_an_inbox_are_counted_through_its_batches(client: redis.Redis) -> None:
    note = wire.note(wire.FENCE)
    sent = 0
    for count in (3, 1, 5):
        client.rpush("i", note)
        assert send_to_inbox(client, ["a!x"] * count, 10) == b"0" * count
        assert taken_apart(client.lindex("i", -1))[0] == sent
        sent += count
    assert send_to_inbox(client, ["a!x"] * 2, 10) == b"01"
    assert send_to_inbox(client, ["a!x"], 10) == b"1"
    # What was read makes room, also when a note is what comes next.
    client.lpop("i", 2)
    assert client.lindex("i", 0) == note
    assert send_to_inbox(client, ["a!x"] * 9, 10) == b"0" * 3 + b"1" * 6
    client.lpop("i", 5)
    assert send_to_inbox(client, ["a!x"] * 9, 10) == b"0" * 7 + b"1" * 2
    # An inbox without messages is empty, whatever was counted; and a counter that is lost lets no more in than lists.
    client.delete("i")
    client.rpush("i", note)
    assert send_to_inbox(client, ["a!x"] * 11, 10) == b"0" * 10 + b"1"
    client.delete("c")
    assert send_to_inbox(client, ["a!x"] * 10, 10) == b"0" * 9 + b"1"


def test_notes_are_never_trimmed(client: redis.Redis) -> None:
    old = int(time.time() * 1000 - 10_000).to_bytes(6, "big") + b"b\0" + bytes(6)
    client.set("c", 2)
    note = wire.note(wire.ADD, "a!x", b"g 1")
    message = wire.message(wire.MESSAGE, "a", b"old")
    client.rpush("i", old + message, note, old[:-1] + b"\1" + message)
    assert send_to_inbox(client, ["a"], 2, 5_000) == b"0"
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
    body = wire.message(wire.GROUP, "g", b"payload")
    head = len(body) - len(b"payload")
    assert run(
        client, scripts.GROUP_SEND, [keys.group("g")], keys.base, body, head, 60_000, 5_000, 100, 90_000
    ) == [1, 3, 1]  # fmt: skip
    assert client.hkeys(keys.group("g")) == [b"alive", b"=jobs", b"=full"]
    (entry,) = client.lrange(keys.inbox("alive"), 0, -1)
    assert taken_apart(entry) == (0, [(wire.GROUP, "g", b"payload")])
    assert client.get(keys.counter("alive")) == b"1"
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


def test_tally_comes_behind_what_was_put_in(client: redis.Redis) -> None:
    head = wire.note(wire.TALLY)
    for count in (0, 3):
        send_to_inbox(client, ["a!x"] * count, 10)
        assert run(client, scripts.TALLY, ["i", "c"], head, 90_000) == 1
        assert wire.parse(client.lrange("i", -1, -1)[0]) == (0, wire.TALLY, "", b"%d" % count)
        assert 80_000 < client.pttl("i") <= 90_000
