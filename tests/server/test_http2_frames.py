"""Frames of HTTP/2: budgets, padding, and what a client hears where HTTP/2 is not spoken."""

from __future__ import annotations

import pytest

from fastchannels.server.http2_frames import NOT_SPOKEN, PADDED, Budget, ConnectionFault, content_of, goaway
from tests.server.http2_frames import parse


def test_a_budget_comes_back_with_time():
    budget = Budget(10)
    assert [budget.spend(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert not budget.spend(5.5)
    assert budget.spend(8.0)
    assert [budget.spend(100.0) for _ in range(11)] == [True] * 10 + [False], "never more than the limit"


def test_a_budget_is_earned():
    budget = Budget(10)
    for _ in range(10):
        budget.spend(0.0)
    budget.earn(2)
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(("payload", "content"), [(b"\0abc", b"abc"), (b"\2abc", b"a"), (b"\3abc", b"")])
def test_content(payload, content):
    start, end = content_of(PADDED, payload)
    assert payload[start:end] == content
    assert content_of(0, payload) == (0, len(payload))


@pytest.mark.parametrize("payload", [b"", b"\1", b"\4abc", b"\xff"])
def test_padding_that_is_too_long(payload):
    with pytest.raises(ConnectionFault, match="padding"):
        content_of(PADDED, payload)


def test_goaway():
    (found,) = parse(goaway(7, 11, b"calm"))
    assert (found.last_stream_id, found.error_code, found.additional_data) == (7, 11, b"calm")


def test_not_spoken_names_the_extra():
    settings, found = parse(NOT_SPOKEN)
    assert settings.settings == {}
    assert found.error_code == 0xD
    assert b"fastchannels[http2]" in found.additional_data
