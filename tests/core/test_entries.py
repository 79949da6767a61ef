from __future__ import annotations

import logging
import random

import pytest

from fastchannels._core.entries import Intake, body, parse, sized
from fastchannels._core.inbox import Inbox


def entry(kind: str, name: str, rest: bytes = b"", stamp: int = 1000) -> bytes:
    return stamp.to_bytes(6, "big") + body(ord(kind), name, rest)


def batch(*messages: tuple[str, str, bytes], stamp: int = 1000, before: int = 0) -> bytes:
    bodies = b"".join(sized(body(ord(kind), name, rest)) for kind, name, rest in messages)
    return stamp.to_bytes(6, "big") + b"b\0" + before.to_bytes(6, "big") + bodies


def make(capacity: int = 10) -> Inbox:
    return Inbox(capacity_of=lambda channel: capacity, expiry=60.0, decode=lambda payload: {})


def hand(inbox: Inbox, entries: list[bytes], flying: dict[str, int], now: int = 1000) -> list[tuple[object, ...]]:
    others: list[tuple[object, ...]] = []
    Intake(inbox, flying, lambda *other: others.append(other), others.append).hand_on(entries, now)
    return others


def test_names_that_do_not_fit() -> None:
    assert len(body(1, "a" * 255)) == 257
    for name in ("a" * 256, "é"):
        with pytest.raises(ValueError, match="ASCII and shorter than 256"):
            body(1, name)


def test_parse_takes_apart_what_body_made() -> None:
    for name, rest in (("", b""), ("x.y!z", b"payload"), ("a" * 255, bytes(1000))):
        assert parse((2**48 - 1).to_bytes(6, "big") + body(200, name, rest)) == (2**48 - 1, 200, name, rest)


def test_messages_reach_their_channels_in_order() -> None:
    inbox = make(1000)
    names = [f"a!{number}" for number in range(3)] + ["a!00", "a"]
    sent = [(random.choice(names), b"%d" % number) for number in range(500)]
    assert hand(inbox, [entry("m", name, payload) for name, payload in sent], {}) == []
    for name in names:
        got = []
        while (payload := inbox.get(name)) is not None:
            got.append(payload)
        assert got == [payload for channel, payload in sent if channel == name]


def test_batches_are_taken_apart_in_order() -> None:
    inbox = make(1000)
    names = ["a!1", "a!2", "b"]
    sent = [(random.choice(names), b"%d" % number) for number in range(300)]
    flying = dict.fromkeys(names, 300)
    entries = []
    for start in range(0, 300, 60):
        entries.append(batch(*(("o", name, payload) for name, payload in sent[start : start + 50])))
        entries += [entry("o", name, payload) for name, payload in sent[start + 50 : start + 60]]
    assert hand(inbox, [*entries, batch()], flying) == []
    for name in names:
        got = []
        while (payload := inbox.get(name)) is not None:
            got.append(payload)
        assert got == [payload for channel, payload in sent if channel == name]
        assert flying[name] == 300 - len(got)
    assert hand(inbox, [batch(("m", "a!1", b"x"), ("g", "room", b"y"))], {}, now=2000) == [(103, "room", b"y", 1.0)]


def test_a_batch_that_breaks_off_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    whole = batch(("m", "a!1", b"first"), ("m", "a!1", b"second"))
    for cut in range(len(whole)):
        inbox = make()
        caplog.clear()
        with caplog.at_level(logging.ERROR, "fastchannels.layer"):
            hand(inbox, [whole[:cut], batch(("m", "a!1", b"last"))], {})
        got = []
        while (payload := inbox.get("a!1")) is not None:
            got.append(payload)
        second = len(whole) - len(sized(body(109, "a!1", b"second")))
        assert got == ([b"first", b"last"] if cut >= second else [b"last"])
        # A batch of none, or of one, is whole.
        assert len(caplog.records) == (cut not in (14, second))
    inbox = make()
    caplog.clear()
    with caplog.at_level(logging.ERROR, "fastchannels.layer"):
        hand(inbox, [batch() + sized(b"m\x05ab") + sized(b"m\x01\xff") + sized(body(109, "b", b"good"))], {})
    assert (inbox.get("b"), len(caplog.records)) == (b"good", 2)


def test_own_messages_have_landed() -> None:
    inbox = make()
    flying = {"a!1": 2, "a!2": 1}
    hand(inbox, [entry("o", "a!1", b"1"), entry("o", "a!2", b"2"), entry("o", "a!3", b"3")], flying)
    assert flying == {"a!1": 1}
    assert [inbox.get(name) for name in ("a!1", "a!2", "a!3")] == [b"1", b"2", b"3"]


def test_messages_overshoot_the_capacity_but_not_their_age() -> None:
    inbox = make(capacity=1)
    hand(inbox, [entry("m", "a!1", b"%d" % number) for number in range(3)], {})
    assert inbox.unread("a!1") == 3
    hand(inbox, [entry("m", "a!2", b"old")], {}, now=61_000)
    assert inbox.unread("a!2") == 0
    assert inbox.counts()["expired"] == 1


def test_others_are_told_with_their_age() -> None:
    others = hand(make(), [entry("g", "room", b"payload"), entry("n", "", b"token", stamp=0)], {}, now=3500)
    assert others == [(ord("g"), "room", b"payload", 2.5), (ord("n"), "", b"token", 3.5)]


def test_an_entry_that_cannot_be_read_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    inbox = make()
    bad = [b"", b"short", b"\0" * 6 + b"m\x05abc", b"\0" * 6 + b"m\x01\xff", None]
    with caplog.at_level(logging.ERROR, "fastchannels.layer"):
        hand(inbox, [*bad, entry("m", "a!1", b"good")], {})  # type: ignore[list-item]
    assert inbox.get("a!1") == b"good"
    assert len(caplog.records) == len(bad)


def test_what_did_not_come_is_told() -> None:
    inbox, missed = make(1000), list[int]()
    intake = Intake(inbox, {}, print, missed.append)

    def come(before: int, count: int) -> None:
        intake.hand_on([batch(*[("m", "a!1", b"")] * count, before=before)], 1000)

    def tally(count: int) -> None:
        intake.hand_on([entry("t", "", b"%d" % count, stamp=0)], 1000)

    come(0, 3)
    come(3, 1)
    tally(4)
    assert missed == []
    come(6, 2)
    assert missed == [2]
    tally(11)
    assert missed == [2, 3]
    come(11, 1)
    # The store lost its data, or a replica that was behind took over.
    come(0, 4)
    tally(2)
    come(2, 1)
    assert missed == [2, 3]
    # A message of a batch that cannot be read is not missing; those that are cut off are.
    whole = batch(*[("m", "a!1", b"")] * 3, before=3)
    intake.hand_on([whole[:-1], batch(before=3) + sized(b"m\x05ab"), batch(before=4)], 1000)
    assert missed == [2, 3]
    intake.hand_on([whole[:-1]], 1000)
    come(6, 1)
    assert missed == [2, 3, 1]
    assert inbox.counts()["received"] == 17
