import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import channels
import channels.consumer
import channels.db
import channels.generic.websocket
import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from channels.consumer import AsyncConsumer, SyncConsumer
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from django.db import DatabaseError, connections
from django.test import override_settings

from fastchannels import fast_dispatch
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.memory import InMemoryChannelLayer

ALIAS = "filed"
THEIRS = fast_dispatch._original


class Counting(ThreadPoolExecutor):
    """The thread of database code, which counts how often somebody goes there."""

    def __init__(self):
        super().__init__(max_workers=1)
        self.hops = 0

    def submit(self, *args, **kwargs):
        self.hops += 1
        return super().submit(*args, **kwargs)


@pytest.fixture
def thread(monkeypatch):
    executor = Counting()
    monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
    fast_dispatch.uninstall()
    assert fast_dispatch.install()
    yield executor
    executor.submit(connections.close_all).result(10)
    executor.shutdown()


@pytest.fixture
def database_file(thread, tmp_path, request):
    """A database in a file, which closes as a server's does, with the settings of the test's parameter."""
    given = {"CONN_MAX_AGE": 0, **getattr(request, "param", {})}
    connections.settings[ALIAS] = {**connections.settings["default"], "NAME": tmp_path / "database", **given}
    yield given
    thread.submit(connections.close_all).result(10)
    del connections.settings[ALIAS]


def use():
    """Use the database, and leave its connection open."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")


def inside(thread, function):
    return thread.submit(function).result(10)


def is_open(thread):
    return inside(thread, lambda: connections[ALIAS].connection is not None)


class Events:
    """Runs one consumer, event by event."""

    def __init__(self, consumer):
        self.received = asyncio.Queue()
        self.sent = asyncio.Queue()
        self.task = asyncio.create_task(consumer()({"type": "test"}, self.received.get, self.sent.put))

    async def event(self, kind):
        self.received.put_nowait({"type": kind})
        answer = asyncio.create_task(self.sent.get())
        await asyncio.wait([answer, self.task], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            self.task.result()
        return answer.result()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        self.task.cancel()
        await asyncio.wait([self.task], timeout=10)


class Consumer(AsyncConsumer):
    channel_layer_alias = "none"

    async def plain(self, event):
        await self.send({"was open": connections_of_the_thread()})

    async def orm(self, event):
        await sync_to_async(use)()
        await self.send({})

    async def orm_of_channels(self, event):
        await database_sync_to_async(use)()
        await self.send({})

    async def fault(self, event):
        def lose():
            use()
            connections[ALIAS].connection.close()  # the server is gone
            connections[ALIAS].is_usable = lambda: False  # sqlite's check, of a file, always passes
            with pytest.raises(DatabaseError):
                use()

        await sync_to_async(lose)()
        await self.send({})

    async def manual(self, event):
        await sync_to_async(lambda: (use(), connections[ALIAS].set_autocommit(False)))()
        await self.send({})


def connections_of_the_thread():
    """Looked at without going there."""
    _, held = fast_dispatch._looked
    return ALIAS in held and held[ALIAS].connection is not None


async def test_no_hop_where_no_connection_is_open(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        assert thread.hops == 1  # the first one looks for the thread
        for _ in range(50):
            assert await events.event("plain") == {"was open": False}
    assert thread.hops == 1


async def test_the_event_after_the_orm_closes(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm")
        assert is_open(thread)
        before = thread.hops
        assert await events.event("plain") == {"was open": False}
        assert thread.hops == before + 1
        await events.event("plain")
        assert thread.hops == before + 1


async def test_an_event_of_another_consumer_closes_too(thread, database_file):
    async with Events(Consumer) as one, Events(Consumer) as other:
        await one.event("plain")
        await one.event("orm")
        assert is_open(thread)
        assert await other.event("plain") == {"was open": False}


async def test_a_connection_opened_before_the_first_event_is_closed(thread, database_file):
    inside(thread, use)
    async with Events(Consumer) as events:
        assert await events.event("plain") == {"was open": False}


async def test_what_channels_closed_itself_needs_no_hop(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm_of_channels")
        before = thread.hops
        assert await events.event("plain") == {"was open": False}
        assert thread.hops == before


@pytest.mark.parametrize("database_file", [{"CONN_MAX_AGE": 600}, {"CONN_MAX_AGE": None}], indirect=True, ids=str)
async def test_a_connection_that_may_live_on_needs_no_hop(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm")
        before = thread.hops
        assert await events.event("plain") == {"was open": True}
        assert thread.hops == before


@pytest.mark.parametrize("database_file", [{"CONN_MAX_AGE": 600}], indirect=True, ids=str)
async def test_its_age_ends_it(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm")
        assert await events.event("plain") == {"was open": True}
        inside(thread, lambda: setattr(connections[ALIAS], "close_at", time.monotonic()))
        assert await events.event("plain") == {"was open": False}


@pytest.mark.parametrize("database_file", [{"CONN_MAX_AGE": 600}], indirect=True, ids=str)
@pytest.mark.parametrize("kind", ["fault", "manual"])
async def test_a_broken_or_changed_connection_is_closed(thread, database_file, kind):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event(kind)
        assert is_open(thread)
        assert await events.event("plain") == {"was open": False}


@pytest.mark.parametrize("database_file", [{"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True}], indirect=True, ids=str)
async def test_the_next_query_checks_the_health_again(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm")
        assert inside(thread, lambda: connections[ALIAS].health_check_done)
        await events.event("plain")
        assert not inside(thread, lambda: connections[ALIAS].health_check_done)
        before = thread.hops
        await events.event("plain")
        assert thread.hops == before  # there is nothing to reset until the next query


@pytest.mark.parametrize("database_file", [{"CONN_MAX_AGE": 600}], indirect=True, ids=str)
async def test_a_connection_with_rules_of_its_own_is_asked(thread, database_file, monkeypatch):
    asked = []
    async with Events(Consumer) as events:
        await events.event("plain")
        await events.event("orm")
        kind = inside(thread, lambda: type(connections[ALIAS]))
        monkeypatch.setattr(kind, "close_if_unusable_or_obsolete", lambda self: asked.append(self))
        await events.event("plain")
    assert asked


async def test_sync_consumers_close_as_before(thread, database_file):
    class Sync(SyncConsumer):
        channel_layer_alias = "none"

        def orm(self, event):
            use()
            self.send({})

    async with Events(Sync) as events:
        await events.event("orm")
    assert not is_open(thread)


async def test_a_context_with_a_thread_of_its_own_hops_there(thread, database_file):
    async with Events(Consumer) as events:
        await events.event("plain")
    before = thread.hops
    async with ThreadSensitiveContext():
        await sync_to_async(use)()
        await channels.consumer.aclose_old_connections()
        assert await sync_to_async(lambda: connections[ALIAS].connection)() is None
    assert thread.hops == before


def test_below_synchronous_code_its_thread_is_the_one(thread, database_file):
    async def used_and_closed():
        await sync_to_async(use)()
        await channels.consumer.aclose_old_connections()

    async_to_sync(used_and_closed)()
    assert connections[ALIAS].connection is None
    assert thread.hops == 0


async def test_an_executor_of_many_threads_is_not_foreseen(thread, monkeypatch):
    with ThreadPoolExecutor(2) as executor:
        monkeypatch.setattr(SyncToAsync, "single_thread_executor", executor)
        await channels.consumer.aclose_old_connections()
        assert fast_dispatch._looked is None


def test_it_is_put_into_channels_and_taken_out_again(thread):
    modules = [channels.consumer, channels.db, channels.generic.websocket]
    assert {module.aclose_old_connections for module in modules} == {fast_dispatch.aclose_old_connections}
    fast_dispatch.uninstall()
    assert {module.aclose_old_connections for module in modules} == {THEIRS}
    fast_dispatch.uninstall()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda patch: patch.setattr(channels, "__version__", "5.0.0"), "Channels 5.0.0 is not known"),
        (lambda patch: patch.delattr(channels.db, "aclose_old_connections"), "has no aclose_old_connections"),
        (lambda patch: patch.setattr(connections, "_connections", object()), "in another way"),
        (lambda patch: patch.setattr(fast_dispatch.importlib.util, "find_spec", lambda name: None), "not installed"),
    ],
)
def test_what_it_does_not_know_it_leaves_alone(thread, monkeypatch, caplog, change, reason):
    fast_dispatch.uninstall()
    caplog.set_level(logging.DEBUG, "fastchannels")
    with monkeypatch.context() as patch:
        change(patch)
        assert not fast_dispatch.install()
    assert [(record.levelname, reason in record.getMessage()) for record in caplog.records] == [("DEBUG", True)]
    assert channels.consumer.aclose_old_connections is THEIRS


def test_the_setting_turns_it_off_and_one_line_says_that_it_is_on(thread, caplog):
    fast_dispatch.uninstall()
    caplog.set_level(logging.INFO, "fastchannels")
    with override_settings(FASTCHANNELS_FAST_DISPATCH=False):
        assert not fast_dispatch.install()
    assert caplog.records == []
    assert fast_dispatch.install()
    assert fast_dispatch.install()
    assert caplog.records == []
    for _ in range(3):
        asyncio.run(channels.consumer.aclose_old_connections())
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "FASTCHANNELS_FAST_DISPATCH" in record.getMessage()


class Reader(AsyncConsumer):
    """Says what it gets, from the client and from the layer."""

    async def say(self, event):
        await self.send({"said": event["number"]})

    async def again(self, event):
        await self.channel_layer.send(self.channel_name, {"type": "again"})

    async def wait(self, event):
        await self.send({"waits": True})
        await asyncio.Event().wait()

    async def wait_for(self, event):
        await self.send({"waits": True})
        await self.over.wait()

    async def stop(self, event):
        raise StopConsumer


@pytest.fixture
async def layer(thread, monkeypatch):
    layer = InMemoryChannelLayer()
    monkeypatch.setattr(channels.consumer, "get_channel_layer", lambda alias: layer)
    yield layer
    await layer.close()


@contextlib.asynccontextmanager
async def reading(layer, kind=Reader):
    """A consumer's events and its channel, once it reads."""
    name = layer.new_local_channel("specific")
    layer.new_local_channel = lambda prefix: name
    async with Events(kind) as events:
        yield events, name


async def said(events):
    return (await asyncio.wait_for(events.sent.get(), 10))["said"]


async def test_messages_of_the_layer_and_the_client_come_in_order(layer):
    async with reading(layer) as (events, name):
        for number in range(20):
            await layer.send(name, {"type": "say", "number": number})
        for number in range(100, 120):
            events.received.put_nowait({"type": "say", "number": number})
        got = [await said(events) for _ in range(40)]
    assert [number for number in got if number < 100] == list(range(20))
    assert [number for number in got if number >= 100] == list(range(100, 120))


async def test_a_message_of_the_layer_makes_no_task(layer):
    made = []

    def factory(loop, coroutine, **options):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "say", "number": 0})
        assert await said(events) == 0
        asyncio.get_running_loop().set_task_factory(factory)
        for number in range(1, 20):
            await layer.send(name, {"type": "say", "number": number})
            assert await events.sent.get() == {"said": number}
        asyncio.get_running_loop().set_task_factory(None)
    assert made == []


@pytest.mark.parametrize("way", ["layer", "client"])
async def test_what_comes_while_it_handles_a_message_is_handled_next(layer, way):
    Reader.over = asyncio.Event()
    async with reading(layer) as (events, name):
        if way == "layer":
            await layer.send(name, {"type": "wait.for"})
        else:
            events.received.put_nowait({"type": "wait.for"})
        assert await asyncio.wait_for(events.sent.get(), 10) == {"waits": True}
        events.received.put_nowait({"type": "say", "number": 1})
        await layer.send(name, {"type": "say", "number": 2})
        for _ in range(5):
            await asyncio.sleep(0)
        Reader.over.set()
        assert {await said(events), await said(events)} == {1, 2}


@pytest.mark.parametrize("way", ["layer", "client"])
async def test_one_event_that_comes_while_it_handles_a_message(layer, way):
    Reader.over = asyncio.Event()
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "wait.for"})
        assert await asyncio.wait_for(events.sent.get(), 10) == {"waits": True}
        if way == "layer":
            await layer.send(name, {"type": "say", "number": 1})
        else:
            events.received.put_nowait({"type": "say", "number": 1})
        for _ in range(5):
            await asyncio.sleep(0)
        Reader.over.set()
        assert await said(events) == 1


async def test_a_consumer_that_always_finds_a_message_lets_others_run(layer):
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "again"})
        for number in range(5):
            events.received.put_nowait({"type": "say", "number": number})
            assert await said(events) == number
        assert not events.task.done()


@pytest.mark.parametrize("way", ["layer", "client"])
async def test_what_a_cancelled_consumer_did_not_come_to_stays(layer, way):
    async with reading(layer) as (events, name):
        if way == "layer":
            await layer.send(name, {"type": "wait"})
        else:
            events.received.put_nowait({"type": "wait"})
        assert await asyncio.wait_for(events.sent.get(), 10) == {"waits": True}
        await layer.send(name, {"type": "say", "number": 1})
        events.task.cancel()
        await asyncio.wait([events.task], timeout=10)
        assert events.task.cancelled()
        assert (await asyncio.wait_for(layer.receive(name), 10))["number"] == 1
        assert layer.inbox.waiters() == []


async def test_a_cancelled_consumer_leaves_nobody_waiting(layer):
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "say", "number": 0})
        assert await said(events) == 0
        assert len(layer.inbox.waiters()) == 1
    assert events.task.cancelled()
    assert layer.inbox.waiters() == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize("way", ["layer", "client"])
async def test_a_consumer_stops(layer, way):
    async with reading(layer) as (events, name):
        if way == "layer":
            await layer.send(name, {"type": "stop"})
        else:
            events.received.put_nowait({"type": "stop"})
        await asyncio.wait_for(events.task, 10)
    assert layer.inbox.waiters() == []


@pytest.mark.parametrize("way", ["layer", "client"])
async def test_an_event_without_a_handler_ends_it(layer, way):
    async with reading(layer) as (events, name):
        if way == "layer":
            await layer.send(name, {"type": "unknown"})
        else:
            events.received.put_nowait({"type": "unknown"})
        with pytest.raises(ValueError, match="No handler"):
            await asyncio.wait_for(events.task, 10)


async def test_the_end_of_the_layer_ends_it(layer):
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "say", "number": 0})
        assert await said(events) == 0
        (waiter,) = layer.inbox.waiters()
        waiter.set_exception(LayerUnavailable("gone"))
        with pytest.raises(LayerUnavailable, match="gone"):
            await asyncio.wait_for(events.task, 10)


async def test_a_layer_that_receives_in_another_way_is_asked(thread, monkeypatch):
    class Own(InMemoryChannelLayer):
        async def receive(self, channel):
            message = await super().receive(channel)
            return {**message, "number": -message["number"]}

    layer = Own()
    monkeypatch.setattr(channels.consumer, "get_channel_layer", lambda alias: layer)
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "say", "number": 7})
        assert await said(events) == -7
    await layer.close()


async def test_messages_about_a_lost_store_come_as_by_receive(thread, monkeypatch):
    layer = InMemoryChannelLayer(on_disconnect="say")
    monkeypatch.setattr(channels.consumer, "get_channel_layer", lambda alias: layer)
    async with reading(layer) as (events, name):
        await layer.send(name, {"type": "say", "number": 7})
        assert await said(events) == 7
    await layer.close()
