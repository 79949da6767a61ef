"""HTTP/2 for the server side, without a socket (RFC 9113, RFC 8441): frames, streams, flow control, limits.

``receive_data`` takes what came and ``events_received`` gives what it meant; the ``send_`` methods say what to answer,
and ``data_to_send`` gives the bytes to write. Header fields are decoded by hpack. Push and priorities are left out: no
current browser has the one, and RFC 9113 section 5.3 deprecates the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hpack import Decoder, HPACKError, OversizedHeaderListError

from fastchannels.exceptions import HttpError
from fastchannels.server.events import Request
from fastchannels.server.http2_frames import (
    ACK,
    COMPRESSION_ERROR,
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    F_CONTINUATION,
    F_DATA,
    F_GOAWAY,
    F_HEADERS,
    F_PING,
    F_PRIORITY,
    F_PUSH_PROMISE,
    F_RST_STREAM,
    F_SETTINGS,
    F_WINDOW_UPDATE,
    FLOW_CONTROL_ERROR,
    FRAME_HEAD,
    FRAME_SIZE,
    FRAME_SIZE_ERROR,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    NO_ERROR,
    NO_PRIORITIES,
    PREFACE,
    PRIORITIZED,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTING,
    STREAM_CLOSED,
    WORD,
    Budget,
    ConnectionFault,
    content_of,
    goaway,
)
from fastchannels.server.http2_headers import Malformed, check_trailers, read_request
from fastchannels.server.http2_outgoing import (
    DATA,
    END,
    FAULT,
    GOING,
    HIGH_WATER,
    REQUEST,
    RESET,
    Event,
    Http2Limits,
    Outgoing,
    Stream,
)

#: A header list up to this much larger than allowed is answered with 431; beyond it the connection ends.
_HEADER_SLACK: Final = 4


class Http2Connection(Outgoing):
    """The server's end of one connection.

    1. A stream error (RFC 9113 section 5.4.2) resets its stream and leaves the others; ``RESET`` is told once for each
       stream that was told as ``REQUEST`` and did not end by itself.
    2. A connection error sends GOAWAY with its code; ``FAULT`` is the last event. Write ``data_to_send`` and close.
    3. Data is acknowledged by :meth:`acknowledge` only, so that a client sends no more than the application takes.

    ``clock`` gives seconds; a coarse one is enough.
    """

    def __init__(self, limits: Http2Limits, clock: Callable[[], float]) -> None:
        super().__init__(limits)
        #: The client sends no new requests, or we take none.
        self.going = False
        #: A connection error happened.
        self.finished = False
        self._clock = clock
        self._decoder = Decoder(limits.head.header_bytes * _HEADER_SLACK)
        self._rest = b""
        self._preface = False
        self._first_settings = False
        #: The header section that is coming in: stream, its end of stream, fragments so far.
        self._block: tuple[int, bool, bytearray] | None = None
        self._highest = 0
        self._refusing = False
        self._resets = Budget(limits.resets)
        # What the client may send. Before it has seen our settings it goes by the defaults.
        self._stream_window = max(limits.window, DEFAULT_WINDOW)
        self._window = max(limits.connection_window, DEFAULT_WINDOW)
        self._receive_window = self._window
        self._unannounced = 0
        self._frame(
            F_SETTINGS,
            0,
            0,
            b"".join(
                SETTING.pack(*setting)
                for setting in (
                    (MAX_CONCURRENT_STREAMS, limits.streams),
                    (INITIAL_WINDOW_SIZE, limits.window),
                    (MAX_HEADER_LIST_SIZE, limits.head.header_bytes),
                    (ENABLE_CONNECT_PROTOCOL, 1),
                    (NO_PRIORITIES, 1),
                )
            ),
        )
        if self._window > DEFAULT_WINDOW:
            self._frame(F_WINDOW_UPDATE, 0, 0, WORD.pack(self._window - DEFAULT_WINDOW))

    # ------------------------------------------------------------ what comes in

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes of the transport, whatever the client may send; nothing refers to ``data`` afterwards."""
        if self.finished:
            return
        buffer = self._rest + bytes(data) if self._rest else bytes(data)
        position, end = 0, len(buffer)
        try:
            if not self._preface:
                if not PREFACE.startswith(buffer[: len(PREFACE)]):
                    raise ConnectionFault(PROTOCOL_ERROR, "this is no HTTP/2 connection preface")
                if end < len(PREFACE):
                    self._rest = buffer
                    return
                self._preface = True
                position = len(PREFACE)
            while end - position >= 9:
                high, low, kind, flags, stream_id = FRAME_HEAD.unpack_from(buffer, position)
                length = high << 8 | low
                if length > FRAME_SIZE:
                    raise ConnectionFault(FRAME_SIZE_ERROR, f"a frame of {length} bytes; {FRAME_SIZE} are possible")
                after = position + 9 + length
                if after > end:
                    break
                self._receive_frame(kind, flags, stream_id & MAX_WINDOW, buffer[position + 9 : after])
                position = after
            self._rest = buffer[position:]
        except ConnectionFault as fault:
            self.fail(fault.code, fault.reason)

    def events_received(self) -> list[Event]:
        """The events since the last call, in order."""
        events = self._events
        self._events = []
        return events

    @property
    def in_header_section(self) -> bool:
        """A frame or a header section has begun to come in and is not complete."""
        return self._block is not None or bool(self._rest) or not self._first_settings

    def _receive_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None:
            if kind != F_CONTINUATION or stream_id != self._block[0]:
                raise ConnectionFault(PROTOCOL_ERROR, "a header section is interrupted")
        elif not self._first_settings:
            if kind != F_SETTINGS or flags & ACK:
                raise ConnectionFault(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._first_settings = True
        if kind == F_DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == F_HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == F_WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == F_RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == F_SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == F_PING:
            if stream_id or len(payload) != 8:
                raise ConnectionFault(PROTOCOL_ERROR if stream_id else FRAME_SIZE_ERROR, "PING is 8 bytes on stream 0")
            if not flags & ACK:
                self._charge("PING")
                self._frame(F_PING, ACK, 0, payload)
        elif kind == F_CONTINUATION:
            self._on_continuation(flags, payload)
        elif kind == F_PRIORITY:
            self._charge("PRIORITY")
            if not stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY on stream 0")
            if len(payload) != 5:
                self._stream_error(stream_id, FRAME_SIZE_ERROR)
            elif WORD.unpack_from(payload)[0] & MAX_WINDOW == stream_id:
                self._stream_error(stream_id, PROTOCOL_ERROR)
        elif kind == F_GOAWAY:
            if stream_id or len(payload) < 8:
                raise ConnectionFault(PROTOCOL_ERROR if stream_id else FRAME_SIZE_ERROR, "GOAWAY is malformed")
            self._charge("GOAWAY")
            self.going = True
            self._events.append((GOING, None, None))
        elif kind == F_PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "clients do not push")
        else:
            self._charge("unknown")

    def _charge(self, what: str) -> None:
        """Count a frame that carries nothing (CVE-2019-9512, 9515, 9518 and their kind)."""
        if not self._control.spend(self._clock()):
            raise ConnectionFault(
                ENHANCE_YOUR_CALM, f"too many frames without content, {what} the last (http2_control_frames)"
            )

    def _charge_reset(self) -> None:
        """Count a stream that ended before its answer by the client's doing (CVE-2023-44487, CVE-2025-8671)."""
        if not self._resets.spend(self._clock()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams were reset (http2_resets)")

    # Header sections.

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "HEADERS on stream 0")
        start, end = content_of(flags, payload)
        if flags & PRIORITIZED:
            if end - start < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS is shorter than its priority")
            if WORD.unpack_from(payload, start)[0] & MAX_WINDOW == stream_id:
                raise ConnectionFault(PROTOCOL_ERROR, "a stream depends on itself")
            start += 5
        ended = bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._header_section(stream_id, ended, payload[start:end])
        else:
            self._block = (stream_id, ended, bytearray(payload[start:end]))

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._charge("CONTINUATION")
        stream_id, ended, block = self._block
        block += payload
        if len(block) > self.limits.head.header_bytes:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header section that does not end (limits.header_bytes)")
        if flags & END_HEADERS:
            self._block = None
            self._header_section(stream_id, ended, bytes(block))

    def _header_section(self, stream_id: int, ended: bool, block: bytes) -> None:
        # Decoded in any case: the sections behind it build on the same table.
        try:
            fields = self._decode(block)
        except OversizedHeaderListError:
            raise ConnectionFault(
                ENHANCE_YOUR_CALM, "a header list of unreasonable size (limits.header_bytes)"
            ) from None
        except (HPACKError, ValueError, IndexError) as error:
            raise ConnectionFault(COMPRESSION_ERROR, f"a header section cannot be decoded: {error}") from None
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_trailers(stream, ended, fields)
            return
        if not stream_id & 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a client's streams have odd numbers")
        if stream_id <= self._highest:
            ignored = self._recent.get(stream_id)
            if ignored:
                return
            raise ConnectionFault(
                PROTOCOL_ERROR if ignored is None else STREAM_CLOSED, f"HEADERS on stream {stream_id}, which has ended"
            )
        self._highest = stream_id
        if self._refusing:
            self._refuse(stream_id, REFUSED_STREAM)
            return
        if len(self.streams) >= self.limits.streams:
            self._charge_reset()
            self._refuse(stream_id, REFUSED_STREAM)
            return
        request: Request | HttpError
        try:
            request = read_request(fields, ended, self.limits.head)
        except Malformed:
            self._charge_reset()
            self._refuse(stream_id, PROTOCOL_ERROR)
            return
        except HttpError as error:
            request = error
        expected = request.content_length if isinstance(request, Request) else None
        stream = Stream(stream_id, ended, expected, self._initial_send_window, self._stream_window)
        self.streams[stream_id] = stream
        self._events.append((REQUEST, stream, request))

    def _decode(self, block: bytes) -> Any:  # HOT: http2 hello
        """The fields of a section. One that only names entries of the table, as repeated requests do, is cheap."""
        entry = self._decoder.header_table.get_by_index
        fields = []
        size = 0
        for byte in block:
            if not 0x80 < byte < 0xFF:
                break
            field = entry(byte & 0x7F)
            size += len(field[0]) + len(field[1]) + 32
            if size > self._decoder.max_header_list_size:
                break
            fields.append(field)
        else:
            return fields
        return self._decoder.decode(block, raw=True)

    def _on_trailers(self, stream: Stream, ended: bool, fields: Any) -> None:
        if stream.ended:
            self._stream_error(stream.id, STREAM_CLOSED)
            return
        try:
            check_trailers(fields)
        except Malformed:
            ended = False
        if not ended or stream._expected:
            self._stream_error(stream.id, PROTOCOL_ERROR)
            return
        self._client_done(stream)

    # Data.

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more data than the connection's window allows")
        start, end = content_of(flags, payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            if not stream_id or stream_id > self._highest:
                raise ConnectionFault(PROTOCOL_ERROR, f"DATA on stream {stream_id}, which was not opened")
            self._give_back(size)
            if not self._recent.get(stream_id):
                self._charge("DATA")
                self._reset_frame(stream_id, STREAM_CLOSED)
            return
        stream._untaken += size
        stream._receive_window -= size
        if stream.ended:
            self._stream_error(stream_id, STREAM_CLOSED)
            return
        if stream._receive_window < 0:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR)
            return
        data = payload[start:end]
        ended = flags & END_STREAM
        if stream._expected is not None:
            stream._expected -= len(data)
            if stream._expected < 0 or (ended and stream._expected):
                self._stream_error(stream_id, PROTOCOL_ERROR)
                return
        if data:
            self._events.append((DATA, stream, data))
        elif not ended:
            self._charge("DATA")
        if ended:
            self._client_done(stream)
        if len(data) < size:
            self.acknowledge(stream, size - len(data))

    def _client_done(self, stream: Stream) -> None:
        stream.ended = True
        self._events.append((END, stream, None))
        if stream._sent_end:
            self._close(stream, False)

    def acknowledge(self, stream: Stream, size: int) -> None:
        """``size`` bytes of the data of ``stream`` were taken, so that as many may follow."""
        if stream.closed:
            return  # they were given back when it closed
        stream._untaken -= size
        self._give_back(size)
        if not stream.ended:
            stream._unannounced += size
            if stream._unannounced * 2 >= self.limits.window:
                stream._receive_window += stream._unannounced
                self._frame(F_WINDOW_UPDATE, 0, stream.id, WORD.pack(stream._unannounced))
                stream._unannounced = 0

    def _give_back(self, size: int) -> None:
        """``size`` bytes of the connection's window are free again."""
        self._unannounced += size
        if self._unannounced * 2 >= self._window:
            self._receive_window += self._unannounced
            self._frame(F_WINDOW_UPDATE, 0, 0, WORD.pack(self._unannounced))
            self._unannounced = 0

    # Control frames.

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "WINDOW_UPDATE is 4 bytes")
        self._charge("WINDOW_UPDATE")
        increment = WORD.unpack(payload)[0] & MAX_WINDOW
        if not stream_id:
            self._send_window += increment
            if not increment or self._send_window > MAX_WINDOW:
                raise ConnectionFault(
                    FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR, "the connection's window is wrong"
                )
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self._highest:
                raise ConnectionFault(PROTOCOL_ERROR, f"WINDOW_UPDATE on stream {stream_id}, which was not opened")
            return
        stream._send_window += increment
        if not increment or stream._send_window > MAX_WINDOW:
            self._stream_error(stream_id, FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
        elif stream.pending:
            self._wait(stream)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "RST_STREAM is 4 bytes")
        if not stream_id or stream_id > self._highest:
            raise ConnectionFault(PROTOCOL_ERROR, f"RST_STREAM on stream {stream_id}, which was not opened")
        stream = self.streams.get(stream_id)
        if stream is None:
            self._charge("RST_STREAM")
            return
        self._charge_reset()
        self._close(stream, False)
        self._events.append((RESET, stream, WORD.unpack(payload)[0]))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with a payload")
            return
        if len(payload) % 6:
            raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS is 6 bytes each")
        self._charge("SETTINGS")
        for name, value in SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                self._new_send_window(value)
            elif name == MAX_FRAME_SIZE:
                if not FRAME_SIZE <= value < 2**24:
                    raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
                # More than this would let one stream hold up the others.
                self._frame_size = min(value, HIGH_WATER)
            elif name in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
                raise ConnectionFault(PROTOCOL_ERROR, "a setting that is neither 0 nor 1")
        self._frame(F_SETTINGS, ACK, 0, b"")

    def _new_send_window(self, value: int) -> None:
        """RFC 9113 section 6.9.2: what open streams may send changes by the difference, below 0 even."""
        if value > MAX_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        difference = value - self._initial_send_window
        self._initial_send_window = value
        for stream in self.streams.values():
            stream._send_window += difference
            if stream._send_window > MAX_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE makes a window too large")
            if stream.pending:
                self._wait(stream)

    # ------------------------------------------------------------ the end

    def go_away(self) -> None:
        """Take no more requests; those that run go on."""
        if not (self._refusing or self.finished):
            self.going = self._refusing = True
            self._put(goaway(self._highest, NO_ERROR))

    def fail(self, code: int, reason: str) -> None:
        """End the connection with an error."""
        if not self.finished:
            self.finished = self.going = True
            self._put(goaway(self._highest, code, reason.encode()))
            self._events.append((FAULT, None, reason))

    def _refuse(self, stream_id: int, code: int) -> None:
        """A stream that begins is reset before anybody hears of it."""
        self._reset_frame(stream_id, code)
        self._remember(stream_id, True)

    def _stream_error(self, stream_id: int, code: int) -> None:
        """Reset a stream for the client's fault (RFC 9113 section 5.4.2)."""
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id > self._highest:
                raise ConnectionFault(code, f"a fault on stream {stream_id}, which was not opened")
            return
        self._charge_reset()
        self.reset(stream, code)
        self._events.append((RESET, stream, code))
