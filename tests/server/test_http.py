"""HTTP/1.1 without a transport: the parser whole, byte by byte and split at random; heads of responses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastchannels.exceptions import HttpError
from fastchannels.server.events import BODY_END, Request
from fastchannels.server.http import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    CommonHeaders,
    HttpLimits,
    HttpParser,
    chunk,
    encode_head,
    error_page,
)

COMMON = CommonHeaders("fastchannels")
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"


def parse(*pieces, limits=HttpLimits()):  # noqa: B008
    parser = HttpParser(limits)
    for piece in pieces:
        parser.feed(piece)
    return parser


def shape(parser):
    """The events in a form that does not depend on how the bytes were cut."""
    found = []
    for event in parser.events:
        if isinstance(event, Request):
            found.append([event.method, event.path, event.query_string, event.version, event.headers, b""])
            found[-1].append("complete" if event.complete else "open")
        elif event is BODY_END:
            found[-1][6] = "complete"
        elif isinstance(event, HttpError):
            found.append(event.status)
        else:
            found[-1][5] += event
    return found


STREAM = (
    b"POST /a%20b?q=1&x=%20 HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\nX-One: 2\r\nX_Two: 3\r\n"
    b"Content-Length: 5\r\n\r\nhello"
    b"GET http://other.org/p HTTP/1.1\r\nHost: a\r\n\r\n"
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    b"POST /h2c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nxyz"
    b"GET /last HTTP/1.0\r\n\r\n"
)
EXPECTED = [
    [
        "POST",
        "/a b",
        b"q=1&x=%20",
        "1.1",
        [(b"host", b"example.org"), (b"x-one", b"1"), (b"x-one", b"2"), (b"content-length", b"5")],
        b"hello",
        "complete",
    ],
    ["GET", "/p", b"", "1.1", [(b"host", b"other.org")], b"", "complete"],
    ["PUT", "/c", b"", "1.1", [(b"host", b"a"), (b"transfer-encoding", b"chunked")], b"abcde", "complete"],
    [
        "POST",
        "/h2c",
        b"",
        "1.1",
        [(b"host", b"a"), (b"connection", b"Upgrade"), (b"upgrade", b"h2c"), (b"content-length", b"3")],
        b"xyz",
        "complete",
    ],
    ["GET", "/last", b"", "1.0", [], b"", "complete"],
]


class TestRequests:
    def test_whole(self):
        assert shape(parse(STREAM)) == EXPECTED

    def test_byte_by_byte(self):
        assert shape(parse(*(STREAM[i : i + 1] for i in range(len(STREAM))))) == EXPECTED

    @given(st.lists(st.integers(0, len(STREAM)), max_size=12))
    def test_split_at_random(self, cuts):
        edges = [0, *sorted(cuts), len(STREAM)]
        pieces = [memoryview(STREAM)[a:b] for a, b in itertools.pairwise(edges)]
        assert shape(parse(*pieces)) == EXPECTED

    def test_keeps_no_reference_to_its_input(self):
        buffer = bytearray(STREAM)
        parser = HttpParser()
        parser.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert shape(parser) == EXPECTED

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
            (HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
            (HEAD + b"Content-Length: +5\r\n\r\n", 400),
            (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
            (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
            (HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n", 400),
            (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (HEAD + b"X: a\r\n b\r\n\r\n", 400),
            (HEAD + b"X : a\r\n\r\n", 400),
            (HEAD + b"X: a\x00b\r\n\r\n", 400),
            (HEAD + b"X: a\x0bb\r\n\r\n", 400),
            (HEAD + b"X: a\rb\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (HEAD + b"Host: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /?\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 505),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
            (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
            (b"\x16\x03\x01\x02\x00\x01\x00", 400),
            (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 16384), 414),
            (HEAD + b"X: a\r\n" * 100 + b"\r\n", 431),
            (HEAD + b"X: %s\r\n\r\n" % (b"a" * 65536), 431),
            (HEAD + b"Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n", 400),
        ],
    )
    def test_refused(self, data, status):
        for parser in (parse(data), parse(*(data[i : i + 1] for i in range(len(data))))):
            assert shape(parser)[-1] == status
            assert all(not isinstance(event, Request) for event in parser.events)
            before = list(parser.events)
            parser.feed(HEAD + b"\r\n")
            assert list(parser.events) == before, "input after an error is ignored"

    def test_a_header_that_does_not_end_is_bounded(self):
        parser = parse(HEAD + b"X: ")
        for _ in range(1000):
            parser.feed(b"a" * 1000)
            if parser.finished:
                break
        assert parser.events[0].status == 431

    def test_many_small_requests_are_not_mistaken_for_a_large_head(self):
        parser = HttpParser()
        for _ in range(3000):
            parser.feed(HEAD + b"\r\n")
        assert len(parser.events) == 3000

    def test_trailers_are_bounded(self):
        start = HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        assert shape(parse(start, b"X: a\r\n" * 100))[-1] == 431

    def test_bad_chunk(self):
        assert shape(parse(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n"))[-1] == 400

    @pytest.mark.parametrize(
        ("head", "keep_alive"),
        [
            (HEAD, True),
            (HEAD + b"Connection: close\r\n", False),
            (b"GET / HTTP/1.0\r\n", False),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", True),
        ],
    )
    def test_keep_alive(self, head, keep_alive):
        assert parse(head + b"\r\n").events[0].keep_alive is keep_alive

    def test_bytes_after_the_last_request_are_ignored(self):
        parser = parse(HEAD + b"Connection: close\r\n\r\nGET / HTTP/1.1\r\n")
        assert len(parser.events) == 1

    def test_websocket_request_and_what_follows_it(self):
        parser = parse(HEAD + b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\nframes")
        assert parser.events[0].websocket
        assert parser.trailing == b"frames"

    def test_upgrade_to_websocket_without_connection_upgrade_is_plain_http(self):
        assert not parse(HEAD + b"Upgrade: websocket\r\n\r\n").events[0].websocket

    def test_upgrade_in_http_1_0_is_ignored(self):
        parser = parse(b"GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert not parser.events[0].websocket

    def test_root_path_header(self):
        request = parse(HEAD + b"Daphne-Root-Path: /ro%20ot\r\n\r\n").events[0]
        assert request.root_path == "/ro ot"
        assert request.headers == [(b"host", b"a")]

    def test_undecodable_path(self):
        assert parse(b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n").events[0].path == "/\ufffd"

    def test_expect(self):
        assert parse(HEAD + b"Expect: 100-Continue\r\n\r\n").events[0].expect_continue


def request(method="GET", version="1.1"):
    return Request(method, "/", b"/", b"", version, [])


def head(status=200, headers=(), method="GET", version="1.1", keep_alive=True, common=COMMON):
    data, framing, stays = encode_head(request(method, version), status, headers, common, keep_alive)
    first, *lines = data.decode("latin-1").split("\r\n")
    assert lines[-2:] == ["", ""]
    return first, {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines[:-2]}, framing, stays


class TestResponseHeads:
    def test_chunked_without_a_length(self):
        first, headers, framing, stays = head()
        assert (first, framing, stays) == ("HTTP/1.1 200 OK", CHUNKED, True)
        assert headers["transfer-encoding"] == "chunked"
        assert headers["server"] == "fastchannels"
        assert headers["date"].endswith(" GMT")

    def test_length(self):
        _, headers, framing, _ = head(headers=[(b"Content-Length", b"5"), (b"content-length", b"5")])
        assert (headers["content-length"], framing) == ("5", 5)
        assert "transfer-encoding" not in headers

    @pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (200, "HEAD")])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_no_body_and_no_transfer_encoding(self, status, method, version):
        _, headers, framing, _ = head(status, [(b"transfer-encoding", b"chunked")], method, version)
        assert framing == NO_BODY
        assert "transfer-encoding" not in headers

    def test_http_1_0(self):
        _, headers, framing, stays = head(version="1.0", headers=[(b"Transfer-Encoding", b"chunked")])
        assert (framing, stays, headers["connection"]) == (UNTIL_CLOSE, False, "close")
        assert "transfer-encoding" not in headers
        _, headers, framing, stays = head(version="1.0", headers=[(b"content-length", b"1")])
        assert (framing, stays, headers["connection"]) == (1, True, "keep-alive")

    def test_connection_close_of_the_application(self):
        _, headers, _, stays = head(headers=[(b"connection", b"close")])
        assert (headers["connection"], stays) == ("close", False)

    def test_own_date_and_server(self):
        _, headers, _, _ = head(headers=[(b"Date", b"x"), (b"Server", b"y")])
        assert (headers["date"], headers["server"]) == ("x", "y")
        assert head(headers=[(b"server", b"y")])[1]["date"].endswith("GMT")
        assert head(headers=[(b"date", b"x")])[1]["server"] == "fastchannels"
        assert "server" not in head(common=CommonHeaders(None))[1]

    def test_further_headers_and_no_date(self):
        headers = head(common=CommonHeaders("us", False, [("X-A", "1"), ("X-B", "2")]))[1]
        assert "date" not in headers
        assert (headers["server"], headers["x-a"], headers["x-b"]) == ("us", "1", "2")
        common = CommonHeaders("us", True, [("server", "other"), ("date", "never")])
        assert common.pairs == [(b"server", b"other"), (b"date", b"never")]
        assert common.all == b"server: other\r\ndate: never\r\n"
        assert head(common=common, headers=[(b"server", b"mine")])[1]["date"] == "never"

    def test_unknown_status(self):
        assert head(799)[0] == "HTTP/1.1 799 "

    @pytest.mark.parametrize(
        "header",
        [
            (b"x", b"a\r\nSet-Cookie: b"),
            (b"x", b"a\nb"),
            (b"x", b"a\rb"),
            (b"x", b"a\0b"),
            (b"x\r\ny", b"a"),
            (b"x y", b"a"),
            (b"x:", b"a"),
            (b"", b"a"),
            (b"\xff", b"a"),
            (b"content-length", b"-1"),
            (b"content-length", b"1 2"),
            ("x", b"a"),
            (b"x", "a"),
            (b"x", 1),
        ],
    )
    def test_refused(self, header):
        with pytest.raises((ValueError, TypeError)):
            head(headers=[header])

    def test_differing_lengths(self):
        with pytest.raises(ValueError, match="differ"):
            head(headers=[(b"content-length", b"1"), (b"content-length", b"2")])

    @pytest.mark.parametrize("status", [99, 101, 1000, "200", None])
    def test_bad_status(self, status):
        with pytest.raises(ValueError, match="status"):
            head(status)

    def test_made_up_names_do_not_fill_the_memory(self):
        from fastchannels.server import http

        for number in range(3000):
            head(headers=[(b"x-%d" % number, b"a")])
        assert len(http._checked) <= 1024

    def test_chunk(self):
        assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"

    def test_error_page_escapes(self):
        headers, page = error_page(400, "<script>")
        assert b"<script>" not in page
        assert dict(headers)[b"content-length"] == b"%d" % len(page)
        assert b"<h1>400 Bad Request</h1>" in page
