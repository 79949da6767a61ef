"""What HTTP/2 sends: the client's windows, turns between streams, large header sections."""

from __future__ import annotations

import pytest
from hpack import Decoder
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame

from fastchannels.server.http2 import Http2Connection
from fastchannels.server.http2_headers import encode_fields
from fastchannels.server.http2_outgoing import HIGH_WATER, LOW_WATER, REQUEST, ROOM, Http2Limits
from tests.server.http2_frames import PREFACE, WINDOW_UPDATE, frame, headers, parse, settings, word


def opened(*streams, window=65535):
    """An engine with these streams open, answers begun, and the client's windows."""
    engine = Http2Connection(Http2Limits(), lambda: 1.0)
    engine.receive_data(PREFACE + settings((4, window)) + b"".join(headers(number) for number in streams))
    found = [stream for kind, stream, _ in engine.events_received() if kind == REQUEST]
    for stream in found:
        engine.send_headers(stream, b"\x88")
    engine.data_to_send()
    return engine, *found


def sent(engine):
    """DATA frames: stream, bytes, whether the last."""
    engine.pump()
    return [
        (found.stream_id, len(found.data), "END_STREAM" in found.flags)
        for found in parse(engine.data_to_send())
        if isinstance(found, DataFrame)
    ]


def test_a_stream_waits_for_its_window():
    engine, stream = opened(1, window=10)
    engine.send_data(stream, b"0123456789abcde", end=True)
    assert sent(engine) == [(1, 10, False)]
    assert stream.pending == 5
    assert sent(engine) == []
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(3)))
    assert sent(engine) == [(1, 3, False)]
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(100)))
    assert sent(engine) == [(1, 2, True)]
    assert stream.closed


def test_an_end_needs_no_window():
    engine, stream = opened(1, window=0)
    engine.send_data(stream, b"", end=True)
    assert sent(engine) == [(1, 0, True)]


def test_all_wait_for_the_connection_s_window():
    engine, first, second = opened(1, 3, window=2**20)
    engine.send_data(first, bytes(60000))
    engine.send_data(second, bytes(60000))
    assert sum(size for _, size, _ in sent(engine)) == 65535
    engine.receive_data(frame(WINDOW_UPDATE, 0, 0, word(2**20)))
    assert sum(size for _, size, _ in sent(engine)) == 120000 - 65535


def test_a_closed_window_of_one_stream_leaves_the_others():
    engine, first, second = opened(1, 3, window=100)
    engine.send_data(first, bytes(1000))
    engine.send_data(second, bytes(50))
    assert sent(engine) == [(1, 100, False), (3, 50, False)]


def test_streams_take_turns():
    engine, *streams = opened(1, 3, 5, window=2**20)
    for stream in streams:
        stream._queue.append(bytes(40000))
        stream.pending = 40000
        engine._wait(stream)
    engine.receive_data(frame(WINDOW_UPDATE, 0, 0, word(2**20)))
    assert [number for number, _, _ in sent(engine)] == [1, 3, 5, 1]
    assert [number for number, _, _ in sent(engine)] == [3, 5, 1, 3, 5]


def test_no_more_than_the_high_water_mark_leaves_at_once():
    engine, stream = opened(1, window=2**30)
    engine.receive_data(frame(WINDOW_UPDATE, 0, 0, word(2**30)))
    engine.send_data(stream, bytes(2**20))
    assert len(engine.data_to_send()) < HIGH_WATER + 2**14 + 100


def test_a_window_that_a_setting_makes_negative():
    """RFC 9113 section 6.9.2."""
    engine, stream = opened(1, window=100)
    engine.send_data(stream, bytes(300))
    assert sent(engine) == [(1, 100, False)]
    engine.receive_data(settings((4, 10)) + frame(WINDOW_UPDATE, 0, 1, word(90)))
    assert sent(engine) == [], "-90 + 90"
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(1)))
    assert sent(engine) == [(1, 1, False)]
    engine.receive_data(settings((4, 1000)))
    assert sent(engine) == [(1, 199, False)]


def test_room_is_told_when_what_waited_has_left():
    engine, stream = opened(1, window=0)
    engine.send_data(stream, bytes(LOW_WATER + 1000))
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(500)))
    engine.pump()
    assert engine.events_received() == []
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(500)))
    engine.pump()
    assert engine.events_received() == [(ROOM, stream, None)]


def test_frames_as_large_as_the_client_takes():
    engine, stream = opened(1, window=2**20)
    engine.receive_data(settings((5, 2**24 - 1)) + frame(WINDOW_UPDATE, 0, 0, word(2**20)))
    engine.data_to_send()
    engine.send_data(stream, bytes(200000))
    assert sent(engine)[0] == (1, HIGH_WATER, False), "and no larger, so that others have their turn"


def test_small_pieces_are_put_together():
    engine, stream = opened(1)
    for _ in range(100):
        engine.send_data(stream, b"piece")
    assert sent(engine) == [(1, 500, False)]


def test_what_is_no_bytes_is_copied():
    engine, stream = opened(1)
    data = bytearray(b"before")
    engine.send_data(stream, memoryview(data))
    data[:] = b"behind"
    engine.pump()
    assert b"before" in engine.data_to_send()


def test_trailers_come_behind_the_body():
    engine, stream = opened(1, window=10)
    engine.send_data(stream, bytes(15))
    engine.send_trailers(stream, encode_fields([(b"x-checksum", b"1")]))
    assert sent(engine) == [(1, 10, False)]
    engine.receive_data(frame(WINDOW_UPDATE, 0, 1, word(10)))
    engine.pump()
    data, trailers = parse(engine.data_to_send())
    assert (len(data.data), data.flags) == (5, set())
    assert isinstance(trailers, HeadersFrame)
    assert trailers.flags == {"END_HEADERS", "END_STREAM"}
    assert stream.closed


@pytest.mark.parametrize("size", [100, 16384, 16385, 40000])
def test_large_header_sections(size):
    engine = Http2Connection(Http2Limits(), lambda: 1.0)
    engine.receive_data(PREFACE + settings() + headers(1))
    stream = engine.events_received()[0][1]
    engine.data_to_send()
    engine.send_headers(stream, encode_fields([(b"a", b"b" * size)]), end=True)
    first, *rest = parse(engine.data_to_send())
    assert all(isinstance(found, ContinuationFrame) for found in rest)
    assert "END_STREAM" in first.flags
    assert ["END_HEADERS" in found.flags for found in (first, *rest)] == [False] * len(rest) + [True]
    block = b"".join(found.data for found in (first, *rest))
    assert Decoder().decode(block, raw=True) == [(b"a", b"b" * size)]


def test_our_table_is_announced_to_be_empty_once():
    engine, stream = opened(1)
    engine.send_trailers(stream, b"\x88")
    engine.pump()
    assert parse(engine.data_to_send())[-1].data == b"\x88"
