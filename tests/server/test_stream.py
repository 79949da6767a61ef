"""The response of one request: framing, faults of the application, and what happens when it fails."""

from __future__ import annotations

import pytest

from fastchannels.server.config import Config, Context
from fastchannels.server.events import Request
from fastchannels.server.stream import HttpStream


class Written:
    """Takes what a stream writes. Sockets are the matter of test_protocol.py."""

    def __init__(self):
        self.context = Context(Config(server_name=None))
        self.data = b""
        self.completed = 0
        self.cut = False

    def write(self, data):
        self.data += bytes(data)

    def response_complete(self, stream):
        self.completed += 1

    def abort(self):
        self.cut = True

    @property
    def body(self):
        return self.data.partition(b"\r\n\r\n")[2]


def stream_of(method="GET", version="1.1"):
    request = Request(method, "/", b"/", b"", version, [])
    request.complete = True
    connection = Written()
    return HttpStream(connection, request), connection


def test_head_leaves_with_the_first_piece_of_the_body():
    stream, written = stream_of()
    stream.start(200, [(b"content-length", b"2")])
    assert written.data == b""
    assert not stream.begun
    stream.body(b"ok", False)
    assert written.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert written.body == b"ok"
    assert (stream.done, stream.size, written.completed) == (True, 2, 1)


def test_chunked_without_a_length():
    stream, written = stream_of()
    stream.start(200, [])
    stream.body(b"abc", True)
    stream.body(b"", True)
    stream.body(b"de", False)
    assert written.body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def test_large_pieces_are_framed_alike():
    stream, written = stream_of()
    stream.start(200, [])
    piece = b"x" * 70000
    stream.body(piece, False)
    assert written.body == b"11170\r\n" + piece + b"\r\n0\r\n\r\n"


def test_head_request_gets_no_body():
    stream, written = stream_of("HEAD")
    stream.start(200, [(b"content-length", b"2")])
    stream.body(b"ok", False)
    assert written.body == b""
    assert written.completed == 1


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
