import threading

import pytest

from fastchannels import replies as replies_module
from fastchannels.exceptions import InvalidMessageError, LayerUnavailable, MessageTooLarge
from fastchannels.replies import Replies
from tests.talk import eventually, make_layer, sent


def texts(layer, channel="replies"):
    return [message["text"] for message in sent(layer, channel)]


def test_they_leave_with_the_next_turn_in_their_order():
    layer = make_layer()
    replies = Replies(layer)
    layer.send("jobs", {"n": 1})
    for text in "abc":
        replies.add("replies", {"text": text})
    assert len(replies) == 3
    assert texts(layer) == []
    assert replies.turn(["jobs"], 1, 0.0) == [("jobs", {"n": 1})]
    assert texts(layer) == ["a", "b", "c"]
    assert (len(replies), replies.age) == (0, 0.0)


def test_a_turn_takes_no_more_than_it_is_asked_for():
    layer = make_layer()
    replies = Replies(layer)
    for number in range(5):
        layer.send("jobs", {"n": number})
    assert [content["n"] for _, content in replies.turn(["jobs", "none"], 3, 1.0)] == [0, 1, 2]
    assert [content["n"] for _, content in replies.turn(["jobs", "none"], 3, 1.0)] == [3, 4]
    assert replies.turn(["jobs", "none"], 3, 0.01) == []


def test_their_age_is_that_of_the_oldest(monkeypatch):
    replies = Replies(make_layer())
    now = 100.0
    monkeypatch.setattr(replies_module.time, "monotonic", lambda: now)
    assert replies.age == 0.0
    replies.add("replies", {})
    now = 101.0
    replies.add("replies", {})
    now = 103.0
    assert replies.age == 3.0


def test_what_cannot_be_carried_is_refused_at_once():
    replies = Replies(make_layer(max_message_size=100))
    with pytest.raises(InvalidMessageError):
        replies.add("replies", {"x": object()})
    with pytest.raises(MessageTooLarge):
        replies.add("replies", {"x": "y" * 100})
    assert len(replies) == 0


def test_a_full_channel_holds_up_its_own_messages_only():
    layer = make_layer(channel_capacity={"full": 1})
    replies = Replies(layer)
    for text in "abc":
        replies.add("full", {"text": text})
        replies.add("replies", {"text": text})
    replies.turn(["jobs"], 1, 0.0)
    assert (texts(layer), texts(layer, "full"), len(replies)) == (["a", "b", "c"], ["a"], 2)
    for text in "bc":
        replies.turn(["jobs"], 1, 0.0)
        assert texts(layer, "full") == [text]
    assert len(replies) == 0


def test_what_finds_no_room_is_dropped_in_the_end(monkeypatch, caplog):
    monkeypatch.setattr(replies_module, "FLUSH_PATIENCE", 0.2)
    layer = make_layer(channel_capacity={"full": 1})
    replies = Replies(layer)
    replies.add("full", {"text": "a"})
    replies.add("full", {"text": "b"})
    replies.send()
    assert len(replies) == 0
    assert caplog.text.count("a message for channel full was dropped") == 1
    assert texts(layer, "full") == ["a"]


def test_sending_now_never_raises(monkeypatch, caplog):
    layer = make_layer()
    replies = Replies(layer)

    def fail(*arguments):
        raise LayerUnavailable("away")

    monkeypatch.setattr(layer, "take_turn", fail)
    replies.add("replies", {})
    replies.send()
    assert "1 messages were dropped: away" in caplog.text


def test_a_turn_that_fails_keeps_them(monkeypatch):
    layer = make_layer()
    replies = Replies(layer)
    replies.add("replies", {"text": "a"})
    with monkeypatch.context() as patch:
        patch.setattr(layer.layer, "_push_sync", lambda *arguments: (_ for _ in ()).throw(LayerUnavailable("away")))
        with pytest.raises(LayerUnavailable):
            replies.turn(["jobs"], 1, 0.0)
    replies.turn(["jobs"], 1, 0.0)
    assert texts(layer) == ["a"]


def test_another_thread_relieves_one_that_is_busy():
    layer = make_layer()
    replies = Replies(layer)
    replies.add("replies", {"text": "a"})
    thread = threading.Thread(target=replies.relieve)
    thread.start()
    thread.join(10)
    assert texts(layer) == ["a"]


def test_relief_does_not_wait_for_a_turn():
    layer = make_layer()
    replies = Replies(layer)
    waiting = threading.Thread(target=replies.turn, args=(["jobs"], 1, 20.0))
    waiting.start()
    eventually(lambda: replies._lock.locked(), "the turn waits for a message")
    replies.relieve()
    layer.send("jobs", {})
    waiting.join(10)
    assert not waiting.is_alive()
