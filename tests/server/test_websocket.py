"""The opening handshake of RFC 6455 by itself, and the server side beside the client of ``websockets``."""

from __future__ import annotations

import base64
import os

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from fastchannels._core.websocket import WebSocketConnection
from fastchannels.exceptions import UsageError
from fastchannels.server.websocket import Handshake, HandshakeError

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

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

    def test_the_extended_connect_of_http_2(self):
        """RFC 8441: no key and no upgrade."""
        offer = [(b"host", b"a"), (b"sec-websocket-version", b"13"), (b"sec-websocket-protocol", b"chat, super")]
        handshake = Handshake("CONNECT", offer, "2")
        assert handshake.subprotocols == ["chat", "super"]
        assert handshake.fields("super", [(b"x-a", b"b")]) == [(b"Sec-WebSocket-Protocol", b"super"), (b"x-a", b"b")]
        with pytest.raises(UsageError, match="not offered"):
            handshake.fields("other")
        with pytest.raises(HandshakeError, match="not 13"):
            Handshake("CONNECT", offer[:1], "2")

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
