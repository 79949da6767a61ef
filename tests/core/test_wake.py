from __future__ import annotations

import asyncio
import contextvars
import threading
from asyncio import InvalidStateError

import pytest

from fastchannels._core.wake import ThreadWaiter, Waiter, any_cancelled, settle_all

DEADLINE = 10.0


def waiters(count: int) -> list[Waiter[int]]:
    return [Waiter(asyncio.get_running_loop()) for _ in range(count)]


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


async def test_settle_all_passes_over_what_is_settled() -> None:
    some = waiters(3)
    some[1].cancel()
    assert any_cancelled(some)
    settle_all(some, b"012")
    assert [waiter.cancelled() or waiter.result() for waiter in some] == [48, True, 50]
    assert not any_cancelled([some[0]])
    with pytest.raises(ValueError, match="1 answers for 3"):
        settle_all(some, b"0")


def test_thread_waiter() -> None:
    waiter = ThreadWaiter()
    assert not waiter.block(0)
