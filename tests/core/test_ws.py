"""The compiled frame parser and writer, beside the plain one of tests/core/reference.py."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastchannels._core import ws
from fastchannels.exceptions import UsageError, WebSocketError
from tests.core import reference

KEY = b"\x37\xfa\x21\x3d"
SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 124, 125, 126, 127, 128, 1000, 65535, 65536, 65537]
# The ends of each length of UTF-8 and of the surrogates, which are also quicker to draw than all of Unicode.
TEXTS = st.text("\0a~\x7f\x80é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000😀\U0010ffff", max_size=60)
# No limit of time for an example: the machine may be busy.
unhurried = settings(deadline=None)
LENGTHS = st.sampled_from(SIZES[:-3]) | st.integers(0, 200)


def outcome(pieces, max_message=0, max_frame=0, server=True):
    """The events of all pieces and the close code of the fault, which must come after the events before it."""
    parser = ws.FrameParser(max_message, max_frame, server)
    events = []
    for piece in pieces:
        try:
            events += parser.feed(piece)
        except WebSocketError as fault:
            return events, ended(parser, fault)
    return events, None if parser.error is None else ended(parser, parser.error)


def ended(parser, fault):
    """The close code of the fault, after a look at whether it stays."""
    assert (parser.error.code, parser.error.reason) == (fault.code, fault.reason)
    with pytest.raises(WebSocketError, match=str(fault.code)):
        parser.feed(b"")
    return fault.code


def split(data, cuts):
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def frames(draw):
    """A frame that is mostly allowed, with a payload that is mostly text."""
    opcode = draw(st.sampled_from([1, 1, 1, 2, 0, 0, 8, 9, 10, 3, 11]))
    payload = draw(TEXTS.map(str.encode) | st.binary(max_size=40) | LENGTHS.map(lambda n: b"a" * n))
    if opcode == 8 and draw(st.booleans()):
        payload = draw(st.sampled_from([1000, 1001, 1005, 3000, 5000])).to_bytes(2, "big") + payload[:20]
    fin = draw(st.sampled_from([True, True, False]))
    rsv = draw(st.sampled_from([0] * 15 + [0x40]))
    key = draw(st.sampled_from([KEY] * 15 + [None]) | st.binary(min_size=4, max_size=4))
    return reference.frame(opcode, payload, fin=fin, rsv=rsv, key=key)


@st.composite
def messages(draw):
    """A message that is allowed, in fragments with control frames between them."""
    text = draw(st.booleans())
    payload = draw(TEXTS).encode() if text else draw(st.binary(max_size=60))
    parts = split(payload, draw(st.lists(st.integers(0, 300), max_size=4)))
    stream = b""
    for i, part in enumerate(parts):
        stream += reference.frame((1 if text else 2) if i == 0 else 0, part, fin=i == len(parts) - 1, key=KEY)
        if draw(st.booleans()):
            stream += reference.frame(draw(st.sampled_from([9, 10])), draw(st.binary(max_size=9)), key=KEY)
    return stream


cuts = st.lists(st.integers(0, 10_000), max_size=8)


class TestAgainstReference:
    @unhurried
    @given(st.lists(messages(), max_size=4), cuts)
    def test_allowed_streams(self, streams, cuts):
        data = b"".join(streams)
        expected = reference.parse(data, 0)
        assert expected[1] is None
        assert outcome([data]) == expected
        assert outcome(split(data, cuts)) == expected
        assert outcome([data[i : i + 1] for i in range(len(data))]) == expected

    @unhurried
    @given(st.lists(frames(), max_size=6), cuts, st.sampled_from([0, 30, 200]), st.sampled_from([0, 30, 200]))
    def test_any_frames(self, frames, cuts, max_message, max_frame):
        data = b"".join(frames)
        expected = reference.parse(data, max_message, max_frame)
        assert outcome([data], max_message, max_frame) == expected
        assert outcome(split(data, cuts), max_message, max_frame) == expected

    @unhurried
    @given(
        st.lists(messages(), min_size=1, max_size=3), cuts, st.lists(st.tuples(cuts, st.integers(1, 255)), max_size=3)
    )
    def test_corrupted_streams(self, streams, cuts, flips):
        data = bytearray(b"".join(streams))
        for where, bits in flips:
            for at in where:
                data[at % len(data)] ^= bits
        data = bytes(data)
        expected = reference.parse(data, 300)
        assert outcome([data], 300) == expected
        assert outcome(split(data, cuts), 300) == expected

    @unhurried
    @given(st.binary(max_size=60), cuts, st.booleans())
    def test_any_bytes(self, data, cuts, server):
        expected = reference.parse(data, 0, 0, server)
        assert outcome([data], server=server) == expected
        assert outcome(split(data, cuts), server=server) == expected

    @unhurried
    @given(TEXTS.map(str.encode) | st.binary(max_size=30), st.binary(max_size=3))
    def test_text_fails_at_the_first_bad_byte(self, text, tail):
        data = reference.frame(1, text + tail + b"x" * 100, key=bytes(4))
        for end in range(6, 6 + len(text + tail) + 1):
            assert outcome([data[:end]]) == reference.parse(data[:end], 0)

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("kind", [1, 2])
    def test_sizes(self, size, kind):
        payload = bytes(i % 128 for i in range(size))
        data = reference.frame(kind, payload, key=KEY)
        expected = [(kind, payload.decode() if kind == 1 else payload)]
        assert outcome([data]) == (expected, None)
        assert outcome([data[:5], data[5:]]) == (expected, None)
        assert outcome([data, data]) == (expected * 2, None)

    def test_close_codes(self):
        for code in (*range(-1, 65537), 65536 + 1000, 2**32 + 1000, 2**70):
            assert ws.close_code_valid(code) == reference.close_code_valid(code), code


class TestFeed:
    def test_types(self):
        stream = b"".join(
            reference.frame(opcode, payload, key=KEY)
            for opcode, payload in [
                (1, b""),
                (1, b"a"),
                (1, "é€😀".encode()),
                (2, b""),
                (2, b"\xff"),
                (9, b""),
                (10, b"p"),
            ]
        )
        for data in (stream, bytearray(stream), memoryview(stream), memoryview(b"xx" + stream)[2:]):
            events = ws.FrameParser(0).feed(data)
            assert events == [(1, ""), (1, "a"), (1, "é€😀"), (2, b""), (2, b"\xff"), (9, b""), (10, b"p")]
            assert [type(payload) for _, payload in events] == [str] * 3 + [bytes] * 4

    def test_empty_input(self):
        parser = ws.FrameParser(0)
        assert parser.feed(b"") == []
        assert parser.feed(memoryview(b"")) == []

    def test_input_that_is_no_buffer(self):
        with pytest.raises(TypeError):
            ws.FrameParser(0).feed("text")

    def test_input_may_change_after_feed(self):
        data = bytearray(reference.frame(2, b"payload " * 100, key=KEY))
        parser = ws.FrameParser(0)
        assert parser.feed(memoryview(data)[:200]) == []
        data[:200] = bytes(200)
        assert parser.feed(memoryview(data)[200:]) == [(2, b"payload " * 100)]

    def test_empty_messages_and_fragments(self):
        stream = reference.frame(1, b"", fin=False, key=KEY) + reference.frame(0, b"", key=KEY)
        stream += reference.frame(2, b"", fin=False, key=KEY) + reference.frame(0, b"x", key=KEY)
        assert outcome([stream]) == ([(1, ""), (2, b"x")], None)
        assert outcome([stream[i : i + 1] for i in range(len(stream))]) == ([(1, ""), (2, b"x")], None)

    def test_after_a_close_frame_everything_is_discarded(self):
        parser = ws.FrameParser(0)
        close = reference.frame(8, b"\x03\xe8bye", key=KEY)
        assert parser.feed(close + b"\xff\xff\xff") == [(8, (1000, "bye"))]
        assert parser.feed(b"\xff" * 100) == []
        assert parser.error is None

    def test_events_come_before_the_fault(self):
        parser = ws.FrameParser(0)
        assert parser.feed(reference.frame(1, b"good", key=KEY) + b"\xff") == [(1, "good")]
        assert parser.error is not None
        assert parser.error.code == 1002
        for _ in range(2):
            with pytest.raises(WebSocketError, match="reserved opcode") as caught:
                parser.feed(reference.frame(1, b"late", key=KEY))
            assert caught.value.code == 1002

    @pytest.mark.parametrize(
        ("data", "code", "reason"),
        [
            (reference.frame(1, b"a"), 1002, "unmasked frame from the client"),
            (reference.frame(1, b"\xff", key=KEY), 1007, "text is not UTF-8"),
            (reference.frame(1, b"\xe2\x82", key=KEY), 1007, "text is not UTF-8"),
            (reference.frame(2, b"a" * 11, key=KEY)[:2], 1009, "message too big"),
            (reference.frame(8, b"\x03", key=KEY), 1002, "close frame of one byte"),
            (reference.frame(8, b"\x03\xed", key=KEY), 1002, "invalid close code"),
            (reference.frame(8, b"\x03\xe8\xff", key=KEY), 1007, "close reason is not UTF-8"),
        ],
    )
    def test_faults(self, data, code, reason):
        with pytest.raises(WebSocketError) as caught:
            ws.FrameParser(10).feed(data)
        assert (caught.value.code, caught.value.reason) == (code, reason)

    @pytest.mark.parametrize("limits", [(-1,), (0, -1)])
    def test_negative_limits(self, limits):
        with pytest.raises(UsageError, match="-1"):
            ws.FrameParser(*limits)

    def test_a_limit_beyond_64_bits_is_no_limit(self):
        assert ws.FrameParser(2**80, 2**80).feed(reference.frame(1, b"a", key=KEY)) == [(1, "a")]


class TestMemory:
    @pytest.mark.parametrize("length", [2**40, 2**62, 2**63 - 1])
    @pytest.mark.parametrize("opcode", [1, 2])
    def test_an_announced_length_is_not_allocated(self, opcode, length):
        header = bytes([0x80 | opcode, 0xFF]) + length.to_bytes(8, "big") + bytes(4)
        tracemalloc.start()
        try:
            parser = ws.FrameParser(0)
            assert parser.feed(header + b"x" * 10) == []
            assert tracemalloc.get_traced_memory()[1] < 16_000
        finally:
            tracemalloc.stop()

    def test_what_arrived_bounds_what_is_held(self):
        size = 1024 * 1024
        data = reference.frame(2, bytes(size), key=KEY)
        tracemalloc.start()
        try:
            parser = ws.FrameParser(size)
            for at in range(0, len(data) - 1, 8192):
                assert parser.feed(data[at : min(at + 8192, len(data) - 1)]) == []
                assert tracemalloc.get_traced_memory()[0] < 1.5 * (at + 8192) + 32_000
            assert tracemalloc.get_traced_memory()[1] < 2.7 * size
            assert parser.feed(data[-1:]) == [(2, bytes(size))]
            assert tracemalloc.get_traced_memory()[0] < 32_000
        finally:
            tracemalloc.stop()

    def test_a_parser_dropped_inside_a_message_leaves_nothing(self):
        data = reference.frame(2, bytes(100_000), key=KEY)[:-1]
        bad = reference.frame(1, b"a" * 100_000, fin=False, key=KEY) + b"\xff"
        ws.FrameParser(0).feed(data)
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(20):
                ws.FrameParser(0).feed(data)
                with pytest.raises(WebSocketError):
                    ws.FrameParser(0).feed(bad)
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 50_000
        finally:
            tracemalloc.stop()


class TestFrame:
    @unhurried
    @given(
        st.sampled_from([0, 1, 2]),
        st.binary(max_size=300),
        st.booleans(),
        st.none() | st.binary(min_size=4, max_size=4),
    )
    def test_bytes(self, opcode, payload, fin, key):
        expected = reference.frame(opcode, payload, fin=fin, key=key)
        assert ws.frame(opcode, payload, fin, key) == expected
        assert ws.frame(opcode, bytearray(payload), fin=fin, key=key) == expected
        assert ws.frame_header(opcode, len(payload), fin, key) == expected[: len(expected) - len(payload)]

    @pytest.mark.parametrize("size", SIZES)
    def test_sizes(self, size):
        assert ws.frame(1, "a" * size) == reference.frame(1, b"a" * size)
        assert ws.frame(2, b"b" * size, key=KEY) == reference.frame(2, b"b" * size, key=KEY)

    @unhurried
    @given(TEXTS)
    def test_text(self, text):
        assert ws.frame(1, text) == reference.frame(1, text.encode())

    def test_defaults(self):
        assert ws.frame(9) == b"\x89\x00"

    def test_headers_of_large_payloads(self):
        assert ws.frame_header(2, 2**63 - 1) == b"\x82\x7f" + b"\x7f" + b"\xff" * 7
        with pytest.raises(UsageError, match=r"2\*\*63-1"):
            ws.frame_header(2, 2**63)
        with pytest.raises(OverflowError):
            ws.frame_header(2, -1)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((3, b""), "opcode 3"),
            ((-1, b""), "opcode -1"),
            ((9, b"x" * 126), "125 bytes"),
            ((8, b"", False), "fin=False"),
            ((1, b"", True, b"abc"), "4 bytes, not 3"),
            ((1, "ab\ud800"), "index 2"),
        ],
    )
    def test_what_no_frame_can_carry(self, arguments, words):
        with pytest.raises(UsageError, match=words):
            ws.frame(*arguments)

    def test_payload_that_is_neither(self):
        with pytest.raises(TypeError):
            ws.frame(1, 7)

    @unhurried
    @given(st.lists(st.tuples(st.sampled_from([1, 2]), TEXTS), max_size=5))
    def test_parsed_back_as_a_client_reads_it(self, sent):
        stream = b"".join(ws.frame(opcode, text) for opcode, text in sent)
        expected = [(opcode, text if opcode == 1 else text.encode()) for opcode, text in sent]
        assert ws.FrameParser(0, server=False).feed(stream) == expected
