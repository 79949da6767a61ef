from __future__ import annotations

import asyncio

import pytest

from fastchannels.server.eager import begin


async def test_what_never_waits_ends_at_once() -> None:
    seen: list[int] = []

    async def work() -> None:
        seen.append(1)

    assert begin(work()) is None
    assert seen == [1]


async def test_what_waits_goes_on_in_a_task() -> None:
    seen: list[object] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        seen.append("begun")
        seen.append(await future)
        await asyncio.sleep(0)
        return "done"

    rest = begin(work())
    assert rest is not None
    assert seen == ["begun"]
    task = asyncio.create_task(rest.run())
    await asyncio.sleep(0)
    future.set_result(7)
    assert await task == "done"
    assert seen == ["begun", 7]


async def test_a_wait_that_is_over_before_the_task_begins() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return await future

    rest = begin(work())
    future.set_result(7)
    assert rest is not None
    assert await asyncio.create_task(rest.run()) == 7


async def test_errors_come_from_where_it_is() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def fails(late: bool) -> None:
        if late:
            await future
        raise LookupError

    with pytest.raises(LookupError):
        begin(fails(late=False))
    rest = begin(fails(late=True))
    assert rest is not None
    future.set_result(1)
    with pytest.raises(LookupError):
        await asyncio.create_task(rest.run())


async def test_it_is_cancelled_where_it_waits() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            await asyncio.sleep(0)
            seen.append("cleaned")
            raise

    rest = begin(work())
    assert rest is not None
    task = asyncio.create_task(rest.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled", "cleaned"]


async def test_what_is_dropped_is_closed() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            seen.append("closed")

    rest = begin(work())
    assert rest is not None
    waiting = rest.__await__()
    next(waiting)
    waiting.close()
    assert seen == ["closed"]
