from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from asyncio import InvalidStateError

import pytest

from fastchannels._core.wake import ThreadWaiter, Waiter, current_loop, running_loop

DEADLINE = 10.0


def waiters(count: int) -> list[Waiter[int]]:
    return [Waiter(asyncio.get_running_loop()) for _ in range(count)]


def settle_all(some: list[Waiter[int]], codes: bytes) -> None:
    for waiter, code in zip(some, codes, strict=True):
        waiter.set_result(code)


async def wait_for_it(waiter: Waiter[int], seen: list[object]) -> None:
    try:
        seen.append(await waiter)
    except (LookupError, asyncio.CancelledError) as error:
        seen.append(type(error))
        raise


class TestWaiter:
    async def test_results_reach_their_tasks_in_the_order_of_settling(self) -> None:
        (first, second, third), seen = waiters(3), []
        tasks = [asyncio.create_task(wait_for_it(waiter, seen)) for waiter in (first, second, third)]
        await asyncio.sleep(0)
        for waiter, result in ((second, 2), (first, 1), (third, 3)):
            waiter.set_result(result)
        assert seen == []
        await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)
        assert seen == [2, 1, 3]

    async def test_result_before_it_is_awaited(self) -> None:
        (waiter,) = waiters(1)
        waiter.set_result(5)
        assert await waiter == 5
        assert (waiter.done(), waiter.cancelled(), waiter.result(), waiter.exception()) == (True, False, 5, None)

    @pytest.mark.parametrize("result", [None, (1, 2), ValueError("a value")])
    async def test_results_that_stop_iteration_would_take_apart(self, result: object) -> None:
        waiter: Waiter[object] = Waiter(asyncio.get_running_loop())
        task = asyncio.create_task(asyncio.wait_for(waiter, DEADLINE))
        await asyncio.sleep(0)
        waiter.set_result(result)
        assert await task is result
        assert await waiter is result

    async def test_exception(self) -> None:
        (waiter,), seen = waiters(1), []
        task = asyncio.create_task(wait_for_it(waiter, seen))
        await asyncio.sleep(0)
        waiter.set_exception(LookupError("gone"))
        with pytest.raises(LookupError, match="gone"):
            await task
        assert isinstance(waiter.exception(), LookupError)

    async def test_cancelling_the_task_cancels_it(self) -> None:
        (waiter,), seen = waiters(1), []
        task = asyncio.create_task(wait_for_it(waiter, seen))
        await asyncio.sleep(0)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiter.cancelled()
        assert not waiter.cancel()
        assert seen == [asyncio.CancelledError]
        with pytest.raises(asyncio.CancelledError, match="enough"):
            waiter.result()

    async def test_task_cancelled_after_the_wake_up_is_cancelled_once(self) -> None:
        (waiter,), seen = waiters(1), []
        task = asyncio.create_task(wait_for_it(waiter, seen))
        await asyncio.sleep(0)
        waiter.set_result(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (waiter.result(), seen) == (1, [asyncio.CancelledError])

    async def test_settles_once(self) -> None:
        (waiter,) = waiters(1)
        with pytest.raises(InvalidStateError):
            waiter.result()
        waiter.set_result(1)
        with pytest.raises(InvalidStateError):
            waiter.set_result(2)
        with pytest.raises(InvalidStateError):
            waiter.set_exception(LookupError())
        assert not waiter.cancel()
        assert waiter.result() == 1

    async def test_wait_for_gives_up(self) -> None:
        (waiter,) = waiters(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiter, 0.01)
        assert waiter.cancelled()

    async def test_gather(self) -> None:
        both = waiters(2)
        gathered = asyncio.gather(*both, return_exceptions=True)
        both[0].set_result(1)
        both[1].set_exception(LookupError())
        one, other = await asyncio.wait_for(gathered, DEADLINE)
        assert (one, type(other)) == (1, LookupError)

    async def test_callbacks_run_in_their_contexts(self) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
        (waiter,), seen = waiters(1), []
        for value in ("a", "b", "c"):
            variable.set(value)
            waiter.add_done_callback(lambda done: seen.append((variable.get(), done.result())))
        variable.set("later")
        waiter.set_result(1)
        waiter.add_done_callback(lambda done: seen.append((variable.get(), done.result())))
        await asyncio.sleep(0)
        assert seen == [("a", 1), ("b", 1), ("c", 1), ("later", 1)]

    async def test_callback_that_was_removed(self) -> None:
        (waiter,), seen = waiters(1), []
        add, other = (lambda done: seen.append("add")), (lambda done: seen.append("other"))
        for callback in (add, other, add):
            waiter.add_done_callback(callback)
        assert waiter.remove_done_callback(add) == 2
        assert waiter.remove_done_callback(add) == 0
        waiter.set_result(1)
        await asyncio.sleep(0)
        assert seen == ["other"]

    async def test_callback_that_fails_stops_no_other(self) -> None:
        loop = asyncio.get_running_loop()
        told: list[dict[str, object]] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        both, seen = waiters(2), []
        both[0].add_done_callback(lambda done: 1 / 0)
        both[1].add_done_callback(lambda done: seen.append(done.result()))
        settle_all(both, b"\x01\x02")
        await asyncio.sleep(0)
        assert seen == [2]
        assert [type(context["exception"]) for context in told] == [ZeroDivisionError]

    def test_the_rest_is_woken_after_the_loop_was_left(self) -> None:
        loop = asyncio.new_event_loop()
        seen: list[int] = []

        def leave(_done: object) -> None:
            raise SystemExit

        async def settle() -> None:
            both = waiters(2)
            both[0].add_done_callback(leave)
            both[1].add_done_callback(lambda done: seen.append(done.result()))
            settle_all(both, b"\x01\x02")
            await asyncio.sleep(0)

        try:
            task = loop.create_task(settle())
            with pytest.raises(SystemExit):
                loop.run_until_complete(task)
            assert seen == []
            loop.run_until_complete(task)
            assert seen == [2]
        finally:
            loop.close()

    async def test_loops_in_two_threads_at_a_time(self) -> None:
        counts: list[int] = []

        async def many() -> None:
            for _ in range(200):
                some, seen = waiters(20), []
                tasks = [asyncio.create_task(wait_for_it(waiter, seen)) for waiter in some]
                await asyncio.sleep(0)
                settle_all(some, bytes(range(20)))
                await asyncio.gather(*tasks)
                counts.append(seen == list(range(20)))

        threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        await many()
        for thread in threads:
            await asyncio.to_thread(thread.join, DEADLINE)
        assert counts == [True] * 600


def test_thread_waiter() -> None:
    waiter = ThreadWaiter()
    assert not waiter.block(0)


def test_the_running_loop_is_told_from_others() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        current_loop()
    assert running_loop() is None

    async def check(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(2):
            assert current_loop() is running_loop() is asyncio.get_running_loop() is loop
            await asyncio.sleep(0)

    loops = [asyncio.new_event_loop() for _ in range(3)]
    for loop in (*loops, *loops):
        loop.run_until_complete(check(loop))
        assert running_loop() is None
    barrier = threading.Barrier(len(loops), timeout=DEADLINE)
    failed: list[BaseException] = []

    async def check_beside_others(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(100):
            barrier.wait()
            await check(loop)

    def work(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_until_complete(check_beside_others(loop))
            assert running_loop() is None
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert not failed
    for loop in loops:
        loop.close()


def test_a_loop_does_not_run_in_a_forked_child() -> None:
    async def fork() -> int:
        current_loop()
        child = os.fork()
        if not child:
            os._exit(0 if running_loop() is None else 1)
        return child

    child = asyncio.run(fork())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_a_loop_inside_a_loop_is_the_one_that_runs() -> None:
    """What tools that nest loops do to asyncio."""
    outer, inner = asyncio.get_running_loop(), asyncio.new_event_loop()
    assert current_loop() is outer
    asyncio._set_running_loop(inner)
    try:
        assert current_loop() is inner
    finally:
        asyncio._set_running_loop(outer)
        inner.close()
    assert current_loop() is outer
