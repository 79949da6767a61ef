"""The server side of RFC 6455 without a transport, by itself and beside the client of ``websockets``."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from fastchannels._core import ws
from fastchannels.exceptions import ClientDisconnected, UsageError
from fastchannels.server.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Handshake,
    HandshakeError,
    WebSocketConnection,
)

KEY = b"\x01\x80\xff\x7f"

HEADERS = [
    (b"host", b"example.org"),
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-version", b"13"),
]


def changed(**values):
    """HEADERS with some values replaced, or taken out where None, by name with underscores."""
    wanted = {name.replace("_", "-").encode(): value for name, value in values.items()}
    kept = [(name, wanted.get(name, value)) for name, value in HEADERS]
    kept += [(name, value) for name, value in wanted.items() if name not in dict(HEADERS)]
    return [(name, value) for name, value in kept if value is not None]


class TestHandshake:
    def test_the_example_of_the_rfc(self):
        assert Handshake("GET", HEADERS, "1.1").response() == (
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            b"\r\n"
        )

    @pytest.mark.parametrize(
        "headers",
        [
            changed(connection=b"keep-alive, Upgrade"),
            changed(connection=b"uPGRADE ,,"),
            [*HEADERS[:2], (b"connection", b"keep-alive"), *HEADERS[2:]],
            changed(upgrade=b"WebSocket"),
            changed(upgrade=b"h2c,\twebsocket"),
            changed(sec_websocket_extensions=b"permessage-deflate; client_max_window_bits"),
        ],
    )
    def test_what_opens(self, headers):
        assert b"extensions" not in Handshake("GET", headers, "1.1").response().lower()

    @pytest.mark.parametrize(
        ("method", "headers", "version", "status", "answer"),
        [
            ("POST", HEADERS, "1.1", 405, [(b"allow", b"GET")]),
            ("get", HEADERS, "1.1", 405, [(b"allow", b"GET")]),
            ("GET", HEADERS, "1.0", 400, []),
            ("GET", HEADERS, "2", 400, []),
            ("GET", changed(host=None), "1.1", 400, []),
            ("GET", [*HEADERS, (b"host", b"b")], "1.1", 400, []),
            ("GET", changed(upgrade=None), "1.1", 426, [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]),
            ("GET", changed(upgrade=b"h2c"), "1.1", 426, [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]),
            ("GET", changed(connection=None), "1.1", 400, []),
            ("GET", changed(connection=b"keep-alive"), "1.1", 400, []),
            ("GET", changed(connection=b"not-upgrade"), "1.1", 400, []),
            ("GET", changed(sec_websocket_version=None), "1.1", 426, [(b"sec-websocket-version", b"13")]),
            ("GET", changed(sec_websocket_version=b"8"), "1.1", 426, [(b"sec-websocket-version", b"13")]),
            ("GET", [*HEADERS, (b"sec-websocket-version", b"8")], "1.1", 426, [(b"sec-websocket-version", b"13")]),
            ("GET", changed(sec_websocket_key=None), "1.1", 400, []),
            ("GET", [*HEADERS, HEADERS[3]], "1.1", 400, []),
            ("GET", changed(sec_websocket_key=b""), "1.1", 400, []),
            ("GET", changed(sec_websocket_key=base64.b64encode(bytes(15))), "1.1", 400, []),
            ("GET", changed(sec_websocket_key=base64.b64encode(bytes(17))), "1.1", 400, []),
            ("GET", changed(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZQ"), "1.1", 400, []),
            ("GET", changed(sec_websocket_key=b"dGhl*HNhbXBsZSBub25jZQ=="), "1.1", 400, []),
            ("GET", changed(sec_websocket_key=b"\xff" * 24), "1.1", 400, []),
            ("GET", changed(sec_websocket_protocol=b"chat room"), "1.1", 400, []),
            ("GET", changed(sec_websocket_protocol=b"caf\xe9"), "1.1", 400, []),
        ],
    )
    def test_what_does_not(self, method, headers, version, status, answer):
        with pytest.raises(HandshakeError) as caught:
            Handshake(method, headers, version)
        assert caught.value.status == status
        assert caught.value.headers == answer
        assert caught.value.reason

    def test_subprotocols(self):
        headers = [*changed(sec_websocket_protocol=b"chat, v2.chat,"), (b"sec-websocket-protocol", b"chat,\techo")]
        handshake = Handshake("GET", headers, "1.1")
        assert handshake.subprotocols == ["chat", "v2.chat", "echo"]
        assert b"\r\nSec-WebSocket-Protocol: v2.chat\r\n" in handshake.response("v2.chat")
        assert b"Sec-WebSocket-Protocol" not in handshake.response()
        for other in ("v3.chat", "", "chat\r\nX: y"):
            with pytest.raises(UsageError, match="was not offered"):
                handshake.response(other)

    def test_headers_are_added_in_order(self):
        response = Handshake("GET", HEADERS, "1.1").response(
            headers=[(b"Set-Cookie", b"a=1"), (b"x-empty", b""), (b"Set-Cookie", b"b=caf\xe9")]
        )
        assert response.endswith(b"\r\nSet-Cookie: a=1\r\nx-empty: \r\nSet-Cookie: b=caf\xe9\r\n\r\n")

    @pytest.mark.parametrize(
        "header",
        [
            (b"x", b"a\r\nSet-Cookie: b"),
            (b"x", b"a\nb"),
            (b"x", b"a\n"),
            (b"x", b"a\r"),
            (b"x", b"a\0"),
            (b"x", b"a\x0bb"),
            (b"x", b"\x7f"),
            (b"", b"a"),
            (b"x y", b"a"),
            (b"x:", b"a"),
            (b"x\r\ny", b"a"),
            (b"x\n", b"a"),
            (b"Sec-WebSocket-Protocol", b"chat"),
            (b"SEC-WEBSOCKET-ACCEPT", b"x"),
            (b"sec-websocket-extensions", b"permessage-deflate"),
            (b"upgrade", b"h2c"),
            (b"Connection", b"close"),
            (b"content-length", b"5"),
            (b"transfer-encoding", b"chunked"),
        ],
    )
    def test_headers_that_are_refused(self, header):
        with pytest.raises(UsageError, match="header"):
            Handshake("GET", HEADERS, "1.1").response(headers=[header])


def masked(opcode, payload=b"", **options):
    return ws.frame(opcode, payload, key=KEY, **options)


def close_body(code, reason=b""):
    return code.to_bytes(2, "big") + reason


def sent(connection):
    return b"".join(connection.data_to_send())


class TestMessages:
    def test_both_ways(self):
        connection = WebSocketConnection()
        connection.receive_data(masked(1, "hé") + masked(2, b"\xff") + masked(10, b"p"))
        connection.receive_data(masked(1, ""))
        assert connection.events_received() == [(TEXT, "hé"), (BINARY, b"\xff"), (PONG, b"p"), (TEXT, "")]
        assert connection.events_received() == []
        assert connection.data_to_send() == []

        connection.send_text("hé")
        connection.send_bytes(b"\xff")
        connection.send_bytes(bytearray(b"a"))
        connection.send_bytes(memoryview(b"b"))
        connection.send_ping(b"ping")
        connection.send_pong()
        connection.send_frame(ws.frame(1, "built once"))
        assert ws.FrameParser(0, server=False).feed(sent(connection)) == [
            (1, "hé"), (2, b"\xff"), (2, b"a"), (2, b"b"), (9, b"ping"), (10, b""), (1, "built once"),
        ]  # fmt: skip
        assert connection.data_to_send() == []
        assert connection.open
        assert not connection.finished

    def test_large_payloads_are_not_copied(self):
        payload = bytes(100_000)
        connection = WebSocketConnection()
        connection.send_bytes(payload)
        pieces = connection.data_to_send()
        assert pieces[-1] is payload
        assert b"".join(pieces) == ws.frame(2, payload)

    def test_pings_are_answered_and_told(self):
        connection = WebSocketConnection()
        connection.receive_data(b"".join(masked(9, b"%d" % i) for i in range(3)))
        assert sent(connection) == b"".join(ws.frame(10, b"%d" % i) for i in range(3))
        assert connection.events_received() == [(PING, b"0"), (PING, b"1"), (PING, b"2")]

    def test_what_cannot_be_sent(self):
        connection = WebSocketConnection()
        for send, payload, error in [
            (connection.send_text, b"bytes", TypeError),
            (connection.send_bytes, "text", TypeError),
            (connection.send_bytes, 7, TypeError),
            (connection.send_text, "\ud800", UsageError),
            (connection.send_ping, bytes(126), UsageError),
            (connection.send_pong, bytes(126), UsageError),
        ]:
            with pytest.raises(error):
                send(payload)
        assert connection.data_to_send() == []
        assert connection.open


class TestClose:
    @pytest.mark.parametrize(
        ("body", "told", "answer"),
        [
            (b"", (1005, ""), b""),
            (close_body(1000), (1000, ""), close_body(1000)),
            (close_body(1001, "tschüß".encode()), (1001, "tschüß"), close_body(1001)),
            (close_body(4999, b"x" * 123), (4999, "x" * 123), close_body(4999)),
        ],
    )
    def test_by_the_client(self, body, told, answer):
        connection = WebSocketConnection()
        connection.receive_data(masked(1, "last") + masked(8, body) + b"\xffgarbage")
        assert connection.events_received() == [(TEXT, "last"), (CLOSE, told)]
        assert sent(connection) == ws.frame(8, answer)
        assert connection.finished
        assert not connection.open
        # Nothing follows, whatever happens.
        connection.receive_data(masked(1, "late"))
        connection.receive_eof()
        connection.send_close()
        assert connection.events_received() == []
        assert connection.data_to_send() == []
        for send in (connection.send_text, connection.send_bytes, connection.send_frame):
            with pytest.raises(ClientDisconnected):
                send("x" if send == connection.send_text else b"x")
        for send in (connection.send_ping, connection.send_pong):
            with pytest.raises(ClientDisconnected):
                send()

    def test_by_us(self):
        connection = WebSocketConnection()
        connection.send_text("last")
        connection.send_close(3001, "gehört")
        connection.send_close(1000)
        assert sent(connection) == ws.frame(1, "last") + ws.frame(8, close_body(3001, "gehört".encode()))
        assert not connection.open
        assert not connection.finished
        with pytest.raises(UsageError, match="send_close"):
            connection.send_text("late")
        # What the client sent before it saw our close; a ping gets no answer any more.
        connection.receive_data(masked(1, "crossing") + masked(9, b"ping"))
        assert connection.events_received() == [(TEXT, "crossing"), (PING, b"ping")]
        assert connection.data_to_send() == []
        connection.receive_data(masked(8, close_body(3001)))
        assert connection.events_received() == [(CLOSE, (3001, ""))]
        assert connection.finished
        assert connection.data_to_send() == []
        with pytest.raises(UsageError, match="send_close"):
            connection.send_text("later still")

    def test_default_code(self):
        connection = WebSocketConnection()
        connection.send_close()
        assert sent(connection) == ws.frame(8, close_body(1000))

    @pytest.mark.parametrize("first", [False, True])
    def test_by_the_end_of_the_transport(self, first):
        connection = WebSocketConnection()
        if first:
            connection.send_close()
            connection.data_to_send()
        connection.receive_data(masked(1, "cut off")[:-1])
        connection.receive_eof()
        connection.receive_eof()
        assert connection.events_received() == [(CLOSE, (1006, ""))]
        assert connection.finished
        assert connection.data_to_send() == []

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1, 70000])
    def test_codes_that_no_frame_carries(self, code):
        connection = WebSocketConnection()
        with pytest.raises(UsageError, match=f"close code {code}:"):
            connection.send_close(code)
        assert connection.open

    @pytest.mark.parametrize(
        ("reason", "words"), [("x" * 124, "123 bytes"), ("é" * 62, "124"), ("\ud800", "surrogate")]
    )
    def test_reasons_that_no_frame_carries(self, reason, words):
        connection = WebSocketConnection()
        with pytest.raises(UsageError, match=words):
            connection.send_close(1000, reason)
        assert connection.open


class TestFaults:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (ws.frame(1, b"unmasked"), 1002),
            (masked(0, b"nothing to continue"), 1002),
            (masked(1, b"\xff"), 1007),
            (masked(2, bytes(1001))[:4], 1009),
            (masked(8, close_body(1005)), 1002),
            (masked(8, b"\x03"), 1002),
        ],
    )
    @pytest.mark.parametrize("together", [False, True])
    def test_answered_and_told_with_one_code(self, data, code, together):
        connection = WebSocketConnection(max_message_size=1000)
        for piece in [masked(1, "good") + data] if together else [masked(1, "good"), data]:
            connection.receive_data(piece)
        message, (opcode, (told, reason)) = connection.events_received()
        assert message == (TEXT, "good")
        assert (opcode, told) == (CLOSE, code)
        assert sent(connection) == ws.frame(8, close_body(code, reason.encode()))
        assert connection.finished
        connection.receive_data(masked(1, "late"))
        connection.receive_eof()
        assert connection.events_received() == []
        with pytest.raises(ClientDisconnected):
            connection.send_text("late")

    def test_after_our_close_no_second_close_frame(self):
        connection = WebSocketConnection()
        connection.send_close()
        connection.data_to_send()
        connection.receive_data(b"\xff")
        assert connection.events_received() == [(CLOSE, (1002, "reserved opcode"))]
        assert connection.data_to_send() == []
        assert connection.finished

    def test_frame_size(self):
        connection = WebSocketConnection(max_message_size=0, max_frame_size=10)
        connection.receive_data(masked(1, "1234567890", fin=False) + masked(0, b"x") + masked(1, "12345678901")[:2])
        assert connection.events_received() == [(TEXT, "1234567890x"), (CLOSE, (1009, "frame too big"))]

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=20), max_size=8))
    def test_no_bytes_make_it_raise(self, pieces):
        connection = WebSocketConnection(max_message_size=1000)
        for piece in pieces:
            connection.receive_data(piece)
        connection.receive_eof()
        events = connection.events_received()
        assert [event[0] for event in events].index(CLOSE) == len(events) - 1
        assert connection.finished


class Pair:
    """A client of ``websockets`` and our connection, joined in memory."""

    def __init__(self, subprotocols=None, **options):
        self.client = ClientProtocol(parse_uri("ws://example.org/chat"), subprotocols=subprotocols)
        request = self.client.connect()
        headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()]
        self.handshake = Handshake("GET", headers, "1.1")
        self.client.send_request(request)
        self.client.data_to_send()
        self.server = WebSocketConnection(**options)

    def open(self, *arguments):
        self.client.receive_data(self.handshake.response(*arguments))
        (response,) = self.client.events_received()
        assert self.client.handshake_exc is None, self.client.handshake_exc
        return response

    def exchange(self):
        """Carry all bytes both ways until there are none."""
        moved = True
        while moved:
            to_server, to_client = b"".join(self.client.data_to_send()), b"".join(self.server.data_to_send())
            moved = bool(to_server or to_client)
            if to_server:
                self.server.receive_data(to_server)
            if to_client:
                self.client.receive_data(to_client)


class TestBesideWebsockets:
    def test_handshake(self):
        pair = Pair(subprotocols=["v2", "v1"])
        assert pair.handshake.subprotocols == ["v2", "v1"]
        response = pair.open("v1", [(b"x-room", b"7")])
        assert response.headers["x-room"] == "7"
        assert pair.client.subprotocol == "v1"

    def test_echo(self):
        pair = Pair(max_message_size=0)
        pair.open()
        payloads = [os.urandom(size) for size in (0, 1, 125, 126, 65535, 65536, 200_000)]
        for payload in payloads:
            pair.client.send_binary(payload)
            pair.client.send_text(payload.hex().encode())
        pair.client.send_text(b"frag", fin=False)
        pair.client.send_ping(b"between")
        pair.client.send_continuation(b"mented", fin=True)
        pair.exchange()
        for opcode, payload in pair.server.events_received():
            if opcode == TEXT:
                pair.server.send_text(payload)
            elif opcode == BINARY:
                pair.server.send_bytes(payload)
        pair.exchange()
        got = [(frame.opcode, bytes(frame.data)) for frame in pair.client.events_received()]
        assert got[0] == (Opcode.PONG, b"between")
        expected = []
        for payload in payloads:
            expected += [(Opcode.BINARY, payload), (Opcode.TEXT, payload.hex().encode())]
        assert got[1:] == [*expected, (Opcode.TEXT, b"fragmented")]

    def test_close_by_either(self):
        pair = Pair()
        pair.open()
        pair.client.send_close(1001, "away")
        pair.exchange()
        assert pair.server.events_received() == [(CLOSE, (1001, "away"))]
        assert pair.client.close_rcvd.code == 1001

        pair = Pair()
        pair.open()
        pair.server.send_close(1012, "restart")
        pair.exchange()
        assert (pair.client.close_rcvd.code, pair.client.close_rcvd.reason) == (1012, "restart")
        assert pair.server.events_received() == [(CLOSE, (1012, "restart"))]
        assert pair.server.finished
