import asyncio
import contextvars
import functools
import threading
import time

import pytest

from fastchannels import envelope
from fastchannels.async_consumers import AsyncConsumers, AsyncRun
from fastchannels.channel import Channel, Group
from fastchannels.exceptions import ConsumeLater, DenyConnection
from fastchannels.routing import route
from fastchannels.sessions import channel_session
from fastchannels.signals import consumer_finished
from fastchannels.worker import Worker, WorkerGroup
from tests.talk import ack, event_content, eventually, make_layer, sent

RECEIVE = "websocket.receive"


@pytest.fixture
def run():
    """Starts a group of one thread, and ends it."""
    started = []

    def start(layer, **options):
        group = WorkerGroup(layer, n_threads=1, signal_handlers=False, **options)
        group.failed, group.ended_well = [], False

        def work():
            try:
                group.run()
                group.ended_well = True
            except BaseException as error:
                group.failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        started.append((group, thread))
        return group

    yield start
    for group, thread in started:
        group.stop()
        thread.join(20)
        assert not thread.is_alive()
    names = {thread.name for thread in threading.enumerate()}
    assert "fastchannels-async-consumers" not in names


def layer_for(consumer, channel=RECEIVE, **options):
    return make_layer([route(channel, consumer)], capacity=10_000, **options)


def test_a_thousand_sleep_at_once(run):
    done = []

    async def consumer(message):
        await asyncio.sleep(1.0)
        done.append(message["n"])

    layer = layer_for(consumer, "jobs")
    for number in range(1000):
        layer.send("jobs", {"n": number})
    begun = time.monotonic()
    run(layer)
    eventually(lambda: len(done) == 1000, "all have slept", 30)
    # One after the other it were a thousand seconds.
    assert time.monotonic() - begun < 10
    assert sorted(done) == list(range(1000))


def test_no_more_than_the_limit_run_and_other_channels_go_on(run):
    running, most, done, release = set(), [], [], threading.Event()

    async def consumer(message):
        running.add(message["n"])
        most.append(len(running))
        await asyncio.to_thread(release.wait, 20)
        running.discard(message["n"])
        done.append(message["n"])

    layer = make_layer([route("async", consumer), route("plain", lambda message: done.append("plain"))])
    for number in range(10):
        layer.send("async", {"n": number})
    run(layer, async_limit=3)
    eventually(lambda: len(running) == 3, "as many as may run")
    layer.send("plain", {})
    eventually(lambda: done == ["plain"], "the thread goes on with the other channel")
    release.set()
    eventually(lambda: len(done) == 11, "all are done")
    assert max(most) == 3


def test_one_that_hangs_gives_its_place_to_another_and_its_stack_to_the_log(run, caplog):
    done, release = [], threading.Event()

    async def waits_for_good():
        await asyncio.to_thread(release.wait, 20)

    async def consumer(message):
        if message["n"] == 0:
            await waits_for_good()
        done.append(message["n"])

    layer = layer_for(consumer, "jobs")
    run(layer, async_limit=1, deadline=0.05)
    layer.send("jobs", {"n": 0})
    layer.send("jobs", {"n": 1})
    eventually(lambda: done == [1], "the second one runs")
    release.set()
    eventually(lambda: done == [1, 0], "the first one goes on")
    assert "in waits_for_good" in caplog.text


def test_a_place_is_not_given_back_twice():
    places = AsyncConsumers(make_layer(), 2)
    assert [places.reserve(3), places.reserve(1)] == [2, 0]
    places.release(0)
    assert places.reserve(1) == 0
    places.release()
    places.wait_for_room(10)
    assert places.reserve(5) == 1


def test_a_place_of_one_that_ends_as_it_is_overdue_is_given_back_once():
    class Run(AsyncRun):
        def __init__(self):
            super().__init__(worker, None, None, None, None, None)

    worker = Worker(make_layer(), signal_handlers=False, async_limit=10)
    places = worker.async_consumers
    for _ in range(300):
        assert places.reserve(1) == 1
        ended, together = Run(), threading.Barrier(4)

        def release(ended=ended, together=together):
            together.wait(10)
            ended._release()

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert places.reserve(20) == 10


def test_a_message_that_was_taken_back_has_no_place():
    """The watchdog empties the hand while the worker looks for more."""
    layer = make_layer([route(RECEIVE, lambda message: None)])
    worker = Worker(layer, signal_handlers=False, async_limit=10)
    layer.send(RECEIVE, event_content(1))
    turn = worker._replies.turn

    def overtaken(*args):
        taken = turn(*args)
        worker._hand.extend([(RECEIVE, event_content(0))])
        worker._relieve()
        return taken

    worker.async_consumers.reserve(1)
    worker._replies.turn = overtaken
    worker._take([RECEIVE])
    worker._replies.turn = turn
    assert len(worker._hand) == 1
    worker._work_off()
    assert worker.async_consumers.reserve(20) == 10


def test_what_is_held_leaves_at_the_end_each_for_its_own_socket(run):
    together = threading.Barrier(2)

    async def consumer(message):
        message.reply_channel.send({"text": f"{message['text']} 1"})
        await asyncio.to_thread(together.wait, 20)
        assert sent(layer, "one") == sent(layer, "two") == []
        await asyncio.to_thread(together.wait, 20)
        message.reply_channel.send({"text": f"{message['text']} 2"})
        Channel("other", channel_layer=layer).send({"text": "at once"}, immediately=True)

    layer = layer_for(consumer)
    run(layer)
    for number, name in enumerate(("one", "two")):
        layer.send(RECEIVE, {**event_content(number, text=name), "reply_channel": name})
    found = {"one": [], "two": [], "other": []}

    def all_are_there():
        for name, messages in found.items():
            messages.extend(sent(layer, name))
        return [len(messages) for messages in found.values()] == [1, 1, 2]

    eventually(all_are_there, "all are acknowledged")
    assert found["one"] == [ack(0, {"text": "one 1"}, {"text": "one 2"})]
    assert found["two"] == [ack(1, {"text": "two 1"}, {"text": "two 2"})]


def test_what_is_too_large_together_leaves_apart(run):
    async def consumer(message):
        for letter in "ab":
            message.reply_channel.send({"text": letter * 60})
        Group("all", channel_layer=layer).send({"text": "first"})
        for letter in "cd":
            message.reply_channel.send({"text": letter * 60})

    layer = layer_for(consumer, max_message_size=150)
    layer.group_add("all", "replies")
    run(layer)
    layer.send(RECEIVE, event_content(1))
    found = []
    eventually(lambda: found.extend(sent(layer)) or len(found) == 6, "all are sent")
    assert [message.get("text", "")[:5] for message in found] == ["a" * 5, "b" * 5, "first", "c" * 5, "d" * 5, ""]
    assert found[-1] == ack(1)


def test_one_that_outlives_its_consumer_sends_at_once(run):
    async def late(message):
        message.reply_channel.send({"text": "held"})
        await asyncio.sleep(0.2)
        message.reply_channel.send({"text": "at once"})

    tasks = []

    async def consumer(message):
        tasks.append(asyncio.get_running_loop().create_task(late(message)))
        await asyncio.sleep(0)

    layer = layer_for(consumer)
    run(layer)
    layer.send(RECEIVE, event_content(1))
    found = []
    eventually(lambda: found.extend(sent(layer)) or len(found) == 2, "both are there")
    assert found == [ack(1, {"text": "held"}), {"text": "at once"}]


def test_sessions_and_exceptions_are_those_of_plain_consumers(run, caplog):
    @channel_session
    async def consumer(message):
        await asyncio.sleep(0)
        kind = message["text"]
        message.channel_session["last"] = kind
        if kind == "later" and not message.get("__retries__"):
            raise ConsumeLater
        if kind == "broken":
            raise LookupError("async broke")
        if kind == "denied":
            raise DenyConnection
        if kind == "cancelled":
            raise asyncio.CancelledError
        message.reply_channel.send({"text": "fine"})

    layer = layer_for(consumer)
    run(layer)
    answers = {}
    for number, kind in enumerate(("fine", "later", "broken", "denied", "cancelled")):
        layer.send(RECEIVE, {**event_content(number, text=kind)})
        found = []
        eventually(lambda found=found: found.extend(sent(layer)) or found, f"{kind} is acknowledged")
        [answers[kind]] = found
    assert [answer[envelope.ACK] for answer in answers.values()] == list(range(5))
    assert [len(answer[envelope.REPLIES]) for answer in answers.values()] == [1, 1, 0, 0, 0]
    assert all(kind.encode() in answer[envelope.SESSION] for kind, answer in answers.items())
    assert "async broke" in caplog.text
    assert caplog.text.count("consumer tests.test_async_consumers") == 3


def test_a_receiver_hears_of_the_end_when_the_messages_have_left(run):
    heard = []

    def finished(sender, **kwargs):
        heard.append((sender, sent(layer)))

    async def consumer(message):
        message.reply_channel.send({"n": 1})

    layer = layer_for(consumer)
    consumer_finished.connect(finished)
    try:
        run(layer)
        layer.send(RECEIVE, {"reply_channel": "replies"})
        eventually(lambda: heard, "the signal is sent")
    finally:
        consumer_finished.disconnect(finished)
    assert heard == [(Worker, [{"n": 1}])]


def test_system_exit_ends_the_group(run):
    async def consumer(message):
        raise SystemExit(7)

    layer = layer_for(consumer)
    group = run(layer)
    layer.send(RECEIVE, event_content(1))
    eventually(lambda: group.failed, "the group ends")
    assert group.failed[0].code == 7
    assert sent(layer) == [ack(1)]


def test_a_stop_waits_for_those_that_run(run):
    begun, done = threading.Event(), []

    async def consumer(message):
        begun.set()
        await asyncio.sleep(0.3)
        message.reply_channel.send({"text": "done"})
        done.append(True)

    layer = layer_for(consumer)
    group = run(layer)
    layer.send(RECEIVE, event_content(1))
    assert begun.wait(10)
    group.stop()
    eventually(lambda: group.ended_well, "the group ends")
    assert done
    assert sent(layer) == [ack(1, {"text": "done"})]


def test_a_stop_ends_with_the_last_consumer():
    consumers = AsyncConsumers(make_layer())
    begun, ended = threading.Barrier(3), []

    async def consumer(seconds):
        await asyncio.to_thread(begun.wait, 10)
        await asyncio.sleep(seconds)
        ended.append(time.monotonic())

    consumers.start()
    for seconds in (0.1, 0.3):
        consumers.submit(functools.partial(consumer, seconds), contextvars.copy_context())
    begun.wait(10)
    assert consumers.stop(20)
    assert len(ended) == 2
    assert consumers.stop(20), "there is nothing to stop"


@pytest.mark.parametrize("submitted", [True, False])
def test_a_stop_does_not_wait_for_a_loop_that_is_held_up(submitted, caplog):
    consumers = AsyncConsumers(make_layer())
    begun, release = threading.Event(), threading.Event()

    async def consumer():
        begun.set()
        release.wait(20)

    async def nothing():
        pass

    consumers.start()
    consumers.submit(consumer, contextvars.copy_context())
    assert begun.wait(10)
    if submitted:
        consumers.submit(nothing, contextvars.copy_context())
    threading.Timer(0.5, release.set).start()
    assert not consumers.stop(0.1)
    assert "1 async consumers did not finish within 0.1 s" in caplog.text


def test_a_stop_cancels_those_that_do_not_end(run, caplog):
    begun, cleaned = threading.Event(), []

    async def consumer(message):
        message.reply_channel.send({"text": "never"})
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    layer = layer_for(consumer)
    group = run(layer, shutdown_timeout=0.2)
    layer.send(RECEIVE, event_content(1))
    assert begun.wait(10)
    group.stop()
    eventually(lambda: group.failed, "the group ends")
    assert group.failed[0].code == 1
    assert cleaned == [True]
    # Nobody acknowledges it: its server sends it again, where the route asks for that.
    assert sent(layer) == []
    assert "1 async consumers did not finish within" in caplog.text
    assert "was cancelled on websocket.receive" in caplog.text


def test_events_of_one_socket_wait_for_each_other(run):
    """As a server does: the next event leaves with the acknowledgement of the last."""
    seen = {name: [] for name in ("a", "b", "c")}

    async def consumer(message):
        name = message["text"]
        seen[name].append(("begun", message["order"]))
        await asyncio.sleep(0.001 * (hash((name, message["order"])) % 7))
        seen[name].append(("ended", message["order"]))

    layer = layer_for(consumer)
    run(layer)
    sockets = dict.fromkeys(seen, 0)
    for name in sockets:
        layer.send(RECEIVE, {**event_content(0, text=name), "reply_channel": name})

    def drive():
        for name in sockets:
            for note in sent(layer, name):
                assert note[envelope.ACK] == sockets[name]
                sockets[name] += 1
                if sockets[name] < 50:
                    layer.send(RECEIVE, {**event_content(sockets[name], text=name), "reply_channel": name})
        return min(sockets.values()) == 50

    eventually(drive, "all events are acknowledged", 30)
    for found in seen.values():
        assert found == [(what, number) for number in range(50) for what in ("begun", "ended")]
