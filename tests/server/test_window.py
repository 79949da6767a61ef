"""The window of one socket's events, by an injected clock."""

from __future__ import annotations

import pytest

from fastchannels.exceptions import InternalError
from fastchannels.server.timer import NEVER
from fastchannels.server.window import MAX_BYTES, MAX_EVENTS, REDELIVERIES, Verdict, Window


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def window(clock):
    return Window(clock, expiry=60, ack_timeout=5)


def send(window, kind="receive"):
    """Add, take and send one event; its number."""
    window.add(kind, {})
    return send_next(window)


def send_next(window):
    event = window.take()
    assert event is not None
    window.sent()
    return event.number


def test_one_in_flight_in_order(window):
    for kind in ("connect", "receive", "receive", "disconnect"):
        window.add(kind, {"kind": kind})
    seen = []
    while not window.finished:
        assert window.ready
        event = window.take()
        assert not window.ready
        assert window.take() is None, "the next waits"
        window.sent()
        assert window.take() is None, "the next waits for the acknowledgement"
        seen.append((event.number, event.content["kind"]))
        assert window.ack(event.number)
    assert seen == [(0, "connect"), (1, "receive"), (2, "receive"), (3, "disconnect")]


def test_nothing_after_disconnect(window):
    window.add("disconnect", {})
    window.add("receive", {})
    window.add("disconnect", {})
    assert window.ack(send_next(window))
    assert window.finished
    assert window.take() is None


def test_stale_acknowledgement(window):
    first = send(window)
    assert window.ack(first)
    second = send(window)
    assert not window.ack(first)
    assert window.take() is None
    assert window.ack(second)
    assert not window.ack(second)


def test_acknowledgement_overtakes_the_end_of_the_send(window):
    window.add("receive", {})
    event = window.take()
    assert window.ack(event.number)
    window.sent()
    assert window.current is None
    assert window.deadline == NEVER


def test_full_by_number_and_by_bytes(window, clock):
    for _ in range(MAX_EVENTS - 1):
        window.add("receive", {}, 1)
    assert not window.full
    window.add("receive", {}, 1)
    assert window.full
    assert window.ack(send_next(window))
    assert not window.full

    by_bytes = Window(clock, 60, 5)
    by_bytes.add("receive", {}, MAX_BYTES)
    assert by_bytes.full
    by_bytes.take()
    assert not by_bytes.full


def test_silence_with_unread_messages_waits_until_expiry(window, clock):
    number = send(window)
    asked = 0
    while True:
        clock.now = window.deadline
        verdict = window.check()
        if verdict is Verdict.DROPPED:
            break
        assert verdict is Verdict.ASK
        asked += 1
        window.answer(number, 3)
    assert clock.now == 160
    assert asked == 11
    assert window.dropped == {"expired": 1}


def test_check_before_the_deadline(window, clock):
    send(window)
    clock.now += 4.9
    assert window.check() is Verdict.WAIT


def ask(window, clock, number, unread):
    """Let the deadline pass, and answer the question that follows."""
    clock.now = window.deadline
    assert window.check() is Verdict.ASK
    return window.answer(number, unread)


def test_dead_worker(window, clock):
    number = send(window)
    assert ask(window, clock, number, 0) is Verdict.WAIT
    assert clock.now == 105
    assert window.deadline == 107, "one that took it just now has time for its first note"
    for death in range(1, REDELIVERIES + 1):
        assert ask(window, clock, number, 0) is Verdict.AGAIN
        assert window.current.deaths == death
        assert window.take() is None, "it is being sent"
        window.sent()
        assert ask(window, clock, number, 0) is Verdict.WAIT
    assert ask(window, clock, number, 0) is Verdict.DROPPED
    assert window.dropped == {"worker": 1}
    assert send(window) == number + 1


def test_a_worker_that_does_not_redeliver(window, clock):
    number = send(window)
    ask(window, clock, number, 0)
    assert ask(window, clock, number, 0) is Verdict.AGAIN
    window.sent()
    assert window.ack(number, lost=True)
    assert window.dropped == {"worker": 1}
    assert send(window) == number + 1


def test_slow_worker_is_waited_for(window, clock):
    number = send(window)
    for _ in range(1000):
        clock.now += 1
        window.busy(number)
        assert window.check() is Verdict.WAIT
    assert ask(window, clock, number, 0) is Verdict.WAIT
    assert ask(window, clock, number, 0) is Verdict.AGAIN, "it died while it worked"


def test_sign_of_life_between_the_questions(window, clock):
    number = send(window)
    assert ask(window, clock, number, 0) is Verdict.WAIT
    window.busy(number)
    assert ask(window, clock, number, 0) is Verdict.WAIT
    assert ask(window, clock, number, 5) is Verdict.WAIT
    assert ask(window, clock, number, 0) is Verdict.WAIT, "it may have been put back and taken again"
    assert window.ack(number)


def test_busy_before_the_answer(window, clock):
    number = send(window)
    clock.now += 5
    assert window.check() is Verdict.ASK
    window.busy(number)
    assert window.answer(number, 0) is Verdict.WAIT
    clock.now += 1
    assert window.check() is Verdict.WAIT
    assert window.ack(number)


def test_event_that_was_put_back_lives_as_long_as_a_new_one(window, clock):
    number = send(window)
    clock.now += 50
    window.busy(number)
    for _ in range(11):
        assert ask(window, clock, number, 1) is Verdict.WAIT
    clock.now = window.deadline
    assert window.check() is Verdict.DROPPED
    assert clock.now == 210


def test_notes_and_answers_of_another_event_are_ignored(window, clock):
    first = send(window)
    assert window.ack(first)
    second = send(window)
    deadline = window.deadline
    clock.now += 1
    window.busy(first)
    window.answer(first, 0)
    assert window.deadline == deadline
    assert window.ack(second)


def test_dropped_disconnect_finishes(window, clock):
    number = send(window, "disconnect")
    for _ in range(REDELIVERIES):
        assert ask(window, clock, number, 0) is Verdict.WAIT
        assert ask(window, clock, number, 0) is Verdict.AGAIN
        window.sent()
    assert ask(window, clock, number, 0) is Verdict.WAIT
    assert ask(window, clock, number, 0) is Verdict.DROPPED
    assert window.finished


def test_events_that_wait_too_long_expire_without_a_number(window, clock):
    number = send(window)
    window.add("receive", {})
    clock.now += 61
    window.add("receive", {"fresh": True})
    assert window.ack(number)
    event = window.take()
    assert event.content == {"fresh": True}
    assert event.number == number + 1
    assert window.dropped == {"expired": 1}


def test_refused_gives_the_number_back(window):
    window.add("receive", {})
    number = window.take().number
    window.refused("refused")
    assert window.dropped == {"refused": 1}
    assert send(window) == number
    with pytest.raises(InternalError):
        window.refused("refused")


def test_discard_waiting_spares_disconnect(window):
    number = send(window)
    window.add("receive", {}, 10)
    window.add("receive", {}, 10)
    window.add("disconnect", {})
    window.discard_waiting()
    assert window.dropped == {"refused": 2}
    assert window.ack(number)
    assert window.take().kind == "disconnect"
