import logging
import threading

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from fastchannels.delay.models import DelayedMessage
from fastchannels.delay.worker import Worker
from tests.talk import eventually, make_layer, sent

GOOD = {"channel": "news", "delay": 0, "content": {"n": 1}}


@pytest.fixture
def layer():
    return make_layer()


@pytest.fixture
def worker(layer, database):
    return Worker(layer, signal_handlers=False, database_sleep_duration=0.05)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"channel": None}, "None"),
        ({"channel": "no spaces"}, "no spaces"),
        ({"delay": "1"}, "delay of '1' ms"),
        ({"delay": -1}, "delay of -1 ms"),
        ({"delay": True}, "delay of True ms"),
        ({"delay": 10**18}, "cannot be kept"),
        ({"content": [1]}, "cannot be kept"),
        ({"content": {1: 2}}, "cannot be kept"),
    ],
)
def test_what_cannot_be_kept_is_logged(worker, change, text, caplog):
    with caplog.at_level(logging.ERROR):
        assert worker.keep({**GOOD, **change}) is None
    assert text in caplog.text
    assert not DelayedMessage.objects.exists()


@pytest.mark.parametrize("missing", ["channel", "delay", "content"])
def test_what_is_missing_is_named(worker, missing, caplog):
    content = {key: value for key, value in GOOD.items() if key != missing}
    assert worker.keep(content) is None
    assert f"has no {missing}" in caplog.text


def test_a_bad_row_does_not_hold_the_others_back(worker, layer, caplog):
    for _ in range(2):
        worker.keep(GOOD)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE fastchannels_delay_delayedmessage SET content = x'c1' WHERE id % 2 = 0")
    assert worker.send_due() == 1
    assert sent(layer, "news") == [{"n": 1}]
    assert "InvalidPayloadError" in caplog.text


def test_the_loop_goes_on_after_bad_messages(worker, layer, caplog):
    """Good, bad, good; each at its time, the one that waits survives the first worker."""

    def run() -> None:
        worker.run()
        # Django's own leaves a database in memory open.
        BaseDatabaseWrapper.close(connection)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        layer.send("asgi.delay", {**GOOD, "content": {"n": 1}})
        layer.send("asgi.delay", {"nothing": "of use"})
        layer.send("asgi.delay", {**GOOD, "content": {"n": 2}, "delay": 1})
        layer.send("asgi.delay", {**GOOD, "content": {"n": 3}, "delay": 3_600_000})
        found = []
        eventually(lambda: found.extend(sent(layer, "news")) or len(found) >= 2, "two messages")
        eventually(lambda: DelayedMessage.objects.exists(), "the third is kept")
    finally:
        worker.termed = True
        thread.join(10)
    assert not thread.is_alive()
    assert found == [{"n": 1}, {"n": 2}]
    DelayedMessage.objects.update(due_date=DelayedMessage(delay=0).due_date)
    assert Worker(layer, signal_handlers=False).send_due() == 1
    assert sent(layer, "news") == [{"n": 3}]
