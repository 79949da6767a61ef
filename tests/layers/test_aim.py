"""Whom a message to groups is for, and how that travels."""

from __future__ import annotations

import pytest

from fastchannels._core.msgpack import pack
from fastchannels.exceptions import InvalidNameError
from fastchannels.layers.aim import Aim, Served, aim_of, members_of, parse_aimed


def test_what_a_sender_may_give() -> None:
    assert aim_of("g", ()) == Aim(("g",))
    assert aim_of(["b", "a", "b"], "x!y") == Aim(("b", "a"), frozenset(["x!y"]))
    assert aim_of(iter(["a"]), iter(["x", "x"])) == Aim(("a",), frozenset(["x"]))
    assert aim_of([], []) == Aim(())
    for groups, exclude in (("g!", ()), ([None], ()), (None, ()), ("g", "a b"), ("g", [3]), (b"g", ())):
        with pytest.raises(InvalidNameError):
            aim_of(groups, exclude)  # type: ignore[arg-type]


@pytest.mark.parametrize("aim", [Aim(("g",)), Aim(("a", "b"), frozenset(["x!1", "x!2"]), b"\0token"), Aim(())])
def test_there_and_back(aim: Aim) -> None:
    assert parse_aimed(aim.head) == (aim, b"")
    assert parse_aimed(aim.head + b"payload") == (aim, b"payload")
    assert aim.name == ", ".join(aim.groups)


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\x01", b"\0\0\0\x09abc", b"\0\0\0\x01\x80", b"\0\0\0\x03" + pack([1, 2])]
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the decoder, or our own
        parse_aimed(data)


def test_members_of_several_groups_count_once() -> None:
    groups = {"a": ("x", "y"), "b": ("y", "z"), "c": ()}
    assert members_of(("a",), groups.__getitem__) is groups["a"]
    assert list(members_of(("a", "b", "c"), groups.__getitem__)) == ["x", "y", "z"]
    assert not members_of((), groups.__getitem__)


def test_who_was_served_is_remembered_for_a_while() -> None:
    now = 0.0
    served = Served(10.0, lambda: now)
    assert served.note(b"1", ["a", "b"]) == frozenset()
    assert served.note(b"1", ["b", "c"]) == {"a", "b"}
    now = 5.0
    assert served.note(b"2", ["a"]) == frozenset()
    assert served.note(b"1", []) == {"a", "b", "c"}
    now = 11.0
    assert served.note(b"2", ["a"]) == {"a"}
    assert len(served) == 1
