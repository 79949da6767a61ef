from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastchannels._core import shm
from fastchannels._core.codec import Codec
from fastchannels._core.groups import LocalGroups
from fastchannels._core.inbox import Inbox
from fastchannels._core.post import MORE, Post
from fastchannels._core.shm import Address, Segment, SegmentGone
from fastchannels.exceptions import InvalidMessageError

MIB = 1024 * 1024
ME = "a" * 32
INBOX = f"!{ME}"
FOREVER = 60_000


class Rig:
    """A post of process ME that also sends, as another one would, to that process itself."""

    def __init__(self, path: Path) -> None:
        self.undecodable: list[bytes] = []
        self.inbox = Inbox(capacity_of=lambda name: 1000, expiry=60.0, decode=self.undecodable.append, native=True)
        self.groups = LocalGroups()
        self.emptied: set[str] = set()
        self.post = Post(Codec(), self.inbox, self.groups, self.emptied, FOREVER)
        self.segment = self.post.segment = Segment(str(path / "shm"), 8 * MIB, ME)
        self.others: list[tuple[int, str, bytes]] = []
        self.ages: list[float] = []

    def other(self, kind: int, target: str, payload: bytes, age: float) -> None:
        self.others.append((kind, target, payload))
        self.ages.append(age)

    def know(self, channel: str, capacity: int = 1000) -> str:
        self.post.addresses[channel] = Address(ME if "!" in channel else "", channel, capacity)
        return channel

    def pump(self, most: int = 256) -> int:
        self.post.load(self.segment, INBOX, most)
        return self.post.hand_out(set(), {}, self.other)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    assert rig.segment.closed or rig.segment.check() is None
    rig.segment.close()


@pytest.mark.parametrize("size", [0, 1, 300, 336, 8150, 16_384, 70_000, 300_000])
def test_message_of_any_size(rig: Rig, size: int) -> None:
    message = {"bytes": os.urandom(size)}
    for channel in (rig.know("jobs"), rig.know(f"x.{ME}!1")):
        assert rig.post.send(channel, message) == shm.SENT
        assert rig.post.send(channel, {"n": 1}) == shm.SENT
    assert rig.post.take("jobs") == message
    assert rig.post.take("jobs") == {"n": 1}
    assert rig.post.take("jobs") is None
    assert rig.pump() + rig.pump() == 2
    assert rig.inbox.take(f"x.{ME}!1") == message
    assert (rig.post.sent, rig.post.taken, rig.segment.counts()["room_used"]) == (4, 2, 0)


def test_outcomes(rig: Rig) -> None:
    assert rig.post.send("unknown", {}) == MORE
    assert rig.post.send(rig.know("jobs", 1), {}) == shm.SENT
    assert rig.post.send("jobs", {}) == shm.FULL
    assert rig.post.send(rig.know("more"), {"bytes": b"x" * 8 * MIB}) == shm.NO_ROOM
    rig.post.addresses["x.b!1"] = Address("b", "x.b!1", 10)
    assert rig.post.send("x.b!1", {}) == shm.GONE
    own = rig.know(f"x.{ME}!1")
    rig.segment.mark(own, True)
    assert rig.post.send(own, {}) == shm.FULL
    rig.segment.mark(own, False)
    assert rig.post.send(own, {}) == shm.SENT
    assert rig.post.sent == 2
    with pytest.raises(InvalidMessageError):
        rig.post.send("jobs", {"x": object()})


def test_without_a_segment(rig: Rig) -> None:
    rig.know("jobs")
    rig.segment.close()
    with pytest.raises(SegmentGone):
        rig.post.send("jobs", {})
    with pytest.raises(SegmentGone):
        rig.post.take("jobs")
    with pytest.raises(SegmentGone):
        rig.post.load(rig.segment, INBOX, 1)
    rig.post.segment = None
    assert rig.post.send("jobs", {}) == MORE
    assert rig.post.take("jobs") is None


def test_what_cannot_be_decoded_is_told(rig: Rig) -> None:
    rig.segment.send("jobs", b"\xc1", 10, FOREVER)
    assert rig.post.take("jobs") is None
    assert (rig.undecodable, rig.post.taken) == ([b"\xc1"], 0)


def test_entries_of_every_kind_in_batches(rig: Rig) -> None:
    rig.segment.join("g")
    names = [f"x.{ME}!{n}" for n in range(3)]
    for n in range(600):
        rig.segment.send_local(ME, names[n // 7 % 3], b"\x81\xa1n\xcd" + n.to_bytes(2, "big"), 1000, FOREVER)
        if n % 100 == 0:
            rig.segment.publish(("g",), b"%d" % n, 1000, FOREVER, 60.0)
    rig.segment.add("h", ME, names[0], 1000)
    batches = []
    while batch := rig.pump(250):
        batches.append(batch)
    assert batches == [250, 250, 107]
    got = {name: [rig.inbox.take(name) for _ in range(rig.inbox.unread(name))] for name in names}
    assert [got[name] for name in names] == [[{"n": n} for n in range(600) if n // 7 % 3 == k] for k in range(3)]
    assert rig.others == [
        *[(shm.GROUP, "g", b"%d" % n) for n in range(0, 600, 100)], (shm.ADD, names[0], (1).to_bytes(8, "big") + b"h")
    ]  # fmt: skip
    assert all(0 <= age < 60 for age in rig.ages)


def test_full_and_late_names_take_another_way(rig: Rig) -> None:
    for name in ("x!1", "x!2", "x!3"):
        rig.segment.send_local(ME, name, b"\x80", 10, FOREVER)
    rig.post.load(rig.segment, INBOX, 10)
    assert rig.post.hand_out({"x!1"}, {"x!2": None}, rig.other) == 3
    assert rig.others == [(shm.MESSAGE, "x!1", b"\x80"), (shm.MESSAGE, "x!2", b"\x80")]
    assert rig.inbox.unread("x!3") == 1


async def test_a_membership_changes_at_once_when_nothing_is_before_it(rig: Rig) -> None:
    post, name = rig.post, rig.know(f"x.{ME}!1")
    assert not post.joins("g", name)
    post.know("g", name)
    assert not post.joins("g", name)  # this loop does not read the inbox
    post.loop = asyncio.get_running_loop()
    assert post.joins("g", name)
    assert not post.joins("h", name)
    assert not post.joins("g", "x.b!1")
    assert not await asyncio.to_thread(post.joins, "g", name)
    for n in range(2):
        post.send(name, {"n": n})
        assert not post.joins("g", name)
    post.load(rig.segment, INBOX, 1)
    assert not post.joins("g", name)
    post.hand_out(set(), {}, rig.other)
    assert not post.joins("g", name)
    rig.pump()
    assert post.joins("g", name)
    for n in range(20_000):  # names that are remembered are few enough
        post.know(f"g{n}", name)
    assert post.joins("g19999", name)
    assert not post.joins("g", name)
    rig.segment.close()
    assert not post.joins("g19999", name)


async def test_the_segment_is_told_of_the_first_member_alone(rig: Rig) -> None:
    post, name, other = rig.post, rig.know(f"x.{ME}!1"), rig.know(f"x.{ME}!2")
    assert post.join("g", name) == post.leave("g", name) == MORE
    assert rig.groups.members("g") == ()
    for channel in (name, other):
        post.know("g", channel)
    post.loop = asyncio.get_running_loop()
    assert [post.join("g", name), post.join("g", name), post.join("g", other)] == [True, False, False]
    assert rig.groups.members("g") == (name, other)
    assert [post.leave("g", other), post.leave("g", other), post.leave("g", name)] == [False, False, True]
    rig.emptied.add("g")
    assert not post.join("g", name)
    assert not rig.emptied
    assert post.join("unknown", name) == MORE
    assert post.join("unknown", name, True) == 1


async def test_who_was_closed_joins_no_more(rig: Rig) -> None:
    name = rig.know(f"x.{ME}!1")
    rig.inbox.close(name)
    assert not rig.post.join("g", name, True)
    assert "g" not in rig.groups


async def test_a_receiver_that_fails_badly_leaves_the_rest(rig: Rig) -> None:
    got: list[int] = []

    def receiver(message: dict[str, Any]) -> None:
        got.append(message["n"])
        if message["n"] == 1:
            # Inside a receiver nothing overtakes the rest of the batch.
            assert (rig.post.handing, rig.post.left) == (True, 1)
            assert rig.post.hand_out(set(), {}, rig.other) == 0
            raise asyncio.CancelledError

    name = rig.know(f"x.{ME}!1")
    rig.inbox.attach(name, receiver)
    for n in range(3):
        rig.post.send(name, {"n": n})
    with pytest.raises(asyncio.CancelledError):
        rig.pump()
    assert got == [0, 1]
    assert rig.pump() == 1
    assert got == [0, 1, 2]


def test_forget(rig: Rig) -> None:
    name = rig.know(f"x.{ME}!1")
    rig.post.send(name, {"n": 1})
    rig.post.load(rig.segment, INBOX, 10)
    assert rig.post.left == 1
    rig.post.forget()
    assert (rig.post.left, rig.post.hand_out(set(), {}, rig.other), rig.inbox.unread(name)) == (0, 0, 0)
