"""The response of one request: faults of the application, and what happens when it fails."""

from __future__ import annotations

import pytest

from tests.server.support import stream_of


@pytest.mark.parametrize(("body", "word"), [(b"abc", "longer"), (b"a", "shorter")])
def test_a_body_that_is_not_as_long_as_announced_cuts_the_connection(body, word):
    stream, written = stream_of()
    stream.start(200, [(b"content-length", b"2")])
    with pytest.raises(ValueError, match=word):
        stream.body(body, False)
    assert written.cut
    assert not written.completed


def test_failing_before_anything_left_gives_a_page():
    stream, written = stream_of()
    stream.start(200, [])
    stream.fail(503, "Try again.", [(b"retry-after", b"1")])
    assert written.data.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in written.data
    assert not written.cut


def test_failing_after_the_response_began_cuts_the_connection():
    stream, written = stream_of()
    stream.start(200, [])
    stream.body(b"half", True)
    stream.fail(500)
    assert written.cut
    assert not written.body.endswith(b"0\r\n\r\n")
