"""The heads of requests, as both bridges get them."""

from __future__ import annotations

from fastchannels.server.events import Request


def test_the_path_for_logs_stays_encoded():
    request = Request("GET", "/a\r\nb", b"/a%0D%0Ab", b"x=1", "1.1", [])
    assert request.shown == "/a%0D%0Ab"


def test_a_plain_request_keeps_its_connection_and_has_its_body_before_it():
    request = Request("GET", "/", b"/", b"", "1.1", [(b"host", b"a")])
    assert request.keep_alive
    assert not (request.websocket)
    assert not (request.chunked)
    assert not (request.expect_continue)
    assert not (request.complete)
    assert request.content_length is None
    assert request.root_path is None
