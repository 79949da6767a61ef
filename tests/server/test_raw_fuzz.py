"""Bytes that nearly are HTTP, put to a live server: it answers in HTTP or closes, complains nowhere, and goes on.

What the application saw of each request must be what h11, as a server, reads from the same bytes. ``RAW_FUZZ=20000`` in
the environment makes the run that much longer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import threading
from typing import NamedTuple

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastchannels.server.server import Config, Server
from tests.server import hostile
from tests.server.support import DEADLINE

EXAMPLES = int(os.environ.get("RAW_FUZZ", "400"))
QUIET = 0.01  # seconds of silence after which the client says that it will send no more

#: Requests to begin with: those of the table that are short.
SEEDS = sorted({case.data + case.more for case in hostile.CASES if len(case.data) < 1500})
PIECES = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b"\x0b", b":", b";", b",", b'"', b"\\", b"%",
    b"#", b"*", b"0", b"-", b"\x7f", b"\x80", b"\xff", b"0\r\n\r\n", b"3\r\nabc\r\n", b"ffffffffffffffff\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n",
    b"Connection: close\r\n", b"X: y\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n",
    b"HTTP/1.0", b"HTTP/1.1", b"GET ", b"HEAD ", b"http://c/d", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
]  # fmt: skip


#: h11 refuses a trailer that names the framing; to ignore it is as good (RFC 9110 section 6.5.1).
FRAMING_TRAILER = re.compile(
    rb"\r\n0+[ \t]*(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*?(?:transfer-encoding|content-length|host)[ \t]*:", re.IGNORECASE
)


class Seen(NamedTuple):
    """One request: with its whole body, or not."""

    method: str
    target: bytes
    body: bytes
    whole: bool


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0:
                data[at:at] = draw(st.sampled_from(PIECES))
            case 1:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 2:
                del data[at : at + draw(st.integers(1, 20))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case 4:
                data[at : at + draw(st.integers(0, 20))] = draw(st.sampled_from(PIECES))
            case _:
                data += draw(st.sampled_from(SEEDS))
    return bytes(data)


class Live:
    """A server in a thread of its own, and what its application saw and its loggers were told."""

    def __init__(self) -> None:
        self.seen: dict[int, list[Seen]] = {}
        self.complaints: list[str] = []
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)

    async def application(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await hostile.application(scope, receive, send)
            return
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        seen = self.seen.setdefault(scope["client"][1], [])
        seen.append(Seen(scope["method"], target, b"", False))
        whole = False
        while not whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            whole = not message["more_body"]
            seen[-1] = Seen(scope["method"], target, seen[-1].body + message["body"], whole)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", target)]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.complaints.append(repr(context)))
        self.stop, self.loop = asyncio.Event(), loop
        server = Server(Config(port=0), application=self.application)
        await server.start()
        self.port = server.addresses[0][1]
        self.ready.set()
        await self.stop.wait()
        await server.stop(0)

    def ask(self, data: bytes, cuts: list[int]) -> tuple[bytes, list[Seen]]:
        """All that comes back, and what the application saw."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            own = client.getsockname()[1]
            self.seen.pop(own, None)
            got = b""
            try:
                for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                    client.sendall(data[start:end])
                client.settimeout(QUIET)
                while True:
                    try:
                        piece = client.recv(65536)
                    except TimeoutError:
                        if client.gettimeout() == DEADLINE:
                            raise AssertionError("the server neither answers nor closes") from None
                        client.shutdown(socket.SHUT_WR)
                        client.settimeout(DEADLINE)
                        continue
                    if not piece:
                        break
                    got += piece
            except ConnectionError:
                pass  # refused before all was sent
        return got, self.seen.pop(own, [])


class Records(logging.Handler):
    def __init__(self, live: Live) -> None:
        super().__init__(logging.WARNING)
        self.live = live

    def emit(self, record: logging.LogRecord) -> None:
        self.live.complaints.append(record.getMessage())


@pytest.fixture(scope="module")
def live():
    live = Live()
    handler = Records(live)
    logging.getLogger().addHandler(handler)
    live.thread.start()
    assert live.ready.wait(DEADLINE)
    yield live
    live.loop.call_soon_threadsafe(live.stop.set)
    live.thread.join(DEADLINE)
    logging.getLogger().removeHandler(handler)
    assert not live.thread.is_alive()


def oracle(data: bytes) -> list[Seen]:
    """The requests that h11 reads, up to its first objection or an upgrade."""
    found: list[Seen] = []
    while data:
        # RFC 9112 section 2.2: empty lines before a request line are ignored.
        while data.startswith(b"\r\n"):
            data = data[2:]
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(data)
        try:
            while True:
                event = server.next_event()
                if isinstance(event, h11.Request):
                    found.append(Seen(event.method.decode(), event.target, b"", False))
                elif isinstance(event, h11.Data):
                    found[-1] = found[-1]._replace(body=found[-1].body + event.data)
                elif isinstance(event, h11.EndOfMessage):
                    found[-1] = found[-1]._replace(whole=True)
                    break
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        data = server.trailing_data[0]
    return found


def origin_form(target: bytes) -> bytes:
    """The absolute form without its scheme and authority (RFC 9112 section 3.2.2)."""
    if target.startswith(b"/") or b"://" not in target:
        return target
    rest = target.partition(b"://")[2]
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    rest = rest[min(ends, default=len(rest)) :]
    return rest if rest.startswith(b"/") else b"/" + rest


@pytest.mark.timeout(60 + EXAMPLES / 20)
@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 400, suppress_health_check=list(HealthCheck))
@given(data=mutations(), cuts=st.lists(st.integers(0, 400), max_size=3))
def test_raw_bytes(live: Live, data: bytes, cuts: list[int]) -> None:
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    got, seen = live.ask(data, cuts)
    assert live.complaints == []
    if got.startswith(b"\0\0"):
        return  # a SETTINGS frame: the bytes began as HTTP/2 does
    methods = tuple(request.method for request in seen)
    if got.startswith(b"HTTP/1.1 101"):
        methods = ("UPGRADE",)
    elif b"\r\n\r\nHTTP/1.1 101" in got:
        got = got[: got.index(b"HTTP/1.1 101")]
    if b"HTTP/1.1 100 " not in got:  # which would shift the methods
        hostile.answers(got, methods)
    expected = [request._replace(target=origin_form(request.target)) for request in oracle(data)]
    for index, request in enumerate(seen):
        assert index < len(expected), f"h11 reads no request {index + 1}, the application saw {request}"
        if request.whole:
            wanted = expected[index]
            if FRAMING_TRAILER.search(data):
                wanted = wanted._replace(whole=True)
            assert request == wanted
    again, _ = live.ask(b"GET /again HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", [])
    assert again.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nok\r\n" in again
