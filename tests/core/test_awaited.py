"""What is awaited: a coroutine for all who ask, and the run of an application as a task's."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import inspect

import pytest

from fastchannels._core.awaited import Awaited, running


class Owner:
    """Runs ``application`` and notes how it ended."""

    def __init__(self, application):
        self.application = application
        self.ends = []

    def call(self):
        return self.application()

    def ended(self, error):
        self.ends.append(error)
        if error is not None and not isinstance(error, Exception):
            raise error


async def test_a_run_is_a_coroutine_for_all_who_ask():
    async def application():
        await asyncio.sleep(0)

    owner = Owner(application)
    run = running(owner)
    assert isinstance(run, Awaited)
    assert isinstance(run, collections.abc.Coroutine)
    assert asyncio.iscoroutine(run)
    assert inspect.isawaitable(run)
    await run
    assert owner.ends == [None]


async def test_a_task_of_it_is_done_with_its_application():
    waits = asyncio.get_running_loop().create_future()
    owner = Owner(lambda: waits)  # an awaitable that is no coroutine
    task = asyncio.ensure_future(running(owner))
    await asyncio.sleep(0)
    assert owner.ends == []
    waits.set_result(None)
    assert await task is None
    assert owner.ends == [None]


async def test_an_error_is_its_owners():
    async def application():
        raise ValueError("x")

    owner = Owner(application)
    assert await running(owner) is None
    assert [type(error) for error in owner.ends] == [ValueError]


async def test_an_error_of_the_call_is_its_owners():
    owner = Owner(lambda: 1 // 0)
    assert await running(owner) is None
    assert [type(error) for error in owner.ends] == [ZeroDivisionError]


async def test_an_error_behind_a_wait_is_its_owners():
    async def application():
        await asyncio.sleep(0)
        raise ValueError("x")

    owner = Owner(application)
    assert await asyncio.ensure_future(running(owner)) is None
    assert [type(error) for error in owner.ends] == [ValueError]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_cancelled_task_is_cancelled(waits):
    async def application():
        await asyncio.Event().wait()

    owner = Owner(application)
    task = asyncio.ensure_future(running(owner))
    if waits:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert [type(error) for error in owner.ends] == [asyncio.CancelledError]


async def test_one_that_catches_the_cancellation_goes_on():
    async def application():
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    owner = Owner(application)
    task = asyncio.ensure_future(running(owner))
    await asyncio.sleep(0)
    task.cancel()
    assert await task is None
    assert owner.ends == [None]


def test_what_is_thrown_before_the_first_step_ends_it():
    owner = Owner(None)
    run = running(owner)
    with pytest.raises(KeyError):
        run.throw(KeyError)
    assert [type(error) for error in owner.ends] == [KeyError]
    with pytest.raises(StopIteration):
        run.send(None)
    with pytest.raises(KeyError, match="again"):
        run.throw(KeyError("again"))
    assert len(owner.ends) == 1


def test_close_closes_the_application():
    closed = []

    class Wait:
        def __await__(self):
            yield

    async def application():
        try:
            await Wait()
        finally:
            closed.append(True)

    run = running(Owner(application))
    run.send(None)
    run.close()
    assert closed == [True]


def test_an_end_leaves_no_cycle():
    async def application():
        pass

    owner = Owner(application)
    owner.run = running(owner)
    with pytest.raises(StopIteration):
        owner.run.send(None)
    gc.collect()
    gc.disable()
    try:
        del owner
        assert gc.collect() == 0
    finally:
        gc.enable()
