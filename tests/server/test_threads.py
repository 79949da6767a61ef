"""Threads of synchronous code: one for each request, and kept for the next."""

import asyncio
import sys
import threading
from weakref import WeakKeyDictionary

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async

from fastchannels.server import threads
from fastchannels.server.threads import Thread, Threads
from tests.server.support import DEADLINE, connect, serving


class Context:
    """A key, as asgiref's."""


@pytest.fixture
def lent():
    """A mapping whose idle threads end with the test."""
    mapping = Threads()
    yield mapping
    mapping.end()


def ident(executor):
    return executor.submit(threading.get_ident).result(DEADLINE)


async def answer(send, text):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


async def told(scope, receive, send):
    """As Django's handler: synchronous code in the thread of the request, which is told twice."""
    async with ThreadSensitiveContext():
        idents = [await sync_to_async(threading.get_ident)() for _ in range(2)]
    await answer(send, b"%d %d" % tuple(idents))


async def test_the_next_request_has_the_thread_of_the_last():
    seen = set()
    async with serving(told, lifespan="off") as server, connect(server) as client:
        for _ in range(5):
            _, _, body = await client.get()
            first, second = body.split()
            assert first == second
            seen.add(first)
    assert len(seen) == 1
    assert int(seen.pop()) != threading.get_ident()


async def test_requests_at_once_have_a_thread_each():
    both = threading.Barrier(2)

    async def meets(scope, receive, send):
        async with ThreadSensitiveContext():
            await sync_to_async(both.wait)(DEADLINE)
            found = await sync_to_async(threading.get_ident)()
        await answer(send, b"%d" % found)

    async with serving(meets, lifespan="off") as server, connect(server) as first, connect(server) as second:
        for _ in range(3):
            answers = await asyncio.gather(first.get(), second.get())
            assert len({body for _, _, body in answers}) == 2


async def test_a_thread_that_is_busy_when_its_request_ends_is_not_the_next_requests():
    release = threading.Event()
    left = []

    async def leaves(scope, receive, send):
        if scope["path"] == "/leave":
            async with ThreadSensitiveContext():
                found = await sync_to_async(threading.get_ident)()
                left.append(asyncio.ensure_future(sync_to_async(release.wait)(DEADLINE)))
                await asyncio.sleep(0)
                asyncio.get_running_loop().call_later(0.1, release.set)
        else:
            async with ThreadSensitiveContext():
                # asgiref waited for the work of the other to end it.
                found = await sync_to_async(threading.get_ident)()
                assert left[0].done()
        await answer(send, b"%d" % found)

    async with serving(leaves, lifespan="off") as server, connect(server) as client:
        await client.get("/leave")
        assert release.is_set()
        assert (await client.get("/"))[0] == 200


def test_what_stopped_serving_leaves_no_thread_and_asgiref_as_it_was():
    def here():
        return [thread for thread in threading.enumerate() if thread.name.startswith("fastchannels-request")]

    async def run():
        async with serving(told, lifespan="off") as server, connect(server) as client:
            await client.get()
            assert type(SyncToAsync.context_to_thread_executor) is Threads
            assert here()

    before = SyncToAsync.context_to_thread_executor
    asyncio.run(run())
    assert SyncToAsync.context_to_thread_executor is before
    for thread in here():
        thread.join(DEADLINE)
    assert not here()


def test_it_stays_until_the_last_of_its_users_ends():
    before = SyncToAsync.context_to_thread_executor
    assert threads.install()
    assert threads.install()
    threads.uninstall()
    assert type(SyncToAsync.context_to_thread_executor) is Threads
    threads.uninstall()
    assert SyncToAsync.context_to_thread_executor is before


def test_without_asgiref_there_is_nothing_to_do(monkeypatch):
    monkeypatch.delitem(sys.modules, "asgiref.sync")
    assert not threads.install()


def test_another_asgiref_is_left_alone(monkeypatch):
    mapping = type("Other", (WeakKeyDictionary,), {})()
    monkeypatch.setattr(SyncToAsync, "context_to_thread_executor", mapping)
    assert not threads.install()
    assert SyncToAsync.context_to_thread_executor is mapping


def test_the_thread_used_last_is_lent_first(lent):
    first, second = Context(), Context()
    assert first in lent
    assert second in lent
    one, other = ident(lent[first]), ident(lent[second])
    assert one != other
    assert lent.pop(second, None) is None
    assert lent.pop(first, None) is None
    third = Context()
    assert third in lent
    assert ident(lent[third]) == one


def test_one_with_work_is_its_users_to_shut_down(lent):
    context, release = Context(), threading.Event()
    assert context in lent
    thread = lent[context]
    works = thread.submit(release.wait, DEADLINE)
    waits = thread.submit(threading.get_ident)
    assert waits.cancel()
    assert thread.busy
    assert lent.pop(context, None) is thread
    release.set()
    thread.shutdown()
    assert works.done()
    assert not thread.busy


def test_no_more_are_kept_than_said(lent, monkeypatch):
    monkeypatch.setattr(threads, "KEPT", 1)
    first, second = Context(), Context()
    assert first in lent
    assert second in lent
    assert lent.pop(first, None) is None
    assert isinstance(lent.pop(second, None), Thread)


def test_an_executor_of_the_callers_own_is_given_back(lent):
    context = Context()
    own = Thread()
    lent[context] = own
    assert context in lent
    assert lent[context] is own
    own.shutdown()


def test_a_context_that_nobody_left_takes_its_thread_along(lent):
    context = Context()
    assert context in lent
    number = ident(lent[context])
    (thread,) = (thread for thread in threading.enumerate() if thread.ident == number)
    del context
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_the_end_keeps_no_more(lent):
    context = Context()
    assert context in lent
    lent.end()
    assert isinstance(lent.pop(context, None), Thread)
