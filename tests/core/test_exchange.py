"""The run of an application: at once, as a task like any other, in a context of its own."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
import uvloop

from fastchannels._core.awaited import Awaited
from tests.server.support import DEADLINE, answer, connect, http_only, serving, until

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def served(application, path="/", **options):
    """What one request of ``application`` is answered."""
    async with serving(http_only(application), **options) as server, connect(server) as client:
        return await client.get(path)


class TestTask:
    async def test_one_task_in_all_steps(self):
        seen = []

        async def application(scope, receive, send):
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())
            await answer(send)
            await asyncio.get_running_loop().run_in_executor(None, int)
            seen.append(asyncio.current_task())
            await receive()
            seen.append(asyncio.current_task())

        async with serving(http_only(application)) as server, connect(server) as client:
            assert (await client.get())[2] == b"ok"
            await until(lambda: len(seen) == 4, "the last step")
            await until(lambda: seen[0].done(), "the end")
        assert len(set(map(id, seen))) == 1
        assert isinstance(seen[0], asyncio.Task)
        assert seen[0].result() is None

    async def test_a_task_that_is_kept_though_it_never_waited(self):
        kept = []

        async def application(scope, receive, send):
            kept.append(asyncio.current_task())
            await answer(send)

        await served(application)
        assert await asyncio.wait_for(kept[0], DEADLINE) is None
        assert kept[0].done()
        assert kept[0].get_name().startswith("Task-")

    async def test_asked_in_the_first_step(self):
        seen = []

        async def application(scope, receive, send):
            task = asyncio.current_task()
            seen.append((task.done(), task.cancelled(), task in asyncio.all_tasks(), "Task" in repr(task)))
            task.add_done_callback(lambda done: seen.append(done is task))
            await asyncio.sleep(0)
            await answer(send)

        assert (await served(application))[2] == b"ok"
        await until(lambda: len(seen) == 2, "the callback")
        assert seen == [(False, False, True, True), True]

    async def test_timeouts(self):
        async def application(scope, receive, send):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            if hasattr(asyncio, "timeout"):
                with pytest.raises(asyncio.TimeoutError):
                    async with asyncio.timeout(0.01):
                        await asyncio.Event().wait()
            await answer(send)

        assert (await served(application))[2] == b"ok"

    @pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="Python 3.11 has them")
    async def test_groups(self):
        async def application(scope, receive, send):
            async def work(number):
                await asyncio.sleep(0)
                return number

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work(number)) for number in range(3)]
            await answer(send, b"%d" % sum(task.result() for task in tasks))

        assert (await served(application))[2] == b"3"

    @pytest.mark.skipif(not hasattr(asyncio, "TaskGroup"), reason="Python 3.11 has them")
    async def test_a_group_whose_child_fails_cancels_the_first_wait(self):
        async def application(scope, receive, send):
            async def fail():
                raise RuntimeError("child")

            with pytest.raises(BaseException) as caught:  # noqa: PT011, PT012 - ExceptionGroup is no name of 3.10
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail())
                    await asyncio.Event().wait()
            await answer(send, type(caught.value).__name__.encode())

        assert (await served(application))[2] == b"ExceptionGroup"

    async def test_cancelled_before_the_task_knows_what_it_waits_for(self):
        """Between the first step and the next turn of the loop: the inner wait is cancelled, then the application."""
        seen = []

        async def application(scope, receive, send):
            task = asyncio.current_task()
            inner = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(task.cancel)
            try:
                await inner
            except asyncio.CancelledError:
                seen.append(inner.cancelled())
                await answer(send, b"cancelled")
                raise

        assert (await served(application))[2] == b"cancelled"
        assert seen == [True]

    async def test_cancelling_itself(self):
        async def application(scope, receive, send):
            asyncio.current_task().cancel()
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                await answer(send, b"cancelled")
                raise

        assert (await served(application))[2] == b"cancelled"

    async def test_an_application_that_ends_cancelled(self):
        async def application(scope, receive, send):
            raise asyncio.CancelledError

        assert (await served(application))[0] == 500

    async def test_an_application_that_returns_an_awaitable(self):
        def application(scope, receive, send):
            return asyncio.ensure_future(answer(send))

        async with serving(application, lifespan="off") as server, connect(server) as client:
            assert (await client.get())[2] == b"ok"

    async def test_a_call_that_raises(self, caplog):
        def application(scope, receive, send):
            raise RuntimeError("at once")

        async with serving(application, lifespan="off") as server, connect(server) as client:
            assert (await client.get())[0] == 500
        assert "at once" in caplog.text

    async def test_tasks_of_the_loops_own_making_are_left_to_it(self):
        made = []
        loop = asyncio.get_running_loop()

        def factory(loop, coroutine, **options):
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        async def application(scope, receive, send):
            await answer(send)

        loop.set_task_factory(factory)
        try:
            assert (await served(application))[2] == b"ok"
        finally:
            loop.set_task_factory(None)
        assert any(isinstance(coroutine, Awaited) for coroutine in made)


class TestContext:
    async def test_isolated_by_request_and_kept_over_waits(self):
        async def application(scope, receive, send):
            before = VARIABLE.get()
            token = VARIABLE.set(scope["path"])
            await asyncio.sleep(0)
            during = VARIABLE.get()
            inner = await asyncio.create_task(read())
            VARIABLE.reset(token)
            await answer(send, f"{before} {during} {inner} {VARIABLE.get()}".encode())

        async def read():
            return VARIABLE.get()

        async with serving(http_only(application)) as server, connect(server) as client:
            for path in ("/a", "/b"):
                assert (await client.get(path))[2] == f"unset {path} {path} unset".encode()

    async def test_set_without_a_wait(self):
        async def application(scope, receive, send):
            before = VARIABLE.get()
            VARIABLE.set("set")
            await answer(send, before.encode())

        async with serving(http_only(application)) as server, connect(server) as client:
            for _ in range(2):
                assert (await client.get())[2] == b"unset"


class TestCalls:
    async def test_as_tasks_and_under_timeouts(self):
        async def application(scope, receive, send):
            message = await asyncio.create_task(receive())
            assert message == {"type": "http.request", "body": b"", "more_body": False}
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            await asyncio.wait_for(send({"type": "http.response.start", "status": 200}), 1)
            await asyncio.gather(send({"type": "http.response.body", "body": b"ok"}))

        assert (await served(application))[2] == b"ok"

    async def test_nothing_happens_before_it_is_awaited(self):
        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            later = send({"type": "http.response.body", "body": b"no"})
            later.close()
            cancelled = asyncio.ensure_future(receive())
            cancelled.cancel()
            assert (await receive())["type"] == "http.request"
            await send({"type": "http.response.body", "body": b"ok"})
            with pytest.raises(asyncio.CancelledError):
                await cancelled

        assert (await served(application))[2] == b"ok"

    async def test_awaited_once(self):
        async def application(scope, receive, send):
            call = receive()
            await call
            with pytest.raises(RuntimeError):
                await call
            await answer(send)

        assert (await served(application))[2] == b"ok"

    async def test_they_are_coroutines_to_those_who_ask(self):
        async def application(scope, receive, send):
            call = receive()
            assert asyncio.iscoroutine(call)
            await call
            await answer(send)

        assert (await served(application))[2] == b"ok"


async def test_a_request_leaves_nothing_behind():
    import gc

    async def application(scope, receive, send):
        await answer(send)

    async def waiting(scope, receive, send):
        await asyncio.sleep(0)
        await answer(send)

    for each in (application, waiting):
        async with serving(http_only(each)) as server, connect(server) as client:
            for _ in range(10):
                await client.get()
            gc.collect()
            count = len(gc.get_objects())
            for _ in range(100):
                await client.get()
            gc.collect()
            assert len(gc.get_objects()) - count < 50
            assert server._context.running == 0
            assert not server._context.tasks


@pytest.mark.parametrize(
    "test",
    [
        TestTask().test_one_task_in_all_steps,
        TestTask().test_timeouts,
        TestTask().test_cancelled_before_the_task_knows_what_it_waits_for,
        TestContext().test_isolated_by_request_and_kept_over_waits,
        TestCalls().test_as_tasks_and_under_timeouts,
        test_a_request_leaves_nothing_behind,
    ],
    ids=lambda test: test.__name__.removeprefix("test_"),
)
def test_on_uvloop(test):
    """The loop of production; the tests run on asyncio's."""
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(test())
    finally:
        loop.close()
