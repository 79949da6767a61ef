from datetime import datetime, timezone

import pytest
from django.db import connection

from fastchannels.delay.models import DelayedMessage
from fastchannels.exceptions import InvalidPayloadError, LayerUnavailable
from tests.talk import make_layer, sent

CONTENT = {"text": "hi", "raw": b"\xff\x00", "n": [1, None]}


@pytest.fixture
def layer():
    return make_layer(capacity=1)


@pytest.fixture
def message(database):
    message = DelayedMessage(channel_name="news", delay=0, message=CONTENT)
    message.save()
    return message


def test_it_keeps_bytes_and_its_time(message):
    stored = DelayedMessage.objects.get()
    assert stored.message == CONTENT
    assert -60_000 < stored.delay <= 0
    stored.delay = 60_000
    assert 59_000 < stored.delay <= 60_000
    stored.due_date = datetime(2016, 5, 1, tzinfo=timezone.utc)
    assert str(stored) == "news at 2016-05-01 00:00:00"


def test_what_is_due(message):
    DelayedMessage(channel_name="later", delay=60_000, message={}).save()
    assert [found.channel_name for found in DelayedMessage.objects.is_due()] == ["news"]


def test_sending_deletes_it(message, layer):
    assert message.send(layer)
    assert sent(layer, "news") == [CONTENT]
    assert not DelayedMessage.objects.exists()


def test_two_servers_send_it_once(message, layer):
    other = DelayedMessage.objects.get()
    assert message.send(layer)
    assert not other.send(layer)
    assert sent(layer, "news") == [CONTENT]


def full(layer, monkeypatch):
    layer.send("news", {})


def away(layer, monkeypatch):
    def refuse(*args):
        raise LayerUnavailable("no Redis")

    monkeypatch.setattr(layer, "send", refuse)


@pytest.mark.parametrize("trouble", [full, away])
def test_trouble_puts_it_back(message, layer, trouble, monkeypatch):
    trouble(layer, monkeypatch)
    assert not message.send(layer, requeue_delay=5000)
    stored = DelayedMessage.objects.get()
    assert stored.message == CONTENT
    assert 4000 < stored.delay <= 5000


def test_a_row_that_holds_no_message_is_left(message, layer):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE fastchannels_delay_delayedmessage SET content = x'c1'")
    with pytest.raises(InvalidPayloadError):
        DelayedMessage.objects.get().send(layer)
    assert DelayedMessage.objects.exists()
