from __future__ import annotations

import asyncio
import contextlib

from fastchannels._core.inbox import Inbox
from fastchannels._core.take import Take

DEADLINE = 10.0


def make() -> Inbox:
    return Inbox(capacity_of=lambda channel: 10, expiry=60.0, decode=lambda payload: {"body": payload})


async def test_take_cancelled_at_any_point_leaves_the_message() -> None:
    inbox = make()
    loop = asyncio.get_running_loop()

    async def read(seen: list[object]) -> None:
        seen.append(await Take(loop, inbox, "a"))

    for turns in range(4):
        seen: list[object] = []
        first, second = (asyncio.create_task(read(seen)) for _ in range(2))
        await asyncio.sleep(0)
        assert len(inbox.waiters()) == 2
        inbox.put("a", b"x")
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait((first, second), timeout=DEADLINE if turns == 0 else 0.05)
        if not seen:
            # The wake-up went to the first, which was cancelled, and on to the second.
            raise AssertionError("the message is lost")
        assert seen == [{"body": b"x"}]
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert (inbox.waiters(), inbox.unread("a"), inbox.is_watched("a")) == ([], 0, False)


async def test_take_that_is_dropped_or_thrown_into_forgets_its_wait() -> None:
    inbox = make()
    loop = asyncio.get_running_loop()
    for end in (lambda taking: taking.close(), lambda taking: taking.throw(LookupError)):
        taking = Take(loop, inbox, "a").__await__()
        next(taking)  # type: ignore[call-overload]
        assert inbox.is_watched("a")
        with contextlib.suppress(LookupError):
            end(taking)
        assert not inbox.is_watched("a")


async def test_take_waits_again_when_another_was_faster() -> None:
    inbox = make()

    async def read() -> object:
        return await Take(asyncio.get_running_loop(), inbox, "a")

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    inbox.put("a", b"1")
    assert inbox.get("a") == b"1"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    inbox.put("a", b"2")
    assert await asyncio.wait_for(task, DEADLINE) == {"body": b"2"}
