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


def test_database_connections_are_looked_at_on_both_sides(monkeypatch):
    closed = []
    monkeypatch.setattr(signals, "close_old_connections", lambda: closed.append(True))
    signals.consumer_started.send(sender=object, environ={})
    assert closed == [True]
    signals.consumer_finished.send(sender=object)
    assert closed == [True, True]


def test_the_signals_of_1x_are_here():
    assert set(signals.__all__) == {"consumer_started", "consumer_finished", "worker_ready", "worker_process_ready"}
