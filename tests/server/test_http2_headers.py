"""Header fields of HTTP/2: which requests are malformed (RFC 9113 section 8), and responses as hpack reads them."""

from __future__ import annotations

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from fastchannels.exceptions import HttpError
from fastchannels.server.http import CHUNKED, NO_BODY, CommonHeaders, HttpLimits
from fastchannels.server.http2_headers import (
    NO_TABLE,
    Malformed,
    check_trailers,
    encode_fields,
    encode_response,
    encode_status,
    read_request,
)

LIMITS = HttpLimits()
SILENT = CommonHeaders(None, False)


def pairs(**changes):
    """The fields of a GET; None leaves one out."""
    fields = {":method": "GET", ":scheme": "https", ":path": "/", ":authority": "a"}
    fields.update((":" + name if name in ("method", "scheme", "path", "authority", "protocol") else name, value)
                  for name, value in changes.items())  # fmt: skip
    return [(name.encode(), value.encode("latin-1")) for name, value in fields.items() if value is not None]


def read(fields, complete=True, limits=LIMITS):
    return read_request(fields, complete, limits)


def plus(*more, **changes):
    return [*pairs(**changes), *more]


MALFORMED = {
    "no method": pairs(method=None),
    "an empty method": pairs(method=""),
    "a method with a space": pairs(method="GE T"),
    "no scheme": pairs(scheme=None),
    "another scheme": pairs(scheme="ftp"),
    "no path": pairs(path=None),
    "an empty path": pairs(path=""),
    "a path without a slash": pairs(path="a"),
    "a whole URL": pairs(path="http://a/"),
    "* for a GET": pairs(path="*"),
    "a fragment": pairs(path="/a#b"),
    "a space in the path": pairs(path="/a b"),
    "bytes in the path": pairs(path="/\xe9"),
    "no authority": pairs(authority=None),
    "an empty authority": pairs(authority=""),
    "user information": pairs(authority="me@a"),
    "another Host": plus((b"host", b"b")),
    "two Hosts": plus((b"host", b"a"), (b"host", b"a"), authority=None),
    "a method twice": plus((b":method", b"GET")),
    "an unknown pseudo-header": plus((b":status", b"200")),
    "a pseudo-header after a field": [(b"x-a", b"b"), *pairs()],
    "a name in upper case": plus((b"X-A", b"b")),
    "an empty name": plus((b"", b"b")),
    "a name with a colon": plus((b"a:b", b"c")),
    "a name with a space": plus((b"a ", b"c")),
    "a value with a line break": plus((b"a", b"b\r\nc: d")),
    "a value with a NUL": plus((b"a", b"b\0")),
    "a value with a control character": plus((b"a", b"b\x0bc")),
    "a value with white space before": plus((b"a", b" b")),
    "a value with white space behind": plus((b"a", b"b\t")),
    "connection": plus((b"connection", b"close")),
    "proxy-connection": plus((b"proxy-connection", b"close")),
    "keep-alive": plus((b"keep-alive", b"timeout=5")),
    "transfer-encoding": plus((b"transfer-encoding", b"chunked")),
    "upgrade": plus((b"upgrade", b"websocket")),
    "te": plus((b"te", b"gzip")),
    "te with more than trailers": plus((b"te", b"trailers, gzip")),
    "a length that is none": plus((b"content-length", b"+1")),
    "two lengths": plus((b"content-length", b"0"), (b"content-length", b"1")),
    "a length in a list": plus((b"content-length", b"0, 0")),
    "a length and no body": plus((b"content-length", b"1")),
    "CONNECT with a path": pairs(method="CONNECT"),
    ":protocol without CONNECT": pairs(protocol="websocket"),
    "a WebSocket without a path": pairs(method="CONNECT", protocol="websocket", path=None),
    "a WebSocket that has ended": pairs(method="CONNECT", protocol="websocket"),
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed(fields):
    with pytest.raises(Malformed):
        read(fields)


def test_a_request():
    request = read(
        plus(
            (b"accept", b"*/*"), (b"cookie", b"a=b"), (b"x_under", b"dropped"), (b"x-a", b"1"), (b"cookie", b"c=d"),
            (b"x-a", b"2"), (b"daphne-root-path", b"/ro%20ot"), (b"te", b"trailers"), path="/a%20%C3%A9?q=%31&x",
        )
    )  # fmt: skip
    assert (request.method, request.path, request.raw_path) == ("GET", "/a é", b"/a%20%C3%A9")
    assert (request.query_string, request.version, request.root_path) == (b"q=%31&x", "2", "/ro ot")
    assert request.complete
    assert not request.websocket
    assert request.headers == [
        (b"host", b"a"), (b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2"), (b"te", b"trailers"),
        (b"cookie", b"a=b; c=d"),
    ]  # fmt: skip


def test_authority_and_host():
    assert read(plus((b"x", b"y"), (b"host", b"a.example:1"), authority=None)).headers[1] == (b"host", b"a.example:1")
    assert read(plus((b"host", b"A"), authority="a")).headers == [(b"host", b"a")]
    assert read(pairs(authority="[::1]:80")).headers == [(b"host", b"[::1]:80")]


def test_a_request_with_a_body():
    request = read(plus((b"content-length", b"2"), (b"expect", b"100-continue"), method="POST"), False)
    assert (request.content_length, request.expect_continue, request.complete) == (2, True, False)
    assert not read(plus((b"expect", b"100-continue"))).expect_continue, "there is no body to wait for"


def test_options_of_the_server():
    assert read(pairs(method="OPTIONS", path="*")).path == "*"


def test_a_websocket():
    request = read(plus((b"sec-websocket-version", b"13"), method="CONNECT", protocol="websocket", path="/ws?a"), False)
    assert request.websocket
    assert (request.path, request.query_string, request.headers[0]) == ("/ws", b"a", (b"host", b"a"))


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (pairs(method="CONNECT", scheme=None, path=None), 501),
        (pairs(method="CONNECT", protocol="connect-udp"), 501),
        (pairs(path="/" + "a" * LIMITS.request_line), 414),
        (plus((b"a", b"b" * LIMITS.header_bytes)), 431),
        (plus(*[(b"a", b"b")] * 100), 431),
    ],
)
def test_refused(fields, status):
    with pytest.raises(HttpError) as caught:
        read(fields, False)
    assert caught.value.status == status


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"X", b"a"), (b"connection", b"close"), (b"x", b"\n")])
def test_trailers_that_may_not_be(field):
    with pytest.raises(Malformed):
        check_trailers([(b"x-a", b"b"), field])


# ---------------------------------------------------------------------------------------------------- responses


def decoded(block):
    return [tuple(field) for field in Decoder().decode(block, raw=True)]


def response(status=200, headers=(), common=SILENT, bodiless=False):
    block, framing = encode_response(status, headers, common, bodiless)
    return decoded(NO_TABLE + block), framing


def test_a_response():
    fields, framing = response(200, [(b"Content-Type", b"text/plain"), (b"X-Own", b" v\t"), (b"content-length", b"2")])
    assert fields == [
        (b":status", b"200"),
        (b"content-type", b"text/plain"),
        (b"x-own", b"v"),
        (b"content-length", b"2"),
    ]
    assert framing == 2
    assert response()[1] == CHUNKED


@pytest.mark.parametrize("status", [200, 204, 206, 201, 304, 400, 404, 418, 500, 503, 599, 999])
def test_statuses(status):
    assert decoded(encode_status(status)) == [(b":status", b"%d" % status)]


@pytest.mark.parametrize(("status", "bodiless"), [(204, False), (304, False), (200, True)])
def test_no_body(status, bodiless):
    assert response(status, [], bodiless=bodiless)[1] == NO_BODY


def test_no_length_with_204():
    assert response(204, [(b"content-length", b"0")])[0] == [(b":status", b"204")]


def test_what_speaks_of_a_connection_is_left_out():
    names = (b"Connection", b"keep-alive", b"proxy-connection", b"Transfer-Encoding", b"upgrade")
    assert response(200, [(name, b"x") for name in names])[0] == [(b":status", b"200")]


def test_date_and_server():
    common = CommonHeaders("fastchannels", True, [("X-Further", "1")])
    assert [name for name, _ in response(common=common)[0]] == [b":status", b"date", b"server", b"x-further"]
    own = response(200, [(b"Date", b"now"), (b"Server", b"me")], common)[0]
    assert own == [(b":status", b"200"), (b"date", b"now"), (b"server", b"me"), (b"x-further", b"1")]


def test_cookies_stay_out_of_every_table():
    (field,) = Decoder().decode(encode_fields([(b"set-cookie", b"secret")]), raw=True)
    assert not field.indexable


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([(b"a", b"b\r\nc: d")], ValueError),
        ([(b"a", b"b\0")], ValueError),
        ([(b"a b", b"c")], ValueError),
        ([(b":status", b"200")], ValueError),
        ([("a", b"c")], TypeError),
        ([(b"content-length", b"-1")], ValueError),
        ([(b"content-length", b"1"), (b"content-length", b"2")], ValueError),
    ],
)
def test_what_may_not_stand_in_a_head(headers, error):
    with pytest.raises(error):
        response(200, headers)


@pytest.mark.parametrize("status", [100, 199, 1000, "200"])
def test_statuses_of_no_response(status):
    with pytest.raises(ValueError, match="status"):
        response(status)


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=300).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20000).map(str.encode)


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=5))
def test_hpack_reads_what_is_written(fields):
    left_out = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
    assert decoded(encode_fields(fields)) == [field for field in fields if field[0] not in left_out]
