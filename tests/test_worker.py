import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from fastchannels import envelope
from fastchannels import worker as worker_module
from fastchannels.channel import Channel, pending_message_store
from fastchannels.exceptions import (
    ChannelSocketException,
    ConsumeLater,
    DenyConnection,
    LayerUnavailable,
    ResponseLater,
    WebsocketCloseException,
)
from fastchannels.layers.codec import Codec
from fastchannels.routing import route
from fastchannels.sessions import channel_session
from fastchannels.worker import Worker, WorkerGroup, prepare_workers, run_workers
from tests.talk import REPLY, ack, event_content, eventually, handle, make_layer, sent

RECEIVE = "websocket.receive"
CONNECT = "websocket.connect"


def layer_for(consumer, channels=(RECEIVE, CONNECT, "http.request", "jobs"), **options):
    return make_layer([route(list(channels), consumer)], **options)


class TestOneMessage:
    def test_the_event_is_acknowledged_with_its_replies(self):
        layer = layer_for(lambda message: message.reply_channel.send({"text": message["text"]}))
        handle(layer, RECEIVE, event_content(3, text="hi"))
        assert sent(layer) == [ack(3, {"text": "hi"})]

    def test_a_message_that_is_no_event_is_not_acknowledged(self):
        layer = layer_for(lambda message: message.reply_channel.send({"text": "x"}))
        handle(layer, "jobs", {"reply_channel": REPLY})
        assert sent(layer) == [{"text": "x"}]

    def test_the_changed_session_travels_too(self):
        @channel_session
        def consumer(message):
            message.channel_session["n"] = message.channel_session.get("n", 0) + 1

        layer = layer_for(consumer)
        handle(layer, RECEIVE, event_content(3, Codec().encode({"n": 4})))
        assert sent(layer) == [ack(3, session=Codec().encode({"n": 5}))]

    def test_an_async_consumer_runs_to_its_end(self):
        async def consumer(message):
            await asyncio.sleep(0)
            message.reply_channel.send({"text": "held"})
            await asyncio.sleep(0)
            assert sent(layer) == []

        layer = layer_for(consumer)
        worker = Worker(layer, signal_handlers=False)
        for number in range(2):
            worker.handle(RECEIVE, event_content(number))
            assert sent(layer) == [ack(number, {"text": "held"})]
        worker._close()

    def test_what_an_async_consumer_left_running_ends_with_the_worker(self):
        ended, tasks = [], []

        async def consumer(message):
            async def forever():
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append(True)

            tasks.append(asyncio.get_running_loop().create_task(forever()))
            await asyncio.sleep(0)

        worker = Worker(layer_for(consumer), signal_handlers=False)
        worker.handle("jobs", {})
        worker._close()
        assert ended == [True]

    def test_signals_stand_around_the_consumer(self):
        from fastchannels.signals import consumer_finished, consumer_started

        seen = []

        def started(sender, environ, **kwargs):
            seen.append(("started", sender, environ))

        def finished(sender, **kwargs):
            seen.append(("finished", sender, sent(layer)))

        layer = layer_for(lambda message: message.reply_channel.send({"n": 1}))
        consumer_started.connect(started)
        consumer_finished.connect(finished)
        try:
            handle(layer, "jobs", {"reply_channel": REPLY})
        finally:
            consumer_started.disconnect(started)
            consumer_finished.disconnect(finished)
        # A receiver of an application hears of the end after the held messages have left.
        assert seen == [("started", Worker, {}), ("finished", Worker, [{"n": 1}])]

    def test_callback(self):
        seen = []
        handle(layer_for(lambda message: None), "jobs", {"n": 1}, callback=lambda *args: seen.append(args))
        assert [(channel, message["n"]) for channel, message in seen] == [("jobs", 1)]

    def test_a_message_for_no_route_is_logged_and_lets_the_socket_go_on(self, caplog):
        layer = make_layer([route(RECEIVE, layer_for, path="/never")])
        handle(layer, RECEIVE, event_content(3, path="/x", client=["10.0.0.1", 5]))
        assert sent(layer) == [ack(3)]
        assert "no route" in caplog.text
        assert "on websocket.receive (path /x, client 10.0.0.1:5, reply channel replies)" in caplog.text

    def test_routing_that_fails_lets_the_socket_go_on(self, caplog):
        layer = make_layer([route(RECEIVE, layer_for, order="1")])
        handle(layer, RECEIVE, event_content(3))
        assert sent(layer) == [ack(3)]
        assert "order" in caplog.text


class TestFailures:
    def test_are_logged_with_their_place_and_what_was_sent_goes_out(self, caplog):
        def consumer(message):
            message.reply_channel.send({"text": "before"})
            raise LookupError("the consumer broke")

        layer = layer_for(consumer)
        handle(layer, RECEIVE, event_content(3, path="/chat/", client=["10.0.0.1", 5]))
        assert sent(layer) == [ack(3, {"text": "before"})]
        assert "consumer tests.test_worker.TestFailures" in caplog.text
        assert "on websocket.receive (path /chat/, client 10.0.0.1:5" in caplog.text
        assert "LookupError: the consumer broke" in caplog.text
        assert [record.name for record in caplog.records] == ["fastchannels.worker"]
        assert not pending_message_store.active

    def test_of_a_session_are_named(self, caplog):
        @channel_session
        def consumer(message):
            message.channel_session["when"] = object()

        layer = layer_for(consumer)
        handle(layer, RECEIVE, event_content(3))
        assert sent(layer) == [ack(3)]
        assert "channel_session['when']" in caplog.text

    @pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, MemoryError])
    def test_of_any_kind_do_not_leave_the_loop(self, error, caplog):
        def consumer(message):
            raise error

        layer = layer_for(consumer)
        handle(layer, RECEIVE, event_content(3))
        assert sent(layer) == [ack(3)]

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    def test_but_these_do_after_the_acknowledgement(self, error):
        def consumer(message):
            raise error

        layer = layer_for(consumer)
        with pytest.raises(error):
            handle(layer, RECEIVE, event_content(3))
        assert sent(layer) == [ack(3)]

    def test_of_an_async_consumer(self, caplog):
        async def consumer(message):
            raise LookupError("async broke")

        layer = layer_for(consumer)
        worker = Worker(layer, signal_handlers=False)
        worker.handle(RECEIVE, event_content(3))
        worker._close()
        assert sent(layer) == [ack(3)]
        assert "async broke" in caplog.text

    def test_a_receiver_that_fails_does_not_stop_the_message(self, caplog):
        from fastchannels.signals import consumer_started

        def started(**kwargs):
            raise LookupError

        layer = layer_for(lambda message: message.reply_channel.send({"n": 1}))
        consumer_started.connect(started)
        try:
            handle(layer, "jobs", {"reply_channel": REPLY})
        finally:
            consumer_started.disconnect(started)
        assert sent(layer) == [{"n": 1}]


class TestRequests:
    def failing(self, error=None, before=()):
        def consumer(message):
            for content, immediately in before:
                message.reply_channel.send(content, immediately=immediately)
            raise error or LookupError("broke")

        return layer_for(consumer)

    def test_a_consumer_that_fails_is_answered_with_500(self, caplog):
        layer = self.failing()
        handle(layer, "http.request", {"reply_channel": REPLY, "path": "/"})
        [reply] = sent(layer)
        assert (reply["status"], reply["more_content"]) == (500, False)
        assert b"broke" not in reply["content"]

    def test_with_debug_the_answer_is_the_traceback(self, caplog):
        layer = self.failing()
        with override_settings(DEBUG=True):
            handle(layer, "http.request", {"reply_channel": REPLY, "path": "/"})
        assert b"LookupError: broke" in sent(layer)[0]["content"]

    @pytest.mark.parametrize("immediately", [False, True])
    def test_an_answer_that_was_begun_is_cut(self, immediately, caplog):
        begun = {"status": 200, "content": b"x", "more_content": True}
        layer = self.failing(before=[(begun, immediately)])
        handle(layer, "http.request", {"reply_channel": REPLY, "path": "/"})
        assert sent(layer) == [begun, {envelope.ABORT: True}]

    def test_not_when_another_answers_later(self):
        layer = self.failing(ResponseLater())
        handle(layer, "http.request", {"reply_channel": REPLY, "path": "/"})
        assert sent(layer) == []


class TestConsumeLater:
    def runs(self, layer, channel, content, **options):
        """Handle ``content`` until it does not come back."""
        for count in range(1, 100):
            handle(layer, channel, content, **options)
            _, content = layer.receive_many([channel])
            if content is None:
                return count
        raise AssertionError("it never ends")

    def test_runs_eleven_times_and_is_doomed_at_the_last(self, caplog):
        doomed = []

        def consumer(message):
            doomed.append(message.__doomed__)
            raise ConsumeLater

        assert self.runs(layer_for(consumer), "jobs", {}) == 11
        assert doomed == [False] * 10 + [True]
        assert "raised 11 times" in caplog.text

    def test_keeps_the_place_of_the_event_and_its_session(self):
        @channel_session
        def consumer(message):
            tries = message.channel_session.setdefault("tries", 0)
            assert (message.event, message["text"]) == (5, "x")
            if tries < 2:
                message.channel_session["tries"] = tries + 1
                raise ConsumeLater
            message.reply_channel.send({"text": "done"})

        layer = layer_for(consumer)
        assert self.runs(layer, RECEIVE, event_content(5, text="x")) == 3
        assert sent(layer) == [ack(5, {"text": "done"}, session=Codec().encode({"tries": 2}))]

    def test_is_acknowledged_when_its_retries_are_spent(self, caplog):
        def consumer(message):
            message.reply_channel.send({"text": "never"})
            raise ConsumeLater

        layer = layer_for(consumer)
        assert self.runs(layer, RECEIVE, event_content(5), message_retries=2) == 3
        assert sent(layer) == [ack(5)]

    def test_strict_mode_sends_what_was_held(self, caplog):
        def consumer(message):
            message.reply_channel.send({"text": "again"})
            raise ConsumeLater

        layer = layer_for(consumer)
        with override_settings(FASTCHANNELS_STRICT_1X=True):
            self.runs(layer, RECEIVE, event_content(5), message_retries=1)
        assert sent(layer) == [{"text": "again"}, ack(5, {"text": "again"})]

    def test_no_room_to_put_it_back(self, monkeypatch, caplog):
        monkeypatch.setattr(worker_module, "REQUEUE_PAUSE", 0.001)

        def consumer(message):
            raise ConsumeLater

        layer = layer_for(consumer, channel_capacity={RECEIVE: 1})
        layer.send(RECEIVE, {})
        handle(layer, RECEIVE, event_content(5))
        assert sent(layer) == [ack(5)]
        assert "stayed full" in caplog.text

    def test_a_layer_that_fails(self, monkeypatch, caplog):
        def consumer(message):
            raise ConsumeLater

        layer = layer_for(consumer)
        send = layer.send

        def fail(channel, message):
            if channel == RECEIVE:
                raise LayerUnavailable("away")
            send(channel, message)

        monkeypatch.setattr(layer, "send", fail)
        handle(layer, RECEIVE, event_content(5))
        assert sent(layer) == [ack(5)]


class TestSteering:
    def run(self, error, channel=CONNECT, before=()):
        def consumer(message):
            for content in before:
                message.reply_channel.send(content)
            raise error

        layer = layer_for(consumer)
        handle(layer, channel, event_content(0))
        return sent(layer)

    def test_deny_connection(self):
        assert self.run(DenyConnection) == [ack(0, {"close": True})]

    def test_deny_connection_elsewhere_is_an_error(self, caplog):
        assert self.run(DenyConnection, RECEIVE, [{"text": "x"}]) == [ack(0, {"text": "x"})]
        assert "DenyConnection" in caplog.text

    def test_closing_by_exception(self):
        assert self.run(WebsocketCloseException(4000), RECEIVE, [{"text": "x"}]) == [
            ack(0, {"text": "x"}, {"close": 4000})
        ]

    def test_an_action_that_fails_is_logged(self, caplog):
        class Broken(ChannelSocketException):
            def run(self, message):
                raise LookupError("the action broke")

        assert self.run(Broken) == [ack(0, {envelope.ABORT: True})]
        assert "the action broke" in caplog.text


class TestDeathAndFailure:
    """What becomes of an event whose worker died, and of a socket whose consumer raised."""

    def route(self, consumer, **options):
        layer = make_layer([route(RECEIVE, consumer, **options), route(CONNECT, consumer, **options)])
        return layer

    def test_a_consumer_is_not_run_again(self, caplog):
        ran = []
        layer = self.route(ran.append)
        handle(layer, RECEIVE, {**event_content(3), envelope.REDELIVERED: 1})
        assert ran == []
        assert sent(layer) == [{**ack(3), envelope.LOST: True}]
        assert "a worker died with a message on websocket.receive" in caplog.text

    def test_unless_its_route_asks_for_it(self):
        layer = self.route(lambda message: message.reply_channel.send({"n": message.redelivered}), redeliver=True)
        handle(layer, RECEIVE, {**event_content(3), envelope.REDELIVERED: 2})
        assert sent(layer) == [ack(3, {"n": 2})]

    @pytest.mark.parametrize(
        ("on_error", "replies"), [("keep", [{"n": 1}]), ("close", [{"n": 1}, {envelope.ABORT: True}])]
    )
    def test_a_socket_is_kept_or_closed(self, on_error, replies):
        def consumer(message):
            message.reply_channel.send({"n": 1})
            raise LookupError

        layer = self.route(consumer, on_error=on_error)
        handle(layer, RECEIVE, event_content(3))
        assert sent(layer) == [ack(3, *replies)]

    def test_a_handshake_that_nobody_answers_is_refused_at_once(self):
        def consumer(message):
            raise LookupError

        layer = self.route(consumer)
        handle(layer, CONNECT, event_content(0, headers=[]))
        assert sent(layer) == [ack(0, {envelope.ABORT: True})]

    def test_the_log_names_the_user_who_was_loaded(self, caplog):
        def consumer(message):
            message.user = "ada"
            raise LookupError

        handle(self.route(consumer), RECEIVE, event_content(3))
        assert "(path /, reply channel replies, user ada)" in caplog.text


class TestOverdue:
    def test_another_thread_takes_the_place(self, caplog):
        """Two hanging consumers on two threads, and the other messages are handled."""
        release, got = threading.Event(), []

        def consumer(message):
            if message["n"] < 2:
                assert release.wait(20)
            got.append(message["n"])

        layer = layer_for(consumer)
        group = WorkerGroup(layer, signal_handlers=False, n_threads=2, deadline=0.05)
        thread = in_thread(group)
        try:
            for number in range(10):
                layer.send(RECEIVE, {"n": number})
            eventually(lambda: len(got) == 8, "the others are handled")
            assert sorted(got) == list(range(2, 10))
            eventually(lambda: caplog.text.count("release.wait(20)") >= 2, "the stacks are told")
            release.set()
            eventually(lambda: len(got) == 10, "those that hung ended")
            eventually(lambda: len(group.workers) == 2, "as many threads as before")
        finally:
            release.set()
            group.stop()
            thread.join(10)
        assert not thread.is_alive()

    def test_there_is_an_end_to_it(self, monkeypatch, caplog):
        monkeypatch.setattr(worker_module, "MAX_SUBSTITUTES", 1)
        release, started = threading.Event(), []

        def consumer(message):
            started.append(message["n"])
            assert release.wait(20)

        layer = layer_for(consumer)
        group = WorkerGroup(layer, signal_handlers=False, n_threads=1, deadline=0.05)
        thread = in_thread(group)
        try:
            for number in range(4):
                layer.send(RECEIVE, {"n": number})
            eventually(lambda: "no more threads" in caplog.text, "the bound is told")
            assert len(started) == 2
        finally:
            release.set()
            eventually(lambda: len(started) == 4, "all are handled in the end")
            group.stop()
            thread.join(10)


class TestTurns:
    """Several messages are taken at a time, and answered together, while consumers are fast."""

    @pytest.fixture
    def work(self):
        started = []

        def start(layer, **options):
            worker = Worker(layer, signal_handlers=False, **options)
            worker._longest = 1e-6
            started.append((worker, in_thread(worker)))
            return worker

        yield start
        for worker, thread in started:
            worker.termed = True
            thread.join(20)
            assert not thread.is_alive()

    def test_the_slowest_of_late_says_how_many_are_taken(self):
        worker = Worker(layer_for(lambda message: None), signal_handlers=False)
        taken = []
        worker._replies.turn = lambda channels, most, timeout: taken.append(most) or []
        for longest in (1e-6, 0.0001, 0.0009, 0.002, 5.0):
            worker._longest = longest
            worker._take([RECEIVE])
        assert taken == [32, 20, 2, 1, 1]

    def test_a_single_worker_keeps_the_order_of_an_own_channel(self, work):
        """Also when a consumer takes long at which the watchdog puts back what waits in the hand."""
        release, began, ran = threading.Event(), threading.Event(), []

        def consumer(message):
            if message.channel.name == "jobs":
                ran.append(message["n"])
                if message["n"] == 3:
                    began.set()
                    assert release.wait(20)

        layer = layer_for(consumer, capacity=1000)
        for number in range(100):
            layer.send("jobs", {"n": number})
        for number in range(300):
            layer.send(RECEIVE, event_content(number))
        work(layer)
        try:
            assert began.wait(10)
            # Past the time at which a waiting message is put back.
            eventually(lambda: any(envelope.BUSY in note for note in sent(layer)), "the slow one is seen")
        finally:
            release.set()
        eventually(lambda: len(ran) == 100, "all are run")
        assert ran == list(range(100))

    def test_own_channels_do_not_starve_beside_events(self, work):
        ran = []
        layer = layer_for(lambda message: ran.append(message.channel.name), capacity=1000)
        for number in range(300):
            layer.send(RECEIVE, event_content(number))
        layer.send("jobs", {})
        work(layer)
        eventually(lambda: len(ran) == 301, "all are run")
        assert ran[0] == "jobs"

    def test_answers_wait_for_the_turn_and_arrive_in_order(self, work):
        layer = layer_for(lambda message: message.reply_channel.send({"text": message["text"]}))
        for number in range(100):
            layer.send(RECEIVE, event_content(number, text=str(number)))
        work(layer)
        found = []
        eventually(lambda: found.extend(sent(layer)) or len(found) == 100, "all are answered")
        assert found == [ack(number, {"text": str(number)}) for number in range(100)]

    def test_nothing_that_is_sent_at_once_overtakes_an_answer(self, work):
        def consumer(message):
            message.reply_channel.send({"text": "held"})
            if message["order"] % 3 == 1:
                message.reply_channel.send({"text": "at once"}, immediately=True)
            if message["order"] % 3 == 2:
                Channel(REPLY, channel_layer=layer).send({"text": "first"})
                Channel("other", channel_layer=layer).send({})

        layer = layer_for(consumer)
        for number in range(30):
            layer.send(RECEIVE, event_content(number))
        work(layer)
        found = []
        eventually(lambda: found.extend(sent(layer)) or len(found) == 60, "all are answered")
        expected = []
        for number in range(0, 30, 3):
            expected += [ack(number, {"text": "held"}), {"text": "at once"}, ack(number + 1, {"text": "held"})]
            expected += [{"text": "held"}, {"text": "first"}, ack(number + 2)]
        assert found == expected

    def test_what_waits_for_a_slow_consumer_goes_back_and_what_was_answered_leaves(self, work):
        release, began, ran = threading.Event(), threading.Event(), []

        def consumer(message):
            if message["text"] == "slow":
                began.set()
                assert release.wait(20)
            ran.append(message["text"])
            message.reply_channel.send({"text": message["text"]})

        layer = layer_for(consumer)
        for number, text in enumerate(("before", "slow", "behind", "last")):
            layer.send(RECEIVE, event_content(number, b"session", text=text))
        work(layer)
        try:
            assert began.wait(10)
            found = []
            # Their server hears that they are in good hands before they are put behind others.
            eventually(lambda: found.extend(sent(layer)) or len(found) >= 3, "what waits is relieved")
            assert found[:3] == [ack(0, {"text": "before"}), {envelope.BUSY: 2}, {envelope.BUSY: 3}]
            work(layer)
            eventually(lambda: ran == ["before", "behind", "last"], "another thread runs them")
        finally:
            release.set()
        found = []
        eventually(
            lambda: found.extend(sent(layer)) or len([note for note in found if envelope.ACK in note]) == 3, "all"
        )
        assert sorted(note[envelope.ACK] for note in found if envelope.ACK in note) == [1, 2, 3]
        assert ran == ["before", "behind", "last", "slow"]

    def test_what_finds_no_room_to_go_back_waits(self, work, caplog):
        release, began, ran = threading.Event(), threading.Event(), []

        def consumer(message):
            ran.append(message["text"])
            if message["text"] == "slow":
                began.set()
                assert release.wait(20)

        layer = layer_for(consumer, channel_capacity={RECEIVE: 2})
        for number, text in enumerate(("slow", "behind")):
            layer.send(RECEIVE, event_content(number, text=text))
        work(layer)
        try:
            assert began.wait(10)
            for _ in range(2):
                layer.send(RECEIVE, event_content(9, text="more"))
            eventually(lambda: "waits for a consumer that takes its time" in caplog.text, "there is no room")
        finally:
            release.set()
        eventually(lambda: ran == ["slow", "behind", "more", "more"], "all are run")

    def test_a_consumer_that_ends_the_worker_leaves_the_others_to_the_next(self):
        def consumer(message):
            if message["n"] == 1:
                raise SystemExit(3)

        layer = layer_for(consumer)
        for number in range(4):
            layer.send("jobs", {"n": number})
        worker = Worker(layer, signal_handlers=False)
        worker._longest = 1e-6
        with pytest.raises(SystemExit):
            worker.run()
        assert [message["n"] for message in sent(layer, "jobs")] == [2, 3]

    def test_a_limit_of_no_async_consumers_is_refused(self):
        with pytest.raises(ImproperlyConfigured, match="async_limit=0"):
            Worker(make_layer([]), async_limit=0)

    @pytest.mark.parametrize("threads", [0, -1])
    def test_no_threads_are_refused(self, threads):
        with pytest.raises(ImproperlyConfigured, match=f"threads={threads}: at least 1 is needed"):
            prepare_workers(make_layer([]), n_threads=threads, in_process=True)


def in_thread(worker):
    thread = threading.Thread(target=worker.run)
    thread.start()
    return thread


class TestLoop:
    def test_takes_messages_until_it_is_termed(self):
        got = []
        layer = layer_for(lambda message: got.append(message["n"]))
        worker = Worker(layer, signal_handlers=False)
        thread = in_thread(worker)
        for number in range(5):
            layer.send("jobs", {"n": number})
        eventually(lambda: len(got) == 5, "all messages were handled")
        worker.termed = True
        thread.join(5)
        assert not thread.is_alive()
        assert got == list(range(5))
        assert not worker.in_job

    def test_channel_filters(self):
        names = ["a.one", "a.two", "b.one", "a"]
        layer = make_layer()
        assert Worker(layer, only_channels=["a.*"]).apply_channel_filters(names) == ["a.one", "a.two"]
        assert Worker(layer, exclude_channels=["*.one"]).apply_channel_filters(names) == ["a", "a.two"]
        both = Worker(layer, only_channels=["a.*", "b.*"], exclude_channels=["a.two"])
        assert both.apply_channel_filters(names) == ["a.one", "b.one"]

    def test_a_layer_that_is_away_is_waited_for(self, monkeypatch, caplog):
        caplog.set_level("INFO", "fastchannels.worker")
        monkeypatch.setattr(worker_module, "BACK_OFF", 0.01)
        layer = layer_for(lambda message: Channel("done", channel_layer=layer).send({}))
        take_turn, failures = layer.take_turn, iter([LayerUnavailable("redis is away")] * 3)

        def take(*args, **kwargs):
            if (error := next(failures, None)) is not None:
                raise error
            return take_turn(*args, **kwargs)

        monkeypatch.setattr(layer, "take_turn", take)
        worker = Worker(layer, signal_handlers=False)
        thread = in_thread(worker)
        layer.send("jobs", {})
        eventually(lambda: layer.receive_many(["done"])[0], "the message was handled")
        worker.termed = True
        thread.join(5)
        waits = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert [wait.rpartition(" in ")[2] for wait in waits] == ["0.0 s", "0.0 s", "0.0 s"]
        assert "redis is away" in waits[0]
        assert "can be read again" in caplog.text

    def test_termed_ends_the_waiting_for_a_layer(self, monkeypatch):
        monkeypatch.setattr(worker_module, "BACK_OFF", 60.0)
        monkeypatch.setattr(worker_module, "BACK_OFF_MAX", 60.0)
        layer = layer_for(lambda message: None)
        failed = threading.Event()

        def take(*args, **kwargs):
            failed.set()
            raise LayerUnavailable("away")

        monkeypatch.setattr(layer, "take_turn", take)
        worker = Worker(layer, signal_handlers=False)
        thread = in_thread(worker)
        assert failed.wait(5)
        worker.termed = True
        thread.join(5)
        assert not thread.is_alive()


class TestGroup:
    def test_runs_consumers_side_by_side_and_stops(self):
        together = threading.Barrier(3)
        layer = layer_for(lambda message: together.wait(10))
        group = WorkerGroup(layer, n_threads=2, signal_handlers=False)
        thread = in_thread(group)
        layer.send("jobs", {})
        layer.send("jobs", {})
        together.wait(10)
        group.stop()
        thread.join(5)
        assert not thread.is_alive()

    def test_ready_is_sent_for_each_worker(self):
        from fastchannels.signals import worker_ready

        seen = []

        def ready(sender, **kwargs):
            seen.append(sender)

        group = WorkerGroup(layer_for(lambda message: None), n_threads=3)
        worker_ready.connect(ready)
        try:
            group.ready()
        finally:
            worker_ready.disconnect(ready)
        assert seen == group.workers

    def test_waits_for_consumers_only_so_long(self, caplog):
        started, end = threading.Event(), threading.Event()

        def consumer(message):
            started.set()
            end.wait(10)

        layer = layer_for(consumer)
        group = WorkerGroup(layer, n_threads=1, signal_handlers=False, shutdown_timeout=0.05)
        layer.send("jobs", {})
        threading.Thread(target=lambda: (started.wait(10), group.stop()), daemon=True).start()
        with pytest.raises(SystemExit) as raised:
            group.run()
        end.set()
        assert raised.value.code == 1
        assert "fastchannels-worker-1 did not finish within 0.05 s" in caplog.text

    def test_system_exit_in_a_consumer_ends_it(self):
        def consumer(message):
            raise SystemExit(7)

        layer = layer_for(consumer)
        layer.send("jobs", {})
        with pytest.raises(SystemExit) as raised:
            WorkerGroup(layer, n_threads=2, signal_handlers=False).run()
        assert raised.value.code == 7


class TestPreparing:
    def test_the_default_routes_are_added(self):
        group = prepare_workers(make_layer([]), in_process=True, n_threads=1)
        assert group.channel_layer.router.channels == {
            "http.request",
            "websocket.connect",
            "websocket.receive",
            "websocket.disconnect",
        }

    def test_a_layer_of_one_process_is_refused(self):
        with pytest.raises(ImproperlyConfigured, match="lives in one process only"):
            run_workers(make_layer([]))

    def test_filters_that_leave_nothing(self):
        with pytest.raises(ImproperlyConfigured, match=r"leave no channel of the routing, which has http\.request"):
            prepare_workers(make_layer([]), in_process=True, only_channels=["nope"])

    def test_a_session_engine_that_is_not_there(self):
        with override_settings(CHANNEL_SESSION_ENGINE="x"), pytest.raises(ImproperlyConfigured):
            Worker(make_layer([]))


PROCESS = r"""
import logging, os, sys, time
import tests.conftest
from fastchannels.routing import route
from fastchannels.worker import Worker, WorkerGroup
from tests.talk import make_layer

def say(line):
    # In one write, for several threads say something.
    os.write(1, line.encode() + b"\n")

def consumer(message):
    say("started")
    time.sleep(message["seconds"])
    say("finished")

class Running(logging.Handler):
    def emit(self, record):
        say("running")

layer = make_layer([route("jobs", consumer)])
kind, seconds = sys.argv[1], float(sys.argv[2])
if seconds:
    layer.send("jobs", {"seconds": seconds})
worker = WorkerGroup(layer, n_threads=2) if kind == "group" else Worker(layer)
# The workers say on which channels they listen, after the signal handlers were set.
logging.getLogger("fastchannels.worker").addHandler(Running())
logging.getLogger("fastchannels.worker").setLevel("INFO")
worker.run()
say("left")
"""


class TestSignals:
    """A process of its own, for signals end processes."""

    @pytest.fixture(autouse=True)
    def processes(self):
        self.started = []
        yield
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def start(self, kind, seconds, until):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROCESS), kind, str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
        self.started.append(process)
        while (line := process.stdout.readline()) != f"{until}\n":
            assert line, "the process ended"
        return process

    def finish(self, process, seconds):
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, [line for line in output.split() if line != "running"]

    @pytest.mark.parametrize("kind", ["single", "group"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_idle_it_exits_soon(self, kind, number):
        process = self.start(kind, 0, "running")
        begun = time.monotonic()
        process.send_signal(number)
        assert self.finish(process, 10) == (0, ["left"])
        # Within a second of an idle machine: half of one until a thread looks, and the end of the interpreter.
        assert time.monotonic() - begun < 5

    @pytest.mark.parametrize("kind", ["single", "group"])
    def test_busy_it_finishes_the_message(self, kind):
        process = self.start(kind, 0.5, "started")
        process.send_signal(signal.SIGTERM)
        assert self.finish(process, 10) == (0, ["finished", "left"])

    @pytest.mark.parametrize("kind", ["single", "group"])
    def test_a_second_signal_does_not_wait(self, kind):
        process = self.start(kind, 60, "started")
        process.send_signal(signal.SIGTERM)
        eventually(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None, "it ended")
        assert self.finish(process, 10) == (1, [])
