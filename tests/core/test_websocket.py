"""An open WebSocket without a transport: messages, pings, the closing handshake, and peers that break the rules."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastchannels._core import ws
from fastchannels._core.websocket import WebSocketConnection
from fastchannels.exceptions import ClientDisconnected, UsageError

KEY = b"\x01\x80\xff\x7f"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


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


class TestSlowPeers:
    def test_only_the_last_of_many_pings_is_answered(self):
        connection = WebSocketConnection()
        connection.mute = True
        connection.receive_data(b"".join(masked(9, b"%d" % i) for i in range(1000)))
        assert len(connection.events_received()) == 1000
        assert sent(connection) == b""
        connection.mute = False
        assert sent(connection) == ws.frame(10, b"999")
        assert sent(connection) == b""
