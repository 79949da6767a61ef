"""The compiled parser of HTTP/1.1 requests: whole, byte by byte, split at random, and beside httptools and h11."""

from __future__ import annotations

import gc
import itertools
import re
import tracemalloc

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastchannels._core.http import BODY_END, HttpParser, Request
from fastchannels.exceptions import HttpError, UsageError

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
PROBE = b"GET /probe HTTP/1.1\r\nHost: p\r\n\r\n"
LIMITS = (16 * 1024, 64 * 1024, 100)
# No limit of time for an example: the machine may be busy.
unhurried = settings(deadline=None)


def parse(*pieces, limits=LIMITS):
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
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
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
        assert shape(parse(start, b"X: a\r\n" * 101))[-1] == 431
        assert shape(parse(start, b"X: %s\r\n" % (b"a" * 65536)))[-1] == 431

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

    @pytest.mark.parametrize("value", [b"nonsense", b"100-continue, nonsense", b""])
    def test_other_expectations(self, value):
        assert shape(parse(HEAD + b"Expect: %b\r\n\r\n" % value)) == [417]

    def test_what_a_client_accepts_behind_a_body(self):
        assert parse(HEAD + b"TE: trailers\r\n\r\n").events[0].te_trailers
        assert not parse(HEAD + b"TE: gzip\r\n\r\n").events[0].te_trailers

    @pytest.mark.parametrize(
        ("target", "path", "raw_path", "query"),
        [
            (b"/", "/", b"/", b""),
            (b"/%C3%A4%2F?%20", "/\xe4/", b"/%C3%A4%2F", b"%20"),
            (b"/%zz%4", "/%zz%4", b"/%zz%4", b""),
            (b"/a?b?c", "/a", b"/a", b"b?c"),
            (b"//a/../b", "//a/../b", b"//a/../b", b""),
            (b"http://b", "/", b"/", b""),
            (b"http://b?q", "/", b"/", b"q"),
            (b"HTTPS://b:1/%41", "/A", b"/%41", b""),
        ],
    )
    def test_targets(self, target, path, raw_path, query):
        event = parse(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target).events[0]
        assert (event.path, event.raw_path, event.query_string, event.shown) == (
            path, raw_path, query, raw_path.decode(),
        )  # fmt: skip

    @pytest.mark.parametrize("target", [b"*", b"http://b"])
    def test_options_of_the_whole_server(self, target):
        assert parse(b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % target).events[0].path == "*"

    @pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "M-SEARCH", "get"])
    def test_methods(self, method):
        event = parse(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method.encode()).events[0]
        assert (event.method, type(event.method)) == (method, str)

    def test_names_are_lower_case_and_those_with_underscores_dropped(self):
        data = HEAD + b"ACCEPT: 1\r\nX-Own^|: 2\r\nX_Own: 3\r\nAccept-Encoding: \t 4 \t\r\nEmpty:\r\n\r\n"
        assert parse(data).events[0].headers == [
            (b"host", b"a"), (b"accept", b"1"), (b"x-own^|", b"2"), (b"accept-encoding", b"4"), (b"empty", b""),
        ]  # fmt: skip

    def test_limits(self):
        limits = (19, 32, 2)
        assert shape(parse(b"GET /67890 HTTP/1.1\r\nHost: a\r\n\r\n", limits=limits))[-1] != 414
        assert shape(parse(b"GET /678901 HTTP/1.1\r\nHost: a\r\n\r\n", limits=limits)) == [414]
        assert shape(parse(HEAD + b"X: a\r\nX: a\r\n\r\n", limits=limits)) == [431]
        assert shape(parse(HEAD + b"X: %b\r\n\r\n" % (b"a" * 30), limits=limits)) == [431]
        for wrong in [(0, 1, 1), (1, -1, 1), (1, 1, 2**30)]:
            with pytest.raises(UsageError):
                HttpParser(wrong)

    def test_a_body_is_not_kept(self):
        parser = parse(HEAD + b"Content-Length: 100000000\r\n\r\n")
        parser.events.clear()
        piece = bytes(100_000)
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(100):
                parser.feed(piece)
                parser.events.clear()
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()

    def test_requests_are_freed(self):
        parser = HttpParser()
        data = HEAD + b"Content-Length: 3\r\nX-Unknown: 1\r\n\r\nabc"

        def work():
            for _ in range(2000):
                parser.feed(data[:30])
                parser.feed(data[30:])
                parser.events.clear()

        work()
        gc.collect()
        tracemalloc.start()
        try:
            work()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 20_000
        finally:
            tracemalloc.stop()


class Httptools:
    """What httptools reads of a stream, in the words of ``shape``; ``failed`` when it refuses it."""

    def __init__(self, data):
        self.found = []
        self.failed = False
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.failed = True  # it reads no further
        except httptools.HttpParserError:
            self.failed = True

    def on_message_begin(self):
        self.target = b""
        self.headers = []
        self.in_head = True

    def on_url(self, url):
        self.target += url

    def on_header(self, name, value):
        if self.in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self):
        self.in_head = False
        self.found.append(
            [
                self.parser.get_method(),
                self.target.removesuffix(b"?"),
                self.parser.get_http_version(),
                self.headers,
                b"",
                False,
            ]
        )

    def on_body(self, data):
        self.found[-1][4] += data

    def on_message_complete(self):
        self.found[-1][5] = True


def by_h11(data):
    """What h11 reads of a stream, and whether it refuses it."""
    found = []
    connection = h11.Connection(h11.SERVER)
    try:
        connection.receive_data(data.lstrip(b"\r\n"))  # it knows no empty lines before a request
        while True:
            event = connection.next_event()
            if type(event) is h11.Request:
                headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                found.append(
                    [event.method, event.target.removesuffix(b"?"), event.http_version.decode(), headers, b"", False]
                )
            elif type(event) is h11.Data:
                found[-1][4] += event.data
            elif type(event) is h11.EndOfMessage:
                found[-1][5] = True
                if connection.our_state is not h11.MUST_CLOSE:
                    answer = [("content-length", "0")]
                    connection.send(h11.Response(status_code=200, headers=answer))
                    connection.send(h11.EndOfMessage())
                    connection.start_next_cycle()
            else:
                return found, False
    except h11.RemoteProtocolError:
        return found, True
    except h11.LocalProtocolError:
        return found, False  # the connection was to end


def ours(data):
    found = []
    parser = parse(data)
    for event in parser.events:
        if isinstance(event, Request):
            target = event.raw_path + (b"?" + event.query_string if event.query_string else b"")
            found.append([event.method.encode(), target, event.version, event.headers, b"", event.complete])
        elif event is BODY_END:
            found[-1][5] = True
        elif isinstance(event, HttpError):
            return found, event.status
        else:
            found[-1][4] += event
    return found, None


TOKENS = st.sampled_from(["X", "a-b", "Accept", "cOOKIE", "x.y", "X!"])
VALUES = st.sampled_from([b"", b"a", b"a b", b"*/*", b"\xe4", b"a\tb", b'"q, r"', b"1"])
SPACES = st.sampled_from([b"", b" ", b"  ", b"\t"])
FAULTS = [b"\n", b"\r", b"\0", b" ", b"\t", b"\x0b", b":", b";", b"\r\n", b"0", b"a", b"\xff", b",", b"+"]


@st.composite
def requests(draw):
    """A request that RFC 9112 allows, with any framing."""
    line = b"%b %b HTTP/1.1\r\n" % (
        draw(st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS"])),
        draw(st.sampled_from([b"/", b"/a?b", b"/%20", b"/a/b;c=d?e=f&g"])),
    )
    head = [b"Host:%ba%b" % (draw(SPACES), draw(SPACES))]
    for name in draw(st.lists(TOKENS, max_size=3)):
        head.append(name.encode() + b":" + draw(SPACES) + draw(VALUES) + draw(SPACES))
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        head.append(b"Content-Length: %d" % len(body))
    elif framing == "chunked":
        head.append(b"Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
        pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]
        extension = draw(st.sampled_from([b"", b";x", b";x=y", b';x="y z"']))
        body = b"".join(b"%X%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
        body += b"0\r\n" + draw(st.sampled_from([b"", b"T: v\r\n"])) + b"\r\n"
    else:
        body = b""
    return line + b"\r\n".join(head) + b"\r\n\r\n" + body


class TestOracles:
    @unhurried
    @given(st.lists(requests(), min_size=1, max_size=3))
    def test_valid_streams_mean_the_same(self, several):
        data = b"".join(several)
        found, status = ours(data)
        assert status is None
        theirs = Httptools(data)
        assert not theirs.failed
        assert found == theirs.found
        assert (found, False) == by_h11(data)

    @settings(deadline=None, max_examples=400)
    @given(requests(), st.data())
    def test_with_a_fault_nothing_is_read_that_an_oracle_reads_otherwise(self, data, draw):
        """What we take whole at least one of them takes, and none of them in another meaning."""
        where = draw.draw(st.integers(0, len(data)))
        fault = draw.draw(st.sampled_from(FAULTS))
        until = where + draw.draw(st.integers(0, 2))
        data = data[:where] + fault + data[until:] + PROBE
        found, status = ours(data)
        theirs = Httptools(data)
        by, refused = by_h11(data)
        assert status in (None, 400, 417, 501, 505)
        if status is None and found[-1][1] == b"/probe":
            readings = [reading for reading, failed in ((theirs.found, theirs.failed), (by, refused)) if not failed]
            # RFC 9112 section 7.1.1 wants white space before a chunk's extension read, and neither does.
            assert readings or re.search(rb"[0-9A-F][ \t]+;", data), "none of them takes this"
            assert all(reading == found for reading in readings), "one of them reads this otherwise"
