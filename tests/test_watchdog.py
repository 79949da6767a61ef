import threading
import time

import pytest

from fastchannels import envelope
from fastchannels.exceptions import ChannelFull
from fastchannels.routing import route
from fastchannels.watchdog import Running, Watchdog, watch, where
from fastchannels.worker import Worker
from tests.talk import ack, event_content, eventually, handle, make_event, make_layer, make_message, sent

RECEIVE = "websocket.receive"


def layer_for(consumer):
    return make_layer([route(RECEIVE, consumer)])


class TestBusyNotes:
    @pytest.fixture(autouse=True)
    def short_interval(self, monkeypatch):
        monkeypatch.setattr(envelope, "BUSY_INTERVAL", 0.05)

    def test_tell_of_a_consumer_that_sleeps(self):
        notes = []

        def consumer(message):
            deadline = time.monotonic() + 10
            # Sleeping, as a consumer that waits for something outside does.
            while len(notes) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)
                notes.extend(sent(layer))

        layer = layer_for(consumer)
        worker = Worker(layer, signal_handlers=False)
        with watch.watching():
            worker.handle(RECEIVE, event_content(9))
        assert notes[:2] == [{envelope.BUSY: 9}] * 2
        assert sent(layer)[-1] == ack(9)

    def test_end_with_the_consumer_and_the_last_worker(self):
        layer = layer_for(lambda message: None)
        with watch.watching(), watch.watching():
            handle(layer, RECEIVE, event_content(9))
            assert watch._running == {}
            assert "fastchannels-watchdog" in {thread.name for thread in threading.enumerate()}
        eventually(
            lambda: "fastchannels-watchdog" not in {thread.name for thread in threading.enumerate()}, "the thread ended"
        )

    @pytest.mark.parametrize("error", [ChannelFull("full"), LookupError("away")])
    def test_survive_a_layer_that_fails(self, error, monkeypatch, caplog):
        failed = threading.Event()

        def consumer(message):
            assert failed.wait(10)

        layer = layer_for(consumer)
        send = layer.send

        def fail_once(channel, message):
            if envelope.BUSY in message and not failed.is_set():
                failed.set()
                raise error
            send(channel, message)

        monkeypatch.setattr(layer, "send", fail_once)
        with watch.watching():
            handle(layer, RECEIVE, event_content(9))
        assert failed.is_set()
        assert ack(9) in sent(layer)


class TestDeadline:
    def look(self, running, *times):
        dog = Watchdog()
        dog.begin(running)
        for after in times:
            dog.look(running.begun + after)

    def test_a_consumer_past_it_is_reported_once_with_its_stack(self, caplog):
        called = []
        self.look(Running(make_message(make_layer()), 5.0, lambda: called.append(1)), 4.9, 5.1, 6.1)
        assert called == [1]
        assert caplog.text.count("a consumer has run for 5 s on websocket.receive (path /") == 1
        assert "test_a_consumer_past_it_is_reported_once_with_its_stack" in caplog.text

    def test_none_is_no_deadline(self, caplog):
        self.look(Running(make_message(make_layer())), 1e6)
        assert caplog.text == ""

    def test_a_message_that_is_no_event_is_not_noted(self):
        layer = make_layer()
        self.look(Running(make_message(layer)), 100.0)
        assert sent(layer) == []
        self.look(Running(make_event(layer, event=4)), 100.0)
        assert sent(layer) == [{envelope.BUSY: 4}]


class TestWhere:
    def test_names_what_tells_messages_apart(self):
        message = make_message(make_layer(), client=["10.0.0.1", 5])
        assert where(message) == " on websocket.receive (path /, client 10.0.0.1:5, reply channel replies)"

    def test_asks_no_database_for_a_user(self):
        from django.utils.functional import SimpleLazyObject

        def load():
            raise AssertionError("nobody looked at the user")

        message = make_message(make_layer())
        message.user = SimpleLazyObject(load)
        assert "user" not in where(message)
