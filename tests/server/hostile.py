"""Requests that break HTTP/1.1 or come near it, and what RFC 9110, 9112, 6455 and 6585 demand of a server.

Data, an ASGI application and a client; nothing of fastchannels, so that the same table can be put to other servers.

An *outcome* is a word: the statuses of the answers in order, then ``+`` when the connection goes on, which a last
request for ``/probe`` shows. ``"400"``: refused and closed. ``"200+"``: answered, and the next request is understood.
``"none"``: closed without an answer. ``"stuck"``: neither an answer nor a close in time.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
MAX_ANSWER = 1 << 20
SOCKET = ("UPGRADE",)  # the methods of a case that is a WebSocket handshake


class Case(NamedTuple):
    """``data`` is sent, then ``PROBE``; a server must give one of the outcomes in ``allowed``.

    ``strict`` names those of them that fastchannels permits itself, all when empty. ``seen`` must stand in the first
    answer, which tells what the application saw. ``more`` is sent when the first answer (a 100) came.
    """

    name: str
    section: str
    data: bytes
    allowed: tuple[str, ...]
    strict: tuple[str, ...] = ()
    seen: bytes = b""
    more: bytes = b""
    methods: tuple[str, ...] = ()
    probe: bool = True

    @property
    def demanded(self) -> tuple[str, ...]:
        return self.strict or self.allowed


# ------------------------------------------------------------------------------------------------ the application


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Tells what it saw: method, target, body, the values of ``X`` and ``Host``. ``/204`` and ``/304`` send a body."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    path = scope.get("raw_path") or scope["path"].encode()
    values = {key: b"|".join(value for name, value in scope["headers"] if name == key) for key in (b"x", b"host")}
    text = b"%s %s %s [%s] x=<%s> host=<%s>" % (
        scope["method"].encode(), path, scope["query_string"], body, values[b"x"], values[b"host"],
    )  # fmt: skip
    status = {"/204": 204, "/304": 304}.get(scope["path"], 200)
    headers = [(b"content-length", b"%d" % len(text)), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


# ----------------------------------------------------------------------------------------------------- the client


class Answer(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def answers(data: bytes, methods: tuple[str, ...] = (), closed: bool = True) -> list[Answer]:
    """The responses in ``data``, read as a client by h11; ``methods`` are those of the requests, GET when left out.

    Raises ``h11.RemoteProtocolError`` for what is no HTTP, or is cut off. An upgrade ends the list.
    """
    import h11

    found: list[Answer] = []
    while data:
        method = methods[len(found)] if len(found) < len(methods) else "GET"
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER)
        upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")] if method == "UPGRADE" else []
        name = "GET" if upgrade else method
        client.send(h11.Request(method=name, target="/", headers=[("Host", "a"), *upgrade]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        if closed:
            client.receive_data(b"")
        response, body = None, b""
        while True:
            event = client.next_event()
            if isinstance(event, h11.InformationalResponse):
                found.append(Answer(event.status_code, list(event.headers), b""))
                if event.status_code == 101:
                    return found
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError(f"an incomplete response after {len(found)} complete ones")
        assert response is not None
        found.append(Answer(response.status_code, list(response.headers), body))
        data = client.trailing_data[0]
    return found


async def ask(port: int, case: Case, patience: float = 5.0) -> tuple[str, list[Answer]]:
    """The outcome of ``case`` at the server on ``port``, and the answers to all but the probe."""
    got = bytearray()
    try:
        await asyncio.wait_for(_exchange(port, case, got), patience)
    except (TimeoutError, asyncio.TimeoutError):
        return "stuck", []
    except ConnectionError:
        pass  # the answer, if any, came before the reset
    data = bytes(got)
    if data.startswith(b"\0\0"):
        return "h2", []  # a SETTINGS frame
    found = answers(data, case.methods)
    alive = bool(found) and found[-1].body.startswith(b"GET /probe ")
    if alive:
        found.pop()
    return " ".join(str(answer.status) for answer in found) + ("+" if alive else "") or "none", found


async def _exchange(port: int, case: Case, got: bytearray) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(case.data)
        if case.more or case.methods == SOCKET:  # nothing may follow a handshake before its answer
            while b"\r\n\r\n" not in got and (piece := await reader.read(65536)):
                got += piece
            if got.startswith(b"HTTP/1.1 101"):
                return
            writer.write(case.more)
        if case.probe:
            writer.write(PROBE)
        else:
            writer.write_eof()
        while piece := await reader.read(65536):
            got += piece
            if got.startswith(b"\0\0"):
                return
    finally:
        writer.transport.abort()


# ------------------------------------------------------------------------------------------------------ the table

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"

REFUSED = ("400",)
ANSWERED = ("200+",)
UNKNOWN_CODING = ("501", "400")
BROKEN_BODY = ("400", "none")
TOO_LARGE = ("431", "400", "413")


def length(value: bytes, *allowed: str, seen: bytes = b"", name: str = "") -> Case:
    """A body ``abc`` whose Content-Length is ``value``."""
    title = name or f"Content-Length: {value.decode('latin-1')!r}"
    data = POST + b"Content-Length:" + value + b"\r\n\r\nabc"
    return Case(title, "9110 8.6, 9112 6.3", data, allowed or REFUSED, seen=seen)


def coding(value: bytes, *allowed: str, seen: bytes = b"") -> Case:
    """A chunked body behind the Transfer-Encoding ``value``."""
    data = POST + b"Transfer-Encoding:" + value + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    title = f"Transfer-Encoding: {value.decode('latin-1')!r}"
    return Case(title, "9112 6.1", data, allowed or UNKNOWN_CODING, seen=seen)


def chunks(name: str, body: bytes, *allowed: str, seen: bytes = b"", strict: tuple[str, ...] = ()) -> Case:
    return Case(f"chunks: {name}", "9112 7.1", CHUNKED + body, allowed or BROKEN_BODY, strict, seen)


def field(name: str, line: bytes, *allowed: str, seen: bytes = b"", strict: tuple[str, ...] = ()) -> Case:
    """A request with the header line ``line``, which has its own line end."""
    return Case(f"field: {name}", "9110 5, 9112 5", GET + line + b"\r\n", allowed or REFUSED, strict, seen)


def host(name: str, lines: bytes, *allowed: str, seen: bytes = b"", strict: tuple[str, ...] = ()) -> Case:
    data = b"GET / HTTP/1.1\r\n" + lines + b"\r\n"
    return Case(f"Host: {name}", "9112 3.2", data, allowed or REFUSED, strict, seen)


def target(name: str, value: bytes, *allowed: str, seen: bytes = b"", strict: tuple[str, ...] = ()) -> Case:
    data = b"GET " + value + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    return Case(f"target: {name}", "9112 3.2", data, allowed or REFUSED, strict, seen)


def line(name: str, first: bytes, *allowed: str, seen: bytes = b"", strict: tuple[str, ...] = ()) -> Case:
    """A request with the request line ``first``, which has its own line end."""
    return Case(f"request line: {name}", "9112 2, 3", first + HOST + b"\r\n", allowed or REFUSED, strict, seen)


BOTH = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
TE_FIRST = b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
LENGTH_3 = b"Content-Length: 3\r\n"

LENGTHS = [
    Case("Content-Length, then Transfer-Encoding", "9112 6.3", POST + BOTH, ("400", "200"), REFUSED),
    Case("Transfer-Encoding, then Content-Length", "9112 6.3", POST + TE_FIRST, ("400", "200"), REFUSED),
    Case(
        "Content-Length beside a coding that is none", "9112 6.3",
        POST + LENGTH_3 + b"Transfer-Encoding: identity\r\n\r\nabc", ("400", "501"),
    ),
    Case(
        "two lengths that differ", "9112 6.3", POST + LENGTH_3 + b"Content-Length: 4\r\n\r\nabc", REFUSED
    ),
    Case(
        "the same length twice", "9110 8.6", POST + LENGTH_3 + LENGTH_3 + b"\r\nabc", ("400", "200+"), seen=b"[abc]"
    ),
    length(b" 3, 3", "400", "200+", seen=b"[abc]"),
    length(b" 3, 4"),
    length(b" +3"),
    length(b" -3"),
    length(b" 0x3"),
    length(b" 3.0"),
    length(b" 3_0"),
    length(b" 3 0"),
    length(b" 3;"),
    length(b" \xb3"),
    length(b" \x0b3"),
    length(b" 3\x00"),
    length(b""),
    length(b" "),
    length(b" three"),
    length(b" 18446744073709551619", "400", "413", name="Content-Length: 2^64 + 3"),
    length(b" 1" + b"0" * 40, "400", "413", name="Content-Length of 41 digits"),
    length(b" \t3 \t", *ANSWERED, seen=b"[abc]"),
    length(b"3", *ANSWERED, seen=b"[abc]"),
    length(b" 0003", *ANSWERED, seen=b"[abc]"),
    Case("a body with GET", "9110 9.3.1", GET + LENGTH_3 + b"\r\nabc", ANSWERED, seen=b"GET /  [abc]"),
    Case("POST without a length", "9112 6.3", POST + b"\r\n", ANSWERED, seen=b"[]"),
    Case(
        "a request in a body stays body", "9112 6.3",
        POST + b"Content-Length: %d\r\n\r\n" % len(PROBE) + PROBE, ANSWERED, seen=b"[GET /probe HTTP/1.1",
    ),
    Case(
        "underscores do not make a Transfer-Encoding", "9110 5.1",
        POST + b"Transfer_Encoding: chunked\r\n" + LENGTH_3 + b"\r\nabc", ("200+", "400"), seen=b"[abc]",
    ),
    Case(
        "the end comes before the length is reached", "9112 8",
        POST + b"Content-Length: 10\r\n\r\nabc", BROKEN_BODY, probe=False,
    ),
    Case("the end comes before the last chunk", "9112 8", CHUNKED + b"3\r\nabc\r\n", BROKEN_BODY, probe=False),
]  # fmt: skip

CODINGS = [
    coding(b" chunked, identity"),
    coding(b" identity, chunked"),
    coding(b" xchunked"),
    coding(b" chunkedx"),
    coding(b" chunked;q=1"),
    coding(b" chunked;"),
    coding(b" gzip"),
    coding(b" gzip, chunked"),
    coding(b" chunked, chunked"),
    coding(b" identity"),
    coding(b' "chunked"'),
    coding(b" \x0bchunked"),
    coding(b" chunked\x0b"),
    coding(b" chunked\x00"),
    coding(b" chun ked"),
    coding(b""),
    coding(b" chunked\r\nTransfer-Encoding: chunked"),
    coding(b" chunked\r\nTransfer-Encoding: identity"),
    coding(b" Chunked", *ANSWERED, seen=b"[abc]"),
    coding(b"\tchunked \t", *ANSWERED, seen=b"[abc]"),
    Case(
        "Transfer-Encoding with a space before its colon", "9112 5.1",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", REFUSED,
    ),
    Case(
        "Transfer-Encoding in HTTP/1.0", "9112 6.1",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ("400", "200"), REFUSED,
    ),
]  # fmt: skip

ABC = b"3\r\nabc\r\n"
END = b"0\r\n\r\n"

CHUNKS = [
    chunks("two and the last", b"1\r\na\r\n2\r\nbc\r\n" + END, *ANSWERED, seen=b"[abc]"),
    chunks("upper and lower case digits", b"A\r\n0123456789\r\nb\r\n0123456789a\r\n" + END, *ANSWERED),
    chunks("leading zeros", b"0003\r\nabc\r\n000\r\n\r\n", *ANSWERED, seen=b"[abc]"),
    chunks("a thousand zeros", b"0" * 1000 + b"3\r\nabc\r\n" + END, "200+", "400", "413", "431"),
    chunks("size 2^64 + 3", b"10000000000000003\r\nabc\r\n" + END, "400", "413", "none"),
    chunks("size of 40 digits", b"F" * 40 + b"\r\nabc\r\n" + END, "400", "413", "none"),
    chunks("size with plus", b"+3\r\nabc\r\n" + END),
    chunks("size with minus", b"-3\r\nabc\r\n" + END),
    chunks("size with 0x", b"0x3\r\nabc\r\n" + END),
    chunks("size with an underscore", b"0_3\r\nabc\r\n" + END),
    chunks("space before the size", b" 3\r\nabc\r\n" + END),
    chunks("space after the size", b"3 \r\nabc\r\n" + END),
    chunks("tab after the size", b"3\t\r\nabc\r\n" + END),
    chunks("no size", b"\r\nabc\r\n" + END),
    chunks("size that is no number", b"g\r\nabc\r\n" + END),
    chunks("NUL after the size", b"3\0\r\nabc\r\n" + END),
    chunks("size ended by a line feed", b"3\nabc\r\n" + END),
    chunks("size ended by a carriage return", b"3\rabc\r\n" + END),
    chunks("size ended by two carriage returns", b"3\r\r\nabc\r\n" + END),
    chunks("data without its line end", b"3\r\nabc" + END),
    chunks("data ended by a line feed", b"3\r\nabc\n" + END),
    chunks("data ended by something else", b"3\r\nabcXY" + END),
    chunks("data longer than its size", b"3\r\nabcd\r\n" + END),
    chunks("last chunk ended by a line feed", ABC + b"0\n\r\n"),
    chunks("trailers ended by a line feed", ABC + b"0\r\n\n"),
    chunks("extension", b"3;name=value\r\nabc\r\n" + END, *ANSWERED, seen=b"[abc]"),
    chunks("extension with a quoted value", b'3;name="a b"\r\nabc\r\n' + END, *ANSWERED, seen=b"[abc]"),
    chunks("extension with a line feed", b"3;a\nb\r\nabc\r\n" + END),
    chunks("extension with a carriage return", b"3;a\rb\r\nabc\r\n" + END),
    chunks("extension with NUL", b"3;a\0b\r\nabc\r\n" + END),
    chunks("extension of 128 KiB", b"3;" + b"a" * 131072 + b"\r\nabc\r\n" + END, "400", "413", "431", "none"),
    chunks(
        "extensions of 128 KiB over many chunks", (b"1;" + b"a" * 126 + b"\r\na\r\n") * 1024 + END,
        "400", "413", "431", "none",
    ),
    chunks("trailer", ABC + b"0\r\nX: 1\r\n\r\n", *ANSWERED, seen=b"[abc]"),
    chunks("trailer that frames", ABC + b"0\r\nContent-Length: 30\r\n\r\n", "200+", "400", "none"),
    chunks("trailer that frames by chunks", ABC + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "200+", "400", "none"),
    chunks("trailer named Host", ABC + b"0\r\nHost: b\r\n\r\n", "200+", "400", "none", seen=b"[abc]"),
    chunks("trailer of 128 KiB", ABC + b"0\r\nX: " + b"a" * 131072 + b"\r\n\r\n", *TOO_LARGE, "none"),
    chunks("2,000 trailers", ABC + b"0\r\n" + b"X: 1\r\n" * 2000 + b"\r\n", *TOO_LARGE, "none"),
    chunks("trailer with a bad name", ABC + b"0\r\nX Y: 1\r\n\r\n"),
    chunks("trailer without a colon", ABC + b"0\r\nXY\r\n\r\n"),
    chunks("folded trailer", ABC + b"0\r\nX: 1\r\n 2\r\n\r\n", "400", "none", "200+", strict=BROKEN_BODY),
    chunks("trailer with NUL", ABC + b"0\r\nX: \0\r\n\r\n"),
    chunks("trailer with a line feed", ABC + b"0\r\nX: 1\nY: 2\r\n\r\n", "400", "none", "200+", strict=BROKEN_BODY),
]  # fmt: skip

FIELDS = [
    field("white space around a value", b"X:\t a b \t\r\n", *ANSWERED, seen=b"x=<a b>"),
    field("no white space", b"X:a\r\n", *ANSWERED, seen=b"x=<a>"),
    field("empty value", b"X:\r\n", *ANSWERED, seen=b"x=<>"),
    field("bytes above 0x7f in a value", b"X: \xe9\xff\r\n", "200+", "400"),
    field("every token character in a name", b"!#$%&'*+-.^`|~09AZaz: 1\r\n", *ANSWERED),
    field("repeated field", b"X: 1\r\nX: 2\r\n", *ANSWERED, seen=b"1"),
    field("space before the colon", b"X : 1\r\n"),
    field("tab before the colon", b"X\t: 1\r\n"),
    field("empty name", b": 1\r\n"),
    field("no colon", b"X\r\n"),
    field("space in a name", b"X Y: 1\r\n"),
    field("parenthesis in a name", b"X(Y: 1\r\n"),
    field("at sign in a name", b"X@Y: 1\r\n"),
    field("slash in a name", b"X/Y: 1\r\n"),
    field("quote in a name", b'X"Y: 1\r\n'),
    field("NUL in a name", b"X\0: 1\r\n"),
    field("DEL in a name", b"X\x7f: 1\r\n"),
    field("byte above 0x7f in a name", b"X\x80: 1\r\n"),
    field("folded value", b"X: 1\r\n 2\r\n", "400", "200+", strict=REFUSED),
    field("folded by a tab", b"X: 1\r\n\t2\r\n", "400", "200+", strict=REFUSED),
    field("NUL in a value", b"X: a\0b\r\n", "400", "200+", strict=REFUSED),
    field("0x01 in a value", b"X: a\x01b\r\n", "400", "200+", strict=REFUSED),
    field("0x0b in a value", b"X: a\x0bb\r\n", "400", "400+", "200+", strict=REFUSED),
    field("0x0c at the end of a value", b"X: a\x0c\r\n", "400", "400+", "200+", strict=REFUSED),
    field("DEL in a value", b"X: a\x7fb\r\n", "400", "200+", strict=REFUSED),
    field("carriage return in a value", b"X: a\rb\r\n", "400", "200+", strict=REFUSED),
    field("carriage return before a field", b"X: a\rY: b\r\n", "400", "200+", strict=REFUSED),
    field("two carriage returns at the end", b"X: a\r\r\n", "400", "200+", strict=REFUSED),
    field("line end that is a line feed", b"X: a\nY: b\r\n", "400", "200+", strict=REFUSED),
    field("head that ends with a line feed", b"X: a\r\n\n", "400", "200+", "400+", strict=REFUSED),
    Case(
        "field: white space before the first name", "9112 2.2",
        b"GET / HTTP/1.1\r\n X: 1\r\n" + HOST + b"\r\n", ("400", "200+"), REFUSED,
    ),
    Case(
        "field: the first is a fold of the request line", "9112 2.2",
        b"GET / HTTP/1.1\r\n\t" + HOST + b"\r\n", REFUSED,
    ),
    field("value of 128 KiB", b"X: " + b"a" * 131072 + b"\r\n", *TOO_LARGE, "200+", strict=("431",)),
    field("name of 128 KiB", b"X" * 131072 + b": 1\r\n", *TOO_LARGE, "200+", strict=("431",)),
    field("name that does not end", b"X" * 262144, *TOO_LARGE, strict=("431", "400")),
    field("2,000 fields", b"X: 1\r\n" * 2000, *TOO_LARGE, "200+", strict=("431",)),
]  # fmt: skip

HOSTS = [
    host("missing", b""),
    host("twice", b"Host: a\r\nHost: b\r\n"),
    host("the same twice", b"Host: a\r\nHost: a\r\n"),
    host("name and port", b"Host: a.example:8000\r\n", *ANSWERED, seen=b"host=<a.example:8000>"),
    host("IPv6", b"Host: [::1]:80\r\n", *ANSWERED, seen=b"host=<[::1]:80>"),
    host("empty", b"Host:\r\n", "200+", "400"),
    host("space", b"Host: a b\r\n"),
    host("list", b"Host: a, b\r\n"),
    host("slash", b"Host: a/b\r\n"),
    host("question mark", b"Host: a?b\r\n"),
    host("number sign", b"Host: a#b\r\n"),
    host("backslash", b"Host: a\\b\r\n"),
    host("user", b"Host: u@a\r\n"),
    host("port that is no number", b"Host: a:8x\r\n"),
    host("two ports", b"Host: a:1:2\r\n"),
    host("bracket that is not closed", b"Host: [::1\r\n"),
    host("bracket in the middle", b"Host: a[::1]\r\n"),
    host("byte above 0x7f", b"Host: a\x80\r\n"),
    host("angle brackets", b"Host: <a>\r\n"),
    Case("Host: missing in HTTP/1.0", "9112 3.2", b"GET / HTTP/1.0\r\n\r\n", ("200",)),
]

TARGETS = [
    target("absolute, another host", b"http://b/x?y", *ANSWERED, seen=b"GET /x y [] x=<> host=<b>"),
    target("absolute, no path", b"http://b", *ANSWERED, seen=b"GET /  []"),
    target("absolute, only a query", b"http://b?q", *ANSWERED, seen=b"GET / q []"),
    target("absolute, no host", b"http:///x"),
    target("absolute, a user", b"http://u@b/x", "400", "200+", strict=REFUSED),
    target("absolute, a bad port", b"http://b:8x/"),
    target("absolute, a scheme of its own", b"ftp://b/", "400", "404", "421", "200+"),
    target("asterisk with GET", b"*", "400", "404", "404+"),
    Case(
        "target: asterisk with OPTIONS", "9112 3.2.4", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", ANSWERED,
        seen=b"OPTIONS *", methods=("OPTIONS",),
    ),
    Case(
        "target: CONNECT", "9110 9.3.6", b"CONNECT a:80 HTTP/1.1\r\n" + HOST + b"\r\n",
        ("501", "400", "405", "501+", "405+"),
    ),
    target("fragment", b"/a#b"),
    target("no slash", b"a"),
    target("empty", b""),
    target("space", b"/a b"),
    target("tab", b"/a\tb"),
    target("NUL", b"/a\0b"),
    target("DEL", b"/a\x7fb"),
    target("bytes above 0x7f", b"/\xc3\xa9"),
    target("carriage return", b"/a\rb"),
    target("a percent sign without two digits", b"/%zz", "400", "200+"),
    target("a percent sign at the end", b"/%4", "400", "200+"),
    target("a percent-encoded slash and NUL", b"/a%2Fb%00", "200+", "400", "404+"),
    target("bytes that are no UTF-8", b"/%ff", "200+", "400"),
    target("dots are the application's", b"/../x", "200+", "400", "404+"),
    target("two slashes at the start", b"//b/x", *ANSWERED, seen=b"GET //b/x "),
    target("128 KiB", b"/" + b"a" * 131072, "414", "400", "431", "200+", strict=("414",)),
    target("query of 128 KiB", b"/?" + b"a" * 131072, "414", "400", "431", "200+", strict=("414",)),
]  # fmt: skip

LINES = [
    line("a line end before it", b"\r\nGET / HTTP/1.1\r\n", *ANSWERED),
    line("two spaces", b"GET  / HTTP/1.1\r\n", "400", "200+", strict=REFUSED),
    line("tab", b"GET\t/ HTTP/1.1\r\n", "400", "200+", strict=REFUSED),
    line("space before it", b" GET / HTTP/1.1\r\n"),
    line("space behind it", b"GET / HTTP/1.1 \r\n", "400", "200+", strict=REFUSED),
    line("line end that is a line feed", b"GET / HTTP/1.1\n", "400", "200+", strict=REFUSED),
    line("line end that is a carriage return", b"GET / HTTP/1.1\r"),
    line("no version (HTTP/0.9)", b"GET /\r\n", "400", "505", "none"),
    line("version 0.9", b"GET / HTTP/0.9\r\n", "400", "505"),
    line("version 1.2", b"GET / HTTP/1.2\r\n", "200+", "505"),
    line("version 2.0", b"GET / HTTP/2.0\r\n", "505", "400"),
    line("version 3.0", b"GET / HTTP/3.0\r\n", "505", "400"),
    line("version 1.10", b"GET / HTTP/1.10\r\n", "400", "505"),
    line("version 1", b"GET / HTTP/1\r\n", "400", "505"),
    line("version with lower-case name", b"GET / http/1.1\r\n", "400", "505"),
    line("something behind the version", b"GET / HTTP/1.1x\r\n", "400", "505"),
    line("another protocol", b"GET / ICY/1.1\r\n", "400", "505"),
    line("lower-case method", b"get / HTTP/1.1\r\n", "400", "501", "405", "200+", "405+", "501+"),
    line("at sign in the method", b"G@T / HTTP/1.1\r\n"),
    line("colon in the method", b"GET: / HTTP/1.1\r\n"),
    line("NUL in the method", b"GE\0T / HTTP/1.1\r\n"),
    line("no method", b" / HTTP/1.1\r\n"),
    line("method of 128 KiB", b"G" * 131072 + b" / HTTP/1.1\r\n", "400", "501", "414", "431"),
    Case("an answer as a request", "9112 3", b"HTTP/1.1 200 OK\r\n" + HOST + b"\r\n", REFUSED),
    Case("a TLS hello", "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(256), ("400", "none")),
    Case("bytes at random", "9112 3", bytes(range(128, 256)) * 4 + b"\r\n\r\n", ("400", "none")),
    Case(
        "the preface of HTTP/2", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
        ("505", "400", "none", "h2"), probe=False,
    ),
]  # fmt: skip

EXPECTING = POST + b"Expect: 100-continue\r\n"

ORDER = [
    Case(
        "100 before the body", "9110 10.1.1", EXPECTING + LENGTH_3 + b"\r\n", ("100 200+",), more=b"abc",
        methods=("POST", "POST"),
    ),
    Case(
        "100 in capitals", "9110 10.1.1", POST + b"Expect: 100-Continue\r\n" + LENGTH_3 + b"\r\n", ("100 200+",),
        more=b"abc",
    ),
    Case("100 with the body at hand", "9110 10.1.1", EXPECTING + LENGTH_3 + b"\r\nabc", ("100 200+", "200+")),
    Case("100 without a body", "9110 10.1.1", EXPECTING + b"\r\n", ("100 200+", "200+")),
    Case(
        "100 from HTTP/1.0", "9110 10.1.1",
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n" + LENGTH_3 + b"\r\nabc", ("200",),
    ),
    Case("an expectation unknown", "9110 10.1.1", GET + b"Expect: more\r\n\r\n", ("417", "417+", "200+")),
    Case(
        "three requests at once", "9112 9.3.2",
        POST + LENGTH_3 + b"\r\nabc" + GET + b"\r\n" + CHUNKED + ABC + END, ("200 200 200+",), seen=b"POST /  [abc]",
    ),
    Case("an error behind a request", "9112 9.3.2", GET + b"\r\n" + GET + b"X Y: 1\r\n\r\n", ("200 400",)),
    Case("a request behind an error", "9112 9.3.2", GET + b"X Y: 1\r\n\r\n" + GET + b"\r\n", REFUSED),
    Case("a line end behind a body", "9112 2.2", POST + LENGTH_3 + b"\r\nabc\r\n" + GET + b"\r\n", ("200 200+",)),
    Case("rubbish behind a body", "9112 6.3", POST + LENGTH_3 + b"\r\nabcdef\r\n\r\n", ("200 400",)),
    Case("Connection: close", "9112 9.6", GET + b"Connection: close\r\n\r\n", ("200",)),
    Case("Connection: close in a list", "9112 9.6", GET + b"Connection: keep-alive, CLOSE\r\n\r\n", ("200",)),
    Case("HTTP/1.0", "9112 9.3", b"GET / HTTP/1.0\r\n" + HOST + b"\r\n", ("200",)),
    Case(
        "HTTP/1.0 that wants to stay", "9112 9.3", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", ("200+", "200")
    ),
    Case("HEAD", "9112 6.3", b"HEAD / HTTP/1.1\r\n" + HOST + b"\r\n", ANSWERED, methods=("HEAD",)),
    Case("HEAD in HTTP/1.0", "9112 6.3", b"HEAD / HTTP/1.0\r\n\r\n", ("200",), methods=("HEAD",)),
    Case("204 has no body", "9112 6.3", b"GET /204 HTTP/1.1\r\n" + HOST + b"\r\n", ("204+",)),
    Case("304 has no body", "9112 6.3", b"GET /304 HTTP/1.1\r\n" + HOST + b"\r\n", ("304+",)),
    Case("HEAD of a 304", "9112 6.3", b"HEAD /304 HTTP/1.1\r\n" + HOST + b"\r\n", ("304+",), methods=("HEAD",)),
]  # fmt: skip

UPGRADES = [
    Case("a handshake", "6455 4.2", UPGRADE + KEY + VERSION + b"\r\n", ("101",), methods=SOCKET),
    Case("a handshake with a body", "6455 4.1", UPGRADE + KEY + VERSION + LENGTH_3 + b"\r\nabc", ("400", "101"),
         REFUSED, methods=SOCKET),
    Case("a handshake with chunks", "6455 4.1",
         UPGRADE + KEY + VERSION + b"Transfer-Encoding: chunked\r\n\r\n" + END, ("400", "101"), REFUSED,
         methods=SOCKET),
    Case("a handshake with both lengths", "9112 6.3", UPGRADE + KEY + VERSION + BOTH, REFUSED, methods=SOCKET),
    Case("a handshake without a key", "6455 4.2.1", UPGRADE + VERSION + b"\r\n", ("400", "400+"), methods=SOCKET),
    Case("a handshake with a short key", "6455 4.2.1", UPGRADE + VERSION + b"Sec-WebSocket-Key: YQ==\r\n\r\n",
         ("400", "400+"), methods=SOCKET),
    Case("a handshake with two keys", "6455 11.3.1", UPGRADE + VERSION + KEY + KEY + b"\r\n", ("400", "400+"),
         methods=SOCKET),
    Case("a handshake of version 12", "6455 4.4", UPGRADE + KEY + b"Sec-WebSocket-Version: 12\r\n\r\n",
         ("426", "400", "426+", "400+"), methods=SOCKET),
    Case("a handshake by POST", "6455 4.2.1", b"POST" + (UPGRADE + KEY + VERSION)[3:] + b"\r\n",
         ("400", "405", "400+", "405+", "200+"), methods=SOCKET),
    Case("a handshake in HTTP/1.0", "9110 7.8",
         b"GET / HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + KEY + VERSION + b"\r\n",
         ("200", "400"), methods=SOCKET),
    Case("Upgrade without Connection", "9110 7.8", GET + b"Upgrade: websocket\r\n" + KEY + VERSION + b"\r\n",
         ("200+", "400", "400+")),
    Case("Connection without Upgrade", "9110 7.8", GET + b"Connection: Upgrade\r\n" + KEY + VERSION + b"\r\n",
         ("200+", "400")),
    Case("an upgrade to HTTP/2 with a body", "9113 3.1",
         POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + LENGTH_3
         + b"\r\nabc", ANSWERED, seen=b"[abc]"),
    Case("an upgrade to something else with chunks", "9110 7.8",
         POST + b"Connection: upgrade\r\nUpgrade: x/1\r\nTransfer-Encoding: chunked\r\n\r\n" + ABC + END, ANSWERED,
         seen=b"[abc]"),
    Case("an upgrade to something else with both lengths", "9112 6.3",
         POST + b"Connection: upgrade\r\nUpgrade: x/1\r\n" + BOTH, ("400", "200"), REFUSED),
]  # fmt: skip

CASES = [*LENGTHS, *CODINGS, *CHUNKS, *FIELDS, *HOSTS, *TARGETS, *LINES, *ORDER, *UPGRADES]
