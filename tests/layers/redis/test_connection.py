from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any, cast

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import connection, scripts
from fastchannels.layers.redis.address import Address, parse_host
from fastchannels.layers.redis.connection import Link, connect, pack
from fastchannels.layers.redis.outage import Outage

from ..redis_server import RedisServer
from ..waits import DEADLINE, soon, until


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[Link]:
    link = Link(asyncio.get_running_loop(), Outage(parse_host(f"{server.url}/6"), DEADLINE))
    await soon(link.call("FLUSHDB"))
    yield link
    link.close()
    await asyncio.sleep(0)


def push(link: Link, key: str, body: bytes, limit: int = 10_000) -> asyncio.Future[int] | None:
    return link.push(scripts.QUEUE_SEND, (key,), (60_000, 10_000), body, key, limit)


async def bodies(link: Link, key: str) -> list[bytes]:
    return [entry[6:] for entry in await soon(link.call("LRANGE", key, 0, -1))]


def test_pack() -> None:
    assert pack("SET", "k", b"\x00", 5) == b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n\x00\r\n$1\r\n5\r\n"


async def test_commands_take_effect_in_the_order_given(link: Link) -> None:
    for n in range(3):
        push(link, "q", b"a%d" % n)
        push(link, "other", b"x")
        link.post("RPUSH", "q", b"......plain%d" % n)
        push(link, "q", b"b%d" % n)
    wanted = [body for n in range(3) for body in (b"a%d" % n, b"plain%d" % n, b"b%d" % n)]
    assert await bodies(link, "q") == wanted


async def test_one_tick_is_one_write(link: Link) -> None:
    assert link.connection is not None
    writes: list[bytes] = []
    write = link.connection.write
    link.connection.write = lambda data: (writes.append(data), write(data))[1]  # type: ignore[method-assign]
    futures = [push(link, f"q{n % 5}", b"x") for n in range(100)]
    assert [chr(code) for code in await soon(asyncio.gather(*filter(None, futures)))] == ["0"] * 100
    assert len(writes) == 1
    assert writes[0].count(b"EVALSHA") == 5


async def test_batches_are_bounded(server: RedisServer, monkeypatch: pytest.MonkeyPatch, link: Link) -> None:
    monkeypatch.setattr(connection, "BATCH_MESSAGES", 10)
    monkeypatch.setattr(connection, "BATCH_BYTES", 1000)
    bounded = Link(asyncio.get_running_loop(), Outage(parse_host(f"{server.url}/6"), DEADLINE))
    writes: list[bytes] = []
    sent = [b"%d" % n for n in range(25)] + [b"y" * 600] * 5
    await soon(bounded.call("PING"))
    assert bounded.connection is not None
    write = bounded.connection.write
    bounded.connection.write = lambda data: (writes.append(data), write(data))[1]  # type: ignore[method-assign]
    await soon(asyncio.gather(*filter(None, (push(bounded, "q", body) for body in sent))))
    assert await bodies(link, "q") == sent
    # 10, 10, 5 and two that pass 1000 bytes, two that do, each at once; and one at the end of the turn.
    assert [data.count(b"EVALSHA") for data in writes] == [1] * 5
    bounded.close()
    await asyncio.sleep(0)


async def test_limit_of_a_name_in_one_batch(link: Link) -> None:
    assert push(link, "q", b"1", limit=2) is not None
    assert push(link, "q", b"2", limit=2) is not None
    assert push(link, "q", b"3", limit=2) is None
    assert await bodies(link, "q") == [b"1", b"2"]


async def test_send_cancelled_before_it_is_written_is_not_sent(link: Link) -> None:
    first, second, alone = push(link, "q", b"1"), push(link, "q", b"2"), push(link, "r", b"3")
    assert first is not None
    assert second is not None
    assert alone is not None
    first.cancel()
    alone.cancel()
    assert await soon(second) == ord("0")
    assert await bodies(link, "q") == [b"2"]
    assert await bodies(link, "r") == []


async def test_what_is_written_at_once_keeps_its_place(link: Link) -> None:
    replies: list[object] = []
    assert link.stands
    push(link, "q", b"before")
    mark = link.write(replies.append, ("RPUSH", "q", "......now"), ("PEXPIRE", "q", 60_000))
    assert link.ends_with(mark)
    push(link, "q", b"after")
    assert not link.ends_with(mark)
    assert await bodies(link, "q") == [b"before", b"now", b"after"]
    assert replies == [2]
    mark = link.write(replies.append, ("RPUSH", "q", "......x"))
    await until(lambda: len(replies) == 2)
    assert not link.ends_with(mark)
    link.write(replies.append, ("BLPOP", "none", 0))
    link.close()
    assert isinstance(replies[2], LayerUnavailable)
    assert not link.stands


async def test_error_reply_reaches_its_caller_only(link: Link) -> None:
    await soon(link.call("SET", "text", "x"))
    wrong, right = link.call("LLEN", "text"), link.call("LLEN", "none")
    with pytest.raises(LayerUnavailable, match="WRONGTYPE"):
        await soon(wrong)
    assert await soon(right) == 0
    failed = push(link, "text", b"x")
    assert failed is not None
    with pytest.raises(LayerUnavailable, match="WRONGTYPE"):
        await soon(failed)


async def test_nothing_overtakes_a_script_that_redis_forgot(server: RedisServer, link: Link) -> None:
    """Also when another process loads it again while the first answers are on their way."""
    opened = link.connection
    assert opened is not None
    assert opened._transport is not None
    on_reply = opened.on_reply
    last: list[asyncio.Future[int] | None] = []

    def between(reply: object) -> None:
        on_reply(reply)
        if not last:
            with server.client() as other:
                for script in scripts.ALL:
                    other.script_load(script.source)
            last.append(push(link, "q", b"3"))
            link._flush()

    opened.on_reply = between
    with server.client() as other:
        other.script_flush()
    opened._transport.pause_reading()
    for body in (b"1", b"2"):
        push(link, "q", body)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert len(link._sent) == 2
    opened._transport.resume_reading()
    await until(lambda: bool(last))
    assert last[0] is not None
    await soon(last[0])
    assert await bodies(link, "q") == [b"1", b"2", b"3"]


async def test_bytes_that_are_not_resp_end_the_connection() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"HELLO")
        writer.write(b"+PONG\r\n-ERR unknown command 'HELLO'\r\n")
        await reader.readuntil(b"LLEN")
        writer.write(b"\x00nonsense\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as fake:
        address = parse_host(("127.0.0.1", fake.sockets[0].getsockname()[1]))
        opened, _ = await soon(connect(address, Outage(address, DEADLINE), []))
        lost: list[Exception] = []
        opened.on_lost = lost.append
        opened.write(pack("LLEN", "x"))
        await until(lambda: bool(lost))
        assert type(lost[0]).__name__ == "ProtocolBroken"


@pytest.mark.parametrize("number", [1, 2], ids=["the one that is asked", "the one that is told"])
async def test_nothing_stays_open_when_connecting_is_cancelled(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """In the very turn in which an answer came."""
    address = parse_host(server.url)
    opened: list[connection.Connection] = []
    made, check = connection.Connection.connection_made, connection.require_master

    class Asked:
        question = ("PING",)

        def find(self) -> Generator[Address, Any, Address]:
            yield address
            return address

    def on_made(line: connection.Connection, transport: asyncio.BaseTransport) -> None:
        opened.append(line)
        made(line, transport)

    def on_last_reply(reply: Any) -> None:
        check(reply)
        if len(opened) == number:
            asyncio.get_running_loop().call_soon(task.cancel)

    monkeypatch.setattr(connection.Connection, "connection_made", on_made)
    monkeypatch.setattr(connection, "require_master", on_last_reply)
    task = asyncio.ensure_future(connect(cast(Any, Asked()), Outage(address, DEADLINE), []))
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: all(each.lost for each in opened))
    assert len(opened) == number


async def test_close_fails_what_waits(link: Link) -> None:
    waiting = link.call("BLPOP", "nothing", 0)
    await asyncio.sleep(0)
    link.close()
    with pytest.raises(LayerUnavailable, match="closed"):
        await soon(waiting)
