from __future__ import annotations

import gc
import math
import threading
from collections.abc import Iterator

import pytest

from fastchannels._core.groups import LocalGroups


def test_first_and_last_member() -> None:
    groups = LocalGroups()
    assert groups.add("g", "a")
    assert not groups.add("g", "a")
    assert not groups.add("g", "b")
    assert not groups.discard("g", "x")
    assert not groups.discard("none", "a")
    assert not groups.discard("g", "a")
    assert not groups.discard("g", "a")
    assert groups.discard("g", "b")
    assert groups.groups() == []
    assert "g" not in groups
    assert groups.add("g", "b")
    assert "g" in groups


def test_discard_channel() -> None:
    groups = LocalGroups()
    for group, channel in (("g", "a"), ("h", "a"), ("h", "b"), ("i", "b")):
        groups.add(group, channel)
    assert groups.discard_channel("a") == ["g"]
    assert groups.discard_channel("a") == []
    assert sorted(groups.groups()) == ["h", "i"]
    assert groups.members("h") == ("b",)


def test_members_is_a_snapshot() -> None:
    groups = LocalGroups()
    assert groups.members("g") == ()
    for channel in ("b", "a", "c"):
        groups.add("g", channel)
    members = groups.members("g")
    assert groups.members("g") is members
    for channel in members:
        groups.discard("g", channel)
        groups.add("g", channel * 2)
    assert members == ("b", "a", "c")
    assert groups.members("g") == ("bb", "aa", "cc")


def test_expire_renews_the_living() -> None:
    now = 0.0
    groups = LocalGroups(clock=lambda: now)
    for channel in ("dead", "live"):
        groups.add("g", channel)
    groups.add("h", "dead")
    now = 99.0
    assert groups.expire(100, lambda channel: channel == "live") == []
    groups.add("g", "young")
    now = 100.0
    assert groups.expire(100, lambda channel: channel == "live", "g") == []
    assert groups.members("g") == ("live", "young")
    assert groups.members("h") == ("dead",)
    assert groups.expire(100, lambda channel: channel == "live") == ["h"]
    # Renewed at 100, so nobody is asked again before that age is over.
    now = 190.0
    assert groups.expire(100, lambda channel: math.nan) == []  # type: ignore[arg-type, return-value]
    now = 300.0
    assert groups.expire(100, lambda channel: False) == ["g"]
    assert groups.groups() == []
    assert groups.discard_channel("live") == []


def test_clear() -> None:
    groups = LocalGroups()
    groups.add("g", "a")
    groups.clear()
    assert groups.members("g") == ()
    assert groups.add("g", "a")


def test_threads() -> None:
    groups = LocalGroups()

    def churn(channel: str) -> None:
        for n in range(500):
            groups.add(f"g{n % 5}", channel)
            groups.members(f"g{n % 5}")
            if n % 3 == 0:
                groups.discard_channel(channel)
        groups.add("end", channel)

    threads = [threading.Thread(target=churn, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(groups.members("end")) == ["c0", "c1", "c2", "c3"]
    for n in range(4):
        groups.discard_channel(f"c{n}")
    assert groups.groups() == []


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector looks at what the test makes only, and is left as it was."""
    before = gc.get_threshold()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("call", ["members", "add", "expire", "discard_channel"])
def test_finaliser_that_leaves_its_groups(call: str) -> None:
    """It may run in the middle of any method, on the thread that holds the lock: wherever a container is made."""

    class Socket:
        def __init__(self, groups: LocalGroups, name: str) -> None:
            self.itself = self
            self.groups = groups
            self.name = name

        def __del__(self) -> None:
            self.groups.discard_channel(self.name)

    def always(channel: str) -> bool:
        return channel == "stays"

    for containers in range(1, 30):
        gc.collect()
        gc.disable()
        groups = LocalGroups()
        for name in ("leaves", "stays") if call != "add" else ("leaves",):
            groups.add("g", name)
        if call == "members":
            for n in range(30):  # small tuples come from a free list
                groups.add("g", f"c{n}")
        groups.add("other", "stays")
        Socket(groups, "leaves")
        # The collector runs when the call below has made so many containers.
        gc.set_threshold(gc.get_count()[0] + containers)
        gc.enable()
        if call == "members":
            assert "stays" in groups.members("g")
            for n in range(30):
                groups.discard("g", f"c{n}")
        elif call == "add":
            groups.add("g", "stays")
        elif call == "expire":
            groups.expire(-1.0, always)
        else:
            groups.discard_channel("stays")
        gc.disable()
        gc.collect()
        wanted = () if call == "discard_channel" else ("stays",)
        assert groups.members("g") == wanted
        assert groups.discard_channel("leaves") == []
        assert sorted(groups.discard_channel("stays")) == (["g", "other"] if wanted else [])
        assert groups.groups() == []
