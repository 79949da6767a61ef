"""What waits for one name, as an inbox uses it."""

from __future__ import annotations

import sys
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from fastchannels._core.inbox import Inbox

CAPACITY = 1000


def make() -> Inbox:
    return Inbox(capacity_of=lambda name: CAPACITY, expiry=60.0, decode=lambda payload: {"p": payload})


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=20))
def test_first_in_first_out_however_it_grows_and_wraps(steps: list[tuple[int, int]]) -> None:
    inbox, model, number = make(), deque[bytes](), 0
    for puts, gets in steps:
        for _ in range(puts):
            number += 1
            taken = inbox.put("a", b"%d" % number)
            assert taken == (len(model) < CAPACITY)
            if taken:
                model.append(b"%d" % number)
        for _ in range(gets):
            assert inbox.get("a") == (model.popleft() if model else None)
        assert inbox.unread("a") == len(model)


def test_payloads_are_let_go_of() -> None:
    inbox, payload = make(), bytes(bytearray(b"payload"))
    before = sys.getrefcount(payload)
    for _ in range(100):
        inbox.put("a", payload)
    assert sys.getrefcount(payload) == before + 100
    for _ in range(40):
        inbox.get("a")
    assert sys.getrefcount(payload) == before + 60
    del inbox
    assert sys.getrefcount(payload) == before
