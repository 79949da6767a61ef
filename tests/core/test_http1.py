"""The compiled half of a connection: how responses are framed over HTTP/1.1."""

from __future__ import annotations

import pytest

from tests.server.support import stream_of


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


def test_an_interim_response_leaves_at_once():
    stream, written = stream_of()
    stream.inform(103, [(b"link", b"</a.css>; rel=preload")])
    assert written.data == b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"


def test_no_interim_response_for_http_1_0():
    stream, written = stream_of(version="1.0")
    stream.inform(100, [])
    assert written.data == b""


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\0", b"a\nb"])
def test_an_interim_response_smuggles_nothing(value):
    stream, written = stream_of()
    with pytest.raises(ValueError, match="line break"):
        stream.inform(103, [(b"link", value)])
    assert written.data == b""
