from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.address import parse_host
from fastchannels.layers.redis.outage import Outage
from fastchannels.layers.redis.popline import ListLine

from ..redis_server import RedisServer
from ..waits import DEADLINE, until
from .proxy import DOWN, proxied


class Owner:
    """Writes down what the line tells."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[bytes], int]] = []
        self.lost = self.torn = 0
        self.errors: list[LayerUnavailable] = []

    def on_batch(self, key: str, entries: list[bytes], now: int) -> None:
        self.batches.append((key, entries, now))

    def on_lost(self) -> None:
        self.lost += 1

    def on_torn(self) -> None:
        self.torn += 1

    def on_unavailable(self, error: LayerUnavailable) -> bool:
        self.errors.append(error)
        return False


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
async def line(server: RedisServer, owner: Owner) -> AsyncIterator[ListLine]:
    with server.client(db=8) as redis:
        redis.flushdb()
    line = ListLine(asyncio.get_running_loop(), Outage(parse_host(f"{server.url}/8"), DEADLINE), owner)
    yield line
    line.close()
    await asyncio.sleep(0)


async def test_pop_is_a_batch_with_the_time_of_redis(server: RedisServer, line: ListLine, owner: Owner) -> None:
    with server.client(db=8) as redis:
        redis.rpush("b", *range(5))
        if int(redis.info("server")["redis_version"].split(".")[0]) < 7:
            pytest.skip("this Redis is older than 7")
        line.pop(("a", "b"), 3)
        await until(lambda: len(owner.batches) == 1)
        key, entries, now = owner.batches[0]
        assert (key, entries) == ("b", [b"0", b"1", b"2"])
        assert abs(now / 1000 - time.time()) < 5
        assert not line.waiting


async def test_before_redis_7(
    server: RedisServer, line: ListLine, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    no = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(ListLine, "_multi", no, raising=False)
    with server.client(db=8) as redis:
        redis.rpush("b", *range(5))
        for keys, count in ((("b",), 3), (("a", "b"), 3), (("b",), 9)):
            line.pop(keys, count)
            await until(lambda: not line.waiting)
        assert [entries for _, entries, _ in owner.batches] == [[b"0", b"1", b"2"], [b"3"], [b"4"]]


async def test_lost_connection_is_asked_again(server: RedisServer, line: ListLine, owner: Owner) -> None:
    line.pop(("a",), 1)
    await until(lambda: line.blocked)
    with server.client(db=8) as redis:
        blocked: list[Any] = []
        await until(lambda: bool(blocked) or blocked.extend(r for r in redis.client_list() if "b" in r["flags"]))
        redis.client_kill_filter(_id=blocked[0]["id"])
        await until(lambda: owner.lost == 1 and line.blocked)
        redis.rpush("a", "x")
        await until(lambda: len(owner.batches) == 1)
        assert not owner.torn, "Redis closed the connection, and had written nothing"


@pytest.mark.parametrize("keep", [0, 3])
async def test_pop_whose_answer_is_cut_off(server: RedisServer, owner: Owner, keep: int) -> None:
    with proxied(server.port) as proxy, server.client(db=8) as redis:
        line = ListLine(asyncio.get_running_loop(), Outage(parse_host(f"{proxy.url}/8"), DEADLINE), owner)
        proxy.cut(DOWN, b"payload", keep)
        line.pop(("a",), 1)
        await until(lambda: line.blocked)
        redis.rpush("a", "payload")
        await until(lambda: owner.lost == 1 and line.blocked)
        assert owner.torn == 1
        redis.rpush("a", "x")
        await until(lambda: [entries for _, entries, _ in owner.batches] == [[b"x"]])
        line.close()


async def test_pop_that_may_have_been_answered(line: ListLine, owner: Owner) -> None:
    line.pop(("a",), 1)
    await until(lambda: line.blocked)
    assert line.connection is not None
    line.connection.abort(ConnectionResetError("no more was heard"))
    await until(lambda: owner.lost == 1 and line.blocked)
    assert owner.torn == 1


async def test_error_reply_is_told(server: RedisServer, line: ListLine, owner: Owner) -> None:
    with server.client(db=8) as redis:
        redis.set("text", 1)
        line.pop(("text",), 1)
        await until(lambda: len(owner.errors) == 1)
        assert "WRONGTYPE" in str(owner.errors[0])
        assert not line.waiting
        redis.rpush("list", "x")
        line.pop(("list",), 1)
        await until(lambda: len(owner.batches) == 1)


async def test_pop_that_is_not_written_can_be_replaced_and_forgotten(line: ListLine, owner: Owner) -> None:
    line.pop(("a",), 1)
    line.pop(("b",), 1)
    line.forget()
    assert not line.waiting
    await until(lambda: line.connection is not None)
    assert not line.blocked
