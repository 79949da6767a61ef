"""HTTP/1.1 without a transport: heads of responses. The parser is tested in tests/core."""

from __future__ import annotations

import pytest

from fastchannels.server.events import Request
from fastchannels.server.http import (
    CHUNKED,
    LAST_CHUNK,
    NO_BODY,
    UNTIL_CLOSE,
    CommonHeaders,
    chunk,
    encode_head,
    encode_interim,
    encode_trailers,
    error_page,
)

COMMON = CommonHeaders("fastchannels")


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
        assert common.lines == b"server: other\r\ndate: never\r\n"
        assert common.all == b"server: other\r\ndate: never\r\n"
        assert head(common=common, headers=[(b"server", b"mine")])[1]["date"] == "never"

    def test_a_long_head(self):
        _, headers, _, _ = head(headers=[(b"x-%d" % number, b"v" * number) for number in range(300)])
        assert all(headers[f"x-{number}"] == "v" * number for number in range(300))

    def test_unknown_status(self):
        assert head(799)[0] == "HTTP/1.1 799 "

    @pytest.mark.parametrize(
        "header",
        [
            (b"x", b"a\r\nSet-Cookie: b"),
            (b"x", b"a\nb"),
            (b"x", b"a\rb"),
            (b"x", b"a\0b"),
            (b"x", b"a\x0bb"),
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

    def test_chunk(self):
        assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"

    def test_error_page_escapes(self):
        headers, page = error_page(400, "<script>")
        assert b"<script>" not in page
        assert dict(headers)[b"content-length"] == b"%d" % len(page)
        assert b"<h1>400 Bad Request</h1>" in page


class TestInterimAndTrailers:
    def test_interim(self):
        assert encode_interim(100, []) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert encode_interim(103, [(b"link", b"</a>")]) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        with pytest.raises(ValueError, match="line break"):
            encode_interim(103, [(b"link", b"a\r\nb: c")])

    def test_trailers(self):
        assert encode_trailers([]) == LAST_CHUNK
        assert encode_trailers([(b"digest", b"1"), (b"x", b"")]) == b"0\r\ndigest: 1\r\nx: \r\n\r\n"

    @pytest.mark.parametrize(
        "header", [(b"Content-Length", b"1"), (b"x", b"a\nb"), (b"x y", b"a"), ("x", b"a"), (b"set-cookie", b"a=b")]
    )
    def test_trailers_that_are_refused(self, header):
        with pytest.raises((ValueError, TypeError)):
            encode_trailers([header])
