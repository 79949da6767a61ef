import threading

import pytest
from django.db import connection

from fastchannels import signals
from fastchannels.channel import Channel, pending_message_store
from tests.talk import make_layer, sent


def test_the_store_holds_between_start_and_end():
    layer = make_layer()
    signals.consumer_started.send(sender=test_the_store_holds_between_start_and_end, environ={})
    assert pending_message_store.active
    Channel("news", channel_layer=layer).send({"n": 1})
    assert sent(layer, "news") == []
    signals.consumer_finished.send(sender=test_the_store_holds_between_start_and_end)
    assert not pending_message_store.active
    assert sent(layer, "news") == [{"n": 1}]


@pytest.fixture
def closed(monkeypatch):
    """A list that grows when Django is asked to close connections."""
    closed = []
    monkeypatch.setattr(signals, "close_old_connections", lambda: closed.append(True))
    return closed


def test_open_database_connections_are_looked_at_on_both_sides(closed, database):
    database.ensure_connection()
    signals.consumer_started.send(sender=object, environ={})
    assert closed == [True]
    signals.consumer_finished.send(sender=object)
    assert closed == [True, True]


def test_a_thread_without_an_open_connection_asks_nobody(closed):
    def events():
        signals.consumer_started.send_robust(sender=object, environ={})
        signals.consumer_finished.send_robust(sender=object)
        connection.vendor  # noqa: B018  # there is an object for it now, and no connection
        signals.consumer_started.send_robust(sender=object, environ={})
        signals.consumer_finished.send_robust(sender=object)

    thread = threading.Thread(target=events)
    thread.start()
    thread.join(10)
    assert closed == []


def test_an_open_connection_is_seen_where_django_keeps_them_in_another_way(closed, monkeypatch):
    monkeypatch.setattr(signals, "_storage", None)
    signals.consumer_started.send_robust(sender=object, environ={})
    signals.consumer_finished.send_robust(sender=object)
    assert closed == [True, True]


def test_receivers_of_others_are_called_and_their_failures_are_no_ones_else(caplog):
    calls = []

    def fails(**kwargs):
        calls.append(kwargs["environ"])
        raise ValueError("a receiver fails")

    signals.consumer_started.connect(fails)
    try:
        signals.consumer_started.send_robust(sender=object, environ={"n": 1})
    finally:
        signals.consumer_started.disconnect(fails)
    signals.consumer_finished.send_robust(sender=object)
    assert calls == [{"n": 1}]
    assert not pending_message_store.active


def test_a_failure_of_our_own_receivers_is_logged_and_the_next_is_called(closed, caplog, monkeypatch):
    monkeypatch.setattr(signals, "_storage", None)
    monkeypatch.setattr(signals, "close_old_connections", lambda: 1 / 0)
    signals.consumer_started.send_robust(sender=object, environ={})
    assert pending_message_store.active
    signals.consumer_finished.send_robust(sender=object)
    assert not pending_message_store.active
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, ZeroDivisionError]


def test_the_signals_of_1x_are_here():
    assert set(signals.__all__) == {"consumer_started", "consumer_finished", "worker_ready", "worker_process_ready"}
