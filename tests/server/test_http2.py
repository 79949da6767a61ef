"""The HTTP/2 engine: what RFC 9113 demands of a server frame by frame, and what clients may not cost it."""

from __future__ import annotations

import itertools
import struct

import pytest
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import settings as prescribe
from hypothesis import strategies as st

from fastchannels.exceptions import HttpError
from fastchannels.server.http import HttpLimits
from fastchannels.server.http2 import Http2Connection
from fastchannels.server.http2_outgoing import DATA, END, FAULT, GOING, REQUEST, RESET, Http2Limits
from tests.server.http2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SOCKET,
    START,
    WINDOW_UPDATE,
    block,
    frame,
    headers,
    parse,
    settings,
    word,
)  # fmt: skip
from tests.server.http2_frames import DATA as F_DATA

NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11
OPEN = headers(1, POST, END_HEADERS)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def connection(limits=Http2Limits(), start=START):  # noqa: B008 - an immutable tuple
    engine = Http2Connection(limits, Clock())
    engine.receive_data(start)
    engine.data_to_send()
    return engine


def given_frames(data, limits=Http2Limits(), start=START):  # noqa: B008 - an immutable tuple
    """The engine after ``data``, its events and its frames."""
    engine = connection(limits, start)
    engine.receive_data(data)
    events = engine.events_received()
    return engine, events, parse(engine.data_to_send())


def verdict(engine, frames):
    """``("goaway", code)``, ``("reset", stream, code)`` or None."""
    for found in frames:
        if isinstance(found, GoAwayFrame):
            assert engine.finished
            return ("goaway", found.error_code)
        if isinstance(found, RstStreamFrame):
            return ("reset", found.stream_id, found.error_code)
    assert not engine.finished
    return None


def fields(*more, without=()):
    return [pair for pair in GET if pair[0] not in without] + list(more)


CASES = {
    # 3.4 the preface
    "a preface that is none": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ("goaway", PROTOCOL_ERROR), b""),
    "no SETTINGS first": (PREFACE + frame(PING, 0, 0, b"12345678"), ("goaway", PROTOCOL_ERROR), b""),
    "an acknowledgement first": (PREFACE + settings(flags=ACK), ("goaway", PROTOCOL_ERROR), b""),
    # 4.1, 4.2 the frame
    "an unknown frame": (frame(0x16, 0xFF, 0, b"abc"), None),
    "an unknown frame on a stream": (OPEN + frame(0x16, 0, 1, b"abc"), None),
    "undefined flags": (frame(PING, 0x16, 0, b"12345678"), None),
    "the reserved bit": (frame(PING, 0, 0x80000000, b"12345678"), None),
    "a frame of 2^14 bytes": (OPEN + frame(F_DATA, 0, 1, bytes(16384)), None),
    "a larger DATA": (OPEN + frame(F_DATA, 0, 1, bytes(16385)), ("goaway", FRAME_SIZE_ERROR)),
    "a larger HEADERS": (frame(HEADERS, END_HEADERS, 1, bytes(16385)), ("goaway", FRAME_SIZE_ERROR)),
    "a larger frame that is only announced": (frame(F_DATA, 0, 1, length=2**24 - 1), ("goaway", FRAME_SIZE_ERROR)),
    # 4.3 header compression
    "a header block that cannot be decoded": (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff"), ("goaway", 9)),
    "an index of no entry": (frame(HEADERS, 5, 1, b"\xfe"), ("goaway", COMPRESSION_ERROR)),
    "a table size above ours": (frame(HEADERS, 5, 1, b"\x3f\xe2\x1f" + block(GET)), ("goaway", COMPRESSION_ERROR)),
    "a table size update at the end": (frame(HEADERS, 5, 1, block(GET) + b"\x20"), ("goaway", COMPRESSION_ERROR)),
    "huffman padding with zeros": (frame(HEADERS, 5, 1, b"\x00\x82\x00\x00\x00"), ("goaway", COMPRESSION_ERROR)),
    "an interrupted block": (
        frame(HEADERS, END_STREAM, 1, block(GET)[:2]) + frame(PING, 0, 0, b"12345678"), ("goaway", PROTOCOL_ERROR)),
    "a block continued on another stream": (
        frame(HEADERS, END_STREAM, 1, block(GET)[:2]) + frame(CONTINUATION, 4, 3, block(GET)[2:]),
        ("goaway", PROTOCOL_ERROR)),
    "a block interrupted by an unknown frame": (
        frame(HEADERS, END_STREAM, 1, block(GET)[:2]) + frame(0x16, 0, 1, b""), ("goaway", PROTOCOL_ERROR)),
    # 5.1 states
    "DATA on an idle stream": (frame(F_DATA, END_STREAM, 1, b"a"), ("goaway", PROTOCOL_ERROR)),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, word(8)), ("goaway", PROTOCOL_ERROR)),
    "WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 1, word(8)), ("goaway", PROTOCOL_ERROR)),
    "CONTINUATION on an idle stream": (frame(CONTINUATION, 4, 1, block(GET)), ("goaway", PROTOCOL_ERROR)),
    "PRIORITY on an idle stream": (frame(PRIORITY, 0, 3, word(1) + b"\x10"), None),
    "DATA after the end of the request": (headers(1) + frame(F_DATA, 0, 1, b"a"), ("reset", 1, STREAM_CLOSED)),
    "HEADERS after the end of the request": (headers(1) + headers(1), ("reset", 1, STREAM_CLOSED)),
    "WINDOW_UPDATE after the end of the request": (headers(1) + frame(WINDOW_UPDATE, 0, 1, word(8)), None),
    "PRIORITY after a reset": (
        OPEN + frame(RST_STREAM, 0, 1, word(8)) + frame(PRIORITY, 0, 1, word(0) + b"\x01"), None),
    "DATA after the client's reset": (
        OPEN + frame(RST_STREAM, 0, 1, word(8)) + frame(F_DATA, 0, 1, b"a"), ("reset", 1, STREAM_CLOSED)),
    "HEADERS after the client's reset": (
        OPEN + frame(RST_STREAM, 0, 1, word(8)) + headers(1), ("goaway", STREAM_CLOSED)),
    "WINDOW_UPDATE after a reset": (
        OPEN + frame(RST_STREAM, 0, 1, word(8)) + frame(WINDOW_UPDATE, 0, 1, word(8)), None),
    # 5.1.1 numbers
    "an even stream": (headers(2), ("goaway", PROTOCOL_ERROR)),
    "a lower number": (headers(5) + headers(3), ("goaway", PROTOCOL_ERROR)),
    # 5.3 priorities
    "HEADERS that depends on itself": (
        frame(HEADERS, 5 | PRIORITIZED, 1, word(1) + b"\x10" + block(GET)), ("goaway", PROTOCOL_ERROR)),
    "PRIORITY that depends on itself": (OPEN + frame(PRIORITY, 0, 1, word(1) + b"\x10"), ("reset", 1, PROTOCOL_ERROR)),
    "HEADERS with a priority": (frame(HEADERS, 5 | PRIORITIZED, 1, word(0x80000003) + b"\x10" + block(GET)), None),
    "HEADERS shorter than its priority": (
        frame(HEADERS, 5 | PRIORITIZED, 1, b"\0\0"), ("goaway", FRAME_SIZE_ERROR)),
    # 6.1 DATA
    "DATA on stream 0": (frame(F_DATA, 0, 0, b"a"), ("goaway", PROTOCOL_ERROR)),
    "padding as long as the payload": (OPEN + frame(F_DATA, PADDED, 1, b"\x03abc"), None),
    "padding longer than the payload": (OPEN + frame(F_DATA, PADDED, 1, b"\x04abc"), ("goaway", PROTOCOL_ERROR)),
    "padding without a length": (OPEN + frame(F_DATA, PADDED, 1, b""), ("goaway", PROTOCOL_ERROR)),
    # 6.2 HEADERS
    "HEADERS on stream 0": (headers(0), ("goaway", PROTOCOL_ERROR)),
    "HEADERS with padding": (frame(HEADERS, 5 | PADDED, 1, b"\x02" + block(GET) + b"\0\0"), None),
    "HEADERS with too much padding": (frame(HEADERS, 5 | PADDED, 1, b"\xff" + block(GET)), ("goaway", PROTOCOL_ERROR)),
    # 6.3 PRIORITY
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, word(1) + b"\x10"), ("goaway", PROTOCOL_ERROR)),
    "PRIORITY of 4 bytes": (OPEN + frame(PRIORITY, 0, 1, word(3)), ("reset", 1, FRAME_SIZE_ERROR)),
    # 6.4 RST_STREAM
    "RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, word(8)), ("goaway", PROTOCOL_ERROR)),
    "RST_STREAM of 3 bytes": (OPEN + frame(RST_STREAM, 0, 1, b"abc"), ("goaway", FRAME_SIZE_ERROR)),
    # 6.5 SETTINGS
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1, b""), ("goaway", PROTOCOL_ERROR)),
    "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, b"abcde"), ("goaway", FRAME_SIZE_ERROR)),
    "SETTINGS acknowledged with a payload": (settings((3, 1), flags=ACK), ("goaway", FRAME_SIZE_ERROR)),
    "ENABLE_PUSH of 2": (settings((2, 2)), ("goaway", PROTOCOL_ERROR)),
    "ENABLE_CONNECT_PROTOCOL of 2": (settings((8, 2)), ("goaway", PROTOCOL_ERROR)),
    "INITIAL_WINDOW_SIZE of 2^31": (settings((4, 2**31)), ("goaway", FLOW_CONTROL_ERROR)),
    "MAX_FRAME_SIZE of 2^14 - 1": (settings((5, 16383)), ("goaway", PROTOCOL_ERROR)),
    "MAX_FRAME_SIZE of 2^24": (settings((5, 2**24)), ("goaway", PROTOCOL_ERROR)),
    "an unknown setting": (settings((0xFF, 1)), None),
    "a setting twice": (settings((4, 1), (4, 100)), None),
    # 6.6 PUSH_PROMISE
    "PUSH_PROMISE": (OPEN + frame(PUSH_PROMISE, 4, 1, word(2) + block(GET)), ("goaway", PROTOCOL_ERROR)),
    # 6.7 PING
    "PING on a stream": (frame(PING, 0, 1, b"12345678"), ("goaway", PROTOCOL_ERROR)),
    "PING of 7 bytes": (frame(PING, 0, 0, b"1234567"), ("goaway", FRAME_SIZE_ERROR)),
    "PING acknowledged": (frame(PING, ACK, 0, b"12345678"), None),
    # 6.8 GOAWAY
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, word(0) + word(0)), ("goaway", PROTOCOL_ERROR)),
    "GOAWAY of 4 bytes": (frame(GOAWAY, 0, 0, word(0)), ("goaway", FRAME_SIZE_ERROR)),
    "GOAWAY": (frame(GOAWAY, 0, 0, word(0) + word(0) + b"bye"), None),
    # 6.9 WINDOW_UPDATE
    "WINDOW_UPDATE of 0": (frame(WINDOW_UPDATE, 0, 0, word(0)), ("goaway", PROTOCOL_ERROR)),
    "WINDOW_UPDATE of 0 on a stream": (OPEN + frame(WINDOW_UPDATE, 0, 1, word(0)), ("reset", 1, PROTOCOL_ERROR)),
    "WINDOW_UPDATE of 3 bytes": (frame(WINDOW_UPDATE, 0, 0, b"abc"), ("goaway", FRAME_SIZE_ERROR)),
    "a window above 2^31 - 1": (frame(WINDOW_UPDATE, 0, 0, word(2**31 - 1)), ("goaway", FLOW_CONTROL_ERROR)),
    "a stream's window above 2^31 - 1": (
        OPEN + frame(WINDOW_UPDATE, 0, 1, word(2**31 - 1)), ("reset", 1, FLOW_CONTROL_ERROR)),
    "a setting that makes a window too large": (
        OPEN + frame(WINDOW_UPDATE, 0, 1, word(2**31 - 65536)) + settings((4, 65536 + 1)),
        ("goaway", FLOW_CONTROL_ERROR)),
    # 6.10 CONTINUATION
    "a block in three parts": (
        frame(HEADERS, END_STREAM, 1, block(GET)[:1]) + frame(CONTINUATION, 0, 1, block(GET)[1:2])
        + frame(CONTINUATION, 4, 1, block(GET)[2:]), None),
    "CONTINUATION after the end of the block": (
        headers(1) + frame(CONTINUATION, 4, 1, b""), ("goaway", PROTOCOL_ERROR)),
    "CONTINUATION on stream 0": (
        frame(HEADERS, END_STREAM, 1, block(GET)[:2]) + frame(CONTINUATION, 4, 0, block(GET)[2:]),
        ("goaway", PROTOCOL_ERROR)),
    # 8.1 the message; each malformed one is in test_http2_headers.py
    "trailers": (OPEN + headers(1, [("x-checksum", "1")]), None),
    "trailers without an end": (OPEN + headers(1, [("x-a", "1")], END_HEADERS), ("reset", 1, PROTOCOL_ERROR)),
    "trailers with a pseudo-header": (OPEN + headers(1, [(":path", "/")]), ("reset", 1, PROTOCOL_ERROR)),
    "a malformed request": (headers(1, fields(("X-A", "1"))), ("reset", 1, PROTOCOL_ERROR)),
    "less data than announced": (
        headers(1, [*POST, ("content-length", "2")], END_HEADERS) + frame(F_DATA, END_STREAM, 1, b"a"),
        ("reset", 1, PROTOCOL_ERROR)),
    "more data than announced": (
        headers(1, [*POST, ("content-length", "2")], END_HEADERS) + frame(F_DATA, 0, 1, b"abc"),
        ("reset", 1, PROTOCOL_ERROR)),
    "less data than announced, then trailers": (
        headers(1, [*POST, ("content-length", "2")], END_HEADERS) + headers(1, [("x-a", "1")]),
        ("reset", 1, PROTOCOL_ERROR)),
    "as much data as announced": (
        headers(1, [*POST, ("content-length", "2")], END_HEADERS) + frame(F_DATA, END_STREAM, 1, b"ab"), None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_the_rfc_demands(case):
    data, expected, *start = case
    engine, events, frames = given_frames(data, start=start[0] if start else START)
    assert verdict(engine, frames) == expected
    assert (FAULT in [event[0] for event in events]) == (expected is not None and expected[0] == "goaway")


def test_our_settings():
    first, update = parse(Http2Connection(Http2Limits(streams=7, window=70000), Clock()).data_to_send())
    assert isinstance(first, SettingsFrame)
    assert first.settings == {3: 7, 4: 70000, 6: 65536, 8: 1, 9: 1}
    assert isinstance(update, WindowUpdateFrame)
    assert 65535 + update.window_increment == 1024 * 1024


def test_settings_and_pings_are_answered_in_order():
    _, _, frames = given_frames(settings() + frame(PING, 0, 0, b"12345678") + settings())
    assert [(type(found), found.flags) for found in frames] == [
        (SettingsFrame, {"ACK"}), (PingFrame, {"ACK"}), (SettingsFrame, {"ACK"}),
    ]  # fmt: skip
    assert frames[1].opaque_data == b"12345678"


def test_a_request_with_a_body():
    engine, events, _ = given_frames(
        OPEN + frame(F_DATA, PADDED, 1, b"\x02ab\0\0") + frame(F_DATA, END_STREAM, 1, b"c")
    )
    request = events[0][2]
    assert (request.method, request.path, request.headers, request.version) == ("POST", "/", [(b"host", b"a")], "2")
    assert [(kind, value) for kind, _, value in events[1:]] == [(DATA, b"ab"), (DATA, b"c"), (END, None)]
    assert engine.streams[1].ended


def test_an_answer_ends_the_stream():
    engine, events, _ = given_frames(headers(1))
    stream = events[0][1]
    engine.send_headers(stream, b"\x88")
    engine.send_data(stream, b"hello")
    engine.send_data(stream, b", world", end=True)
    engine.pump()
    head, data = parse(engine.data_to_send())
    assert head.flags == {"END_HEADERS"}
    assert (data.data, data.flags) == (b"hello, world", {"END_STREAM"})
    assert stream.closed
    assert not engine.streams
    engine.send_data(stream, b"late")
    engine.reset(stream, CANCEL)
    engine.pump()
    assert engine.data_to_send() == b""


def test_an_answer_ahead_of_the_body_asks_for_no_more():
    """RFC 9113 section 8.1: RST_STREAM with NO_ERROR; what is on its way is not held against the client."""
    engine, events, _ = given_frames(OPEN)
    engine.send_headers(events[0][1], b"\x88", end=True)
    _, reset = parse(engine.data_to_send())
    assert (reset.stream_id, reset.error_code) == (1, NO_ERROR)
    engine.receive_data(
        frame(F_DATA, 0, 1, bytes(1000)) + headers(1, [("x-a", "b")]) + frame(WINDOW_UPDATE, 0, 1, word(9))
    )
    assert engine.events_received() == []
    assert engine.data_to_send() == b""


def test_a_reset_is_told_once():
    _, events, _ = given_frames(OPEN + frame(RST_STREAM, 0, 1, word(CANCEL)) + frame(RST_STREAM, 0, 1, word(CANCEL)))
    stream = events[0][1]
    assert events[1:] == [(RESET, stream, CANCEL)]
    assert stream.closed


def test_streams_above_the_limit_are_refused_and_their_headers_decoded():
    encoder = Encoder()
    engine = connection(Http2Limits(streams=1))
    engine.receive_data(frame(HEADERS, 5, 1, encoder.encode(GET)))
    engine.receive_data(frame(HEADERS, 5, 3, encoder.encode([*GET, ("x-a", "in the table")])))
    (refused,) = parse(engine.data_to_send())
    assert (refused.stream_id, refused.error_code) == (3, REFUSED_STREAM)
    engine.send_headers(engine.streams[1], b"\x88", end=True)
    engine.receive_data(frame(HEADERS, 5, 5, encoder.encode([*GET, ("x-a", "in the table")])))
    assert (b"x-a", b"in the table") in engine.events_received()[-1][2].headers


# ---------------------------------------------------------------------------------------------------- windows


def increments(engine):
    """The WINDOW_UPDATEs that were sent, by stream."""
    return {found.stream_id: found.window_increment for found in parse(engine.data_to_send())}


def test_the_client_sends_no_more_than_is_taken():
    limits = Http2Limits(window=65536, connection_window=65536)
    engine, events, _ = given_frames(OPEN, limits)
    stream = events[0][1]
    for _ in range(4):
        engine.receive_data(frame(F_DATA, 0, 1, bytes(16384)))
    assert parse(engine.data_to_send()) == [], "nothing is acknowledged before it is taken"
    engine.acknowledge(stream, 16384)
    assert parse(engine.data_to_send()) == [], "small steps are put together"
    engine.acknowledge(stream, 16384)
    assert {(found.stream_id, found.window_increment) for found in parse(engine.data_to_send())} == {
        (0, 32768),
        (1, 32768),
    }
    engine.receive_data(frame(F_DATA, 0, 1, bytes(16384)) * 3)
    assert engine.finished
    assert parse(engine.data_to_send())[0].error_code == FLOW_CONTROL_ERROR


def test_a_stream_that_sends_more_than_its_window_is_reset():
    engine, _, frames = given_frames(OPEN + frame(F_DATA, 0, 1, bytes(16384)) * 5, Http2Limits(window=65536))
    assert verdict(engine, frames) == ("reset", 1, FLOW_CONTROL_ERROR)


def test_what_a_reset_stream_held_of_the_connection_s_window_is_given_back():
    limits = Http2Limits(window=65536, connection_window=65536)
    engine, events, _ = given_frames(OPEN + frame(F_DATA, 0, 1, bytes(16384)) * 3, limits)
    engine.reset(events[0][1], CANCEL)
    assert [found.window_increment for found in parse(engine.data_to_send()) if not found.stream_id] == [49152]
    engine.acknowledge(events[0][1], 49152)
    assert engine.data_to_send() == b""


def test_padding_counts_and_is_acknowledged():
    engine, _, _ = given_frames(OPEN, Http2Limits(window=65536, connection_window=65536))
    engine.receive_data(frame(F_DATA, PADDED, 1, b"\xff" + bytes(255)) * 128)
    assert {(found.stream_id, found.window_increment) for found in parse(engine.data_to_send())} == {
        (0, 32768),
        (1, 32768),
    }


# ---------------------------------------------------------------------------------------------------- floods


def flood(data, limits=Http2Limits(), seconds_between=0.0):  # noqa: B008 - an immutable tuple
    """How many times ``data`` was taken, and the code of the GOAWAY."""
    engine = connection(limits)
    for count in range(20000):
        engine.receive_data(data(count) if callable(data) else data)
        engine._clock.now += seconds_between
        out = engine.data_to_send()
        engine.events_received()
        if engine.finished:
            return count, parse(out)[-1].error_code
    return None


@pytest.mark.parametrize(
    "data",
    [
        frame(PING, 0, 0, b"12345678"),
        settings(),
        settings((4, 1000), (4, 2000)),
        frame(PRIORITY, 0, 1, word(3) + b"\x01"),
        frame(0x16, 0, 0, b""),
        frame(WINDOW_UPDATE, 0, 0, word(1)),
        frame(GOAWAY, 0, 0, word(0) + word(0)),
    ],
    ids=["PING", "SETTINGS", "SETTINGS with values", "PRIORITY", "unknown", "WINDOW_UPDATE", "GOAWAY"],
)
def test_floods_of_control_frames(data):
    assert flood(data, Http2Limits(control_frames=500)) == (499, ENHANCE_YOUR_CALM)
    assert flood(data, Http2Limits(control_frames=500), 0.03) is None, "ordinary use goes on for ever"


def test_a_flood_of_empty_data():
    engine = connection()
    engine.receive_data(OPEN)
    engine.receive_data(frame(F_DATA, 0, 1, b"") * 999)
    assert not engine.finished
    engine.receive_data(frame(F_DATA, PADDED, 1, b"\x01\0"))
    assert verdict(engine, parse(engine.data_to_send())) == ("goaway", ENHANCE_YOUR_CALM)


def test_rapid_reset():
    """CVE-2023-44487."""
    taken = flood(lambda n: headers(2 * n + 1) + frame(RST_STREAM, 0, 2 * n + 1, word(CANCEL)), Http2Limits(resets=50))
    assert taken == (50, ENHANCE_YOUR_CALM)


@pytest.mark.parametrize(
    "fault",
    [
        lambda stream: frame(WINDOW_UPDATE, 0, stream, word(0)),
        lambda stream: frame(WINDOW_UPDATE, 0, stream, word(2**31 - 1)),
        lambda stream: frame(PRIORITY, 0, stream, word(stream) + b"\0"),
        lambda stream: headers(stream),
    ],
)
def test_resets_that_the_client_makes_us_send(fault):
    """CVE-2025-8671."""
    taken = flood(lambda n: headers(2 * n + 1) + fault(2 * n + 1), Http2Limits(resets=50))
    assert taken == (50, ENHANCE_YOUR_CALM)


def test_a_flood_of_malformed_requests():
    bad = fields(("connection", "close"))
    assert flood(lambda n: headers(2 * n + 1, bad), Http2Limits(resets=50)) == (50, ENHANCE_YOUR_CALM)


def test_a_flood_of_streams_above_the_limit():
    taken = flood(lambda n: headers(2 * n + 1), Http2Limits(streams=10, resets=50))
    assert taken == (60, ENHANCE_YOUR_CALM)


def test_a_header_section_that_does_not_end():
    engine = connection()
    engine.receive_data(frame(HEADERS, END_STREAM, 1, block(GET)))
    taken = 0
    while not engine.finished:
        engine.receive_data(frame(CONTINUATION, 0, 1, b"\0\1a\1b" * 200))
        taken += 1000
    assert taken <= 70000
    assert verdict(engine, parse(engine.data_to_send())) == ("goaway", ENHANCE_YOUR_CALM)


def test_a_flood_of_empty_continuations():
    engine = connection()
    engine.receive_data(frame(HEADERS, END_STREAM, 1, block(GET)))
    engine.receive_data(frame(CONTINUATION, 0, 1, b"") * 1001)
    assert verdict(engine, parse(engine.data_to_send())) == ("goaway", ENHANCE_YOUR_CALM)


def test_a_header_list_above_the_limit_is_answered():
    limits = Http2Limits(HttpLimits(header_bytes=1000))
    engine, events, _ = given_frames(headers(1, fields(("x-a", "b" * 1000))), limits)
    error = events[0][2]
    assert isinstance(error, HttpError)
    assert error.status == 431
    assert not engine.finished


def test_an_hpack_bomb():
    """A field of the table, named over and over: small on the wire, large in memory (CVE-2016-6581)."""
    encoder = Encoder()
    bomb = encoder.encode([*GET, ("x-a", "b" * 4000)])
    index = bytes((0x80 | 62,))
    engine, _, frames = given_frames(frame(HEADERS, 5, 1, bomb + index * 10000))
    assert verdict(engine, frames) == ("goaway", ENHANCE_YOUR_CALM)


def test_a_large_download_earns_its_window_updates():
    engine, events, _ = given_frames(settings((4, 2**20)) + headers(1))
    stream = events[0][1]
    engine.send_headers(stream, b"\x88")
    for _ in range(3000):
        engine.send_data(stream, bytes(1000))
        engine.pump()
        engine.data_to_send()
        engine.receive_data(frame(WINDOW_UPDATE, 0, 0, word(1000)) + frame(WINDOW_UPDATE, 0, 1, word(1000)))
    assert not engine.finished
    assert stream.pending == 0


# ---------------------------------------------------------------------------------------------------- the end


def test_going_away_lets_what_runs_finish():
    engine, events, _ = given_frames(headers(1))
    engine.go_away()
    engine.go_away()
    engine.receive_data(headers(3))
    goaway, refused = parse(engine.data_to_send())
    assert (goaway.last_stream_id, goaway.error_code) == (1, NO_ERROR)
    assert (refused.stream_id, refused.error_code) == (3, REFUSED_STREAM)
    engine.send_headers(events[0][1], b"\x88", end=True)
    assert isinstance(parse(engine.data_to_send())[0], HeadersFrame)


def test_a_client_that_goes_away_gets_its_answers():
    engine, events, _ = given_frames(headers(1) + frame(GOAWAY, 0, 0, word(0) + word(0)))
    assert events[1] == (GOING, None, None)
    engine.send_headers(events[0][1], b"\x88", end=True)
    assert isinstance(parse(engine.data_to_send())[0], HeadersFrame)
    assert engine.going


def test_nothing_is_taken_after_a_fault():
    engine, _, _ = given_frames(frame(F_DATA, 0, 0, b"") + headers(1))
    assert not engine.streams
    engine.receive_data(headers(3))
    assert engine.events_received() == []
    assert engine.data_to_send() == b""


# ---------------------------------------------------------------------------------------------------- properties

TALK = START + b"".join(
    (
        headers(1, [*POST, ("cookie", "a=b"), ("cookie", "c=d")], END_HEADERS),
        frame(F_DATA, PADDED, 1, b"\x02ab\0\0"),
        frame(HEADERS, END_STREAM, 3, block(GET)[:3]),
        frame(CONTINUATION, END_HEADERS, 3, block(GET)[3:]),
        frame(PING, 0, 0, b"12345678"),
        settings((4, 100)),
        frame(F_DATA, 0, 1, bytes(5000)),
        headers(5, SOCKET, END_HEADERS),
        frame(RST_STREAM, 0, 3, word(8)),
        headers(1, [("x-trailer", "1")]),
        frame(F_DATA, 0, 5, b"frames"),
        frame(GOAWAY, 0, 0, word(0) + word(0)),
    )
)


def told(events):
    """Events as values."""
    shown = []
    for kind, stream, value in events:
        if kind == REQUEST:
            value = (value.method, value.path, tuple(value.headers), value.websocket)
        shown.append((kind, stream and stream.id, value))
    return shown


def run(pieces):
    engine = Http2Connection(Http2Limits(), Clock())
    events = []
    for piece in pieces:
        engine.receive_data(piece)
        events += engine.events_received()
    return told(events), engine.data_to_send()


WHOLE = run([TALK])


def test_byte_by_byte():
    assert run([TALK[index : index + 1] for index in range(len(TALK))]) == WHOLE
    assert len(WHOLE[0]) == 9


@prescribe(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(TALK)), max_size=8))
def test_split_anywhere(cuts):
    cuts = [0, *sorted(cuts), len(TALK)]
    assert run([memoryview(TALK)[start:end] for start, end in itertools.pairwise(cuts)]) == WHOLE


@prescribe(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_break_it(data):
    """Frames with arbitrary heads and bodies, and answers in between: no exception, no stream told of after its end."""
    engine = connection(Http2Limits(resets=5, control_frames=20))
    over = set()
    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from((*range(10), 0x16)))
        stream = data.draw(st.sampled_from((0, 1, 1, 3, 5, 2, 2**31 - 1)))
        flags = data.draw(st.sampled_from((0, 1, 4, 5, 8, 0x20, 0x2D)))
        body = data.draw(
            st.one_of(st.just(block(POST)), st.just(block(SOCKET)), st.binary(max_size=40), st.just(word(9)))
        )
        engine.receive_data(frame(kind, flags, stream, body))
        for event, found, _ in engine.events_received():
            assert found not in over
            if event == RESET:
                over.add(found)
        for found in list(engine.streams.values()):
            answer = data.draw(st.sampled_from(("head", "data", "end", "reset", "nothing")))
            if answer == "head":
                engine.send_headers(found, b"\x88")
            elif answer == "data":
                engine.send_data(found, b"data")
            elif answer == "end":
                engine.send_data(found, b"", end=True)
            elif answer == "reset":
                engine.reset(found, CANCEL)
                over.add(found)
        engine.pump()
        parse(engine.data_to_send())
    assert len(engine.streams) <= engine.limits.streams


@prescribe(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(TALK)))
def test_no_garbage_breaks_it(garbage, position):
    run([TALK[:position] + garbage + TALK[position:]])


def test_frames_are_what_hyperframe_reads():
    data = frame(F_DATA, END_STREAM, 1, b"abc")
    (found,) = parse(data)
    assert isinstance(found, DataFrame)
    assert struct.unpack(">L", data[5:9]) == (1,)
