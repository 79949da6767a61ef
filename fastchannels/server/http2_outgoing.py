"""What HTTP/2 sends: streams and their turns, within the client's windows (RFC 9113 sections 5 and 6)."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple, TypeAlias

from fastchannels.server.http import HttpLimits
from fastchannels.server.http2_frames import (
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    F_CONTINUATION,
    F_DATA,
    F_HEADERS,
    F_RST_STREAM,
    FRAME_HEAD,
    FRAME_SIZE,
    NO_ERROR,
    WORD,
    Budget,
)
from fastchannels.server.http2_headers import NO_TABLE

#: Bytes of the body of a response, and of the frames that wait to be written, from which a writer waits; and to which
#: they must fall before it goes on.
HIGH_WATER: Final = 64 * 1024
LOW_WATER: Final = 16 * 1024
#: Streams that ended, whose late frames are told from faults.
_REMEMBERED: Final = 256


class Http2Limits(NamedTuple):
    """What one connection may take. Budgets come back by a tenth each second."""

    head: HttpLimits = HttpLimits()
    streams: int = 100  #: at once
    window: int = 256 * 1024  #: bytes of one stream that its application has not read
    connection_window: int = 1024 * 1024  #: and of all streams
    resets: int = 200  #: streams that the client resets, or that are refused or reset for its faults
    control_frames: int = 1000  #: frames that carry nothing: SETTINGS, PING, empty DATA, ...


class Stream:
    """One request and its answer. ``user`` is the caller's; ``pending`` are bytes that wait to be sent."""

    __slots__ = (
        "_expected",
        "_queue",
        "_queued_end",
        "_receive_window",
        "_send_window",
        "_sent_end",
        "_trailers",
        "_unannounced",
        "_untaken",
        "_waiting",
        "closed",
        "ended",
        "id",
        "pending",
        "sent",
        "tunnel",
        "user",
    )

    def __init__(self, id_: int, ended: bool, expected: int | None, send_window: int, receive_window: int) -> None:
        self.id = id_
        self.user: Any = None
        #: The client has sent all it will.
        self.ended = ended
        #: Both sides are done, or one has reset it.
        self.closed = False
        self.pending = 0
        #: Bytes that became frames.
        self.sent = 0
        #: A WebSocket, whose sides end each for itself.
        self.tunnel = False
        self._expected = expected
        self._send_window = send_window
        self._receive_window = receive_window
        self._unannounced = 0
        self._untaken = 0
        self._queue: deque[bytes | memoryview] = deque()
        self._queued_end = False
        self._sent_end = False
        self._trailers: bytes | None = None
        #: In the queue of streams that have something to send.
        self._waiting = False


REQUEST: Final = 1
DATA: Final = 2
END: Final = 3
RESET: Final = 4
ROOM: Final = 5
GOING: Final = 6
FAULT: Final = 7

#: ``(REQUEST, stream, request or what is wrong with it)``, ``(DATA, stream, bytes)``, ``(END, stream, None)`` when the
#: client is done, ``(RESET, stream, code)`` by either side, ``(ROOM, stream, None)`` when what waited has left,
#: ``(GOING, None, None)`` when the client asks for nothing more, ``(FAULT, None, reason)`` when the connection is over.
Event: TypeAlias = "tuple[int, Stream | None, Any]"


class Outgoing:
    """The sending half of a connection, and the streams of both halves.

    Streams that have something to send take turns, a frame each.
    """

    def __init__(self, limits: Http2Limits) -> None:
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self._events: list[Event] = []
        self._out: list[bytes | memoryview] = []
        self.out_size = 0
        self._table_announced = False
        #: The last streams that ended, and whether frames that were on their way are to be ignored.
        self._recent: dict[int, bool] = {}
        self._control = Budget(limits.control_frames)
        # What we may send.
        self._send_window = DEFAULT_WINDOW
        self._initial_send_window = DEFAULT_WINDOW
        self._frame_size = FRAME_SIZE
        self._waiting: deque[Stream] = deque()

    def _give_back(self, size: int) -> None:
        """``size`` bytes of the window of what comes in are free again."""
        raise NotImplementedError

    def send_headers(self, stream: Stream, block: bytes, end: bool = False) -> None:
        """Send an encoded header section: of interim responses, then of the response; ``end``: it has no body."""
        if stream.closed:
            return
        if not self._table_announced:
            self._table_announced = True
            block = NO_TABLE + block
        flags = END_STREAM if end else 0
        if len(block) <= self._frame_size:
            self._frame(F_HEADERS, flags | END_HEADERS, stream.id, block)
        else:
            size = self._frame_size
            self._frame(F_HEADERS, flags, stream.id, block[:size])
            for start in range(size, len(block), size):
                last = start + size >= len(block)
                self._frame(F_CONTINUATION, END_HEADERS if last else 0, stream.id, block[start : start + size])
        if end:
            self._sent_all(stream)

    def send_data(self, stream: Stream, data: bytes | bytearray | memoryview, end: bool = False) -> None:
        """Send a piece of the body when the windows allow it; ``end``: the last one."""
        if stream.closed or stream._queued_end or not (data or end):
            return
        if data:
            # Not by reference: the caller may go on to change what is not bytes.
            stream._queue.append(data if type(data) is bytes else bytes(data))
            stream.pending += len(data)
        stream._queued_end = end
        self._wait(stream)
        if stream.pending >= self._frame_size:
            self.pump()  # smaller pieces are put together until the caller pumps

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """End the response with an encoded trailer section, behind what waits to be sent."""
        if stream.closed or stream._queued_end:
            return
        stream._trailers = block
        self.send_data(stream, b"", True)

    def reset(self, stream: Stream, code: int) -> None:
        """Cut ``stream``. No event follows."""
        if not stream.closed:
            self._reset_frame(stream.id, code)
            self._close(stream, True)

    def data_to_send(self) -> bytes:
        """The bytes to write since the last call."""
        out = self._out
        if not out:
            return b""
        self._out = []
        self.out_size = 0
        return b"".join(out)

    def pump(self) -> None:
        """Turn what waits into frames, up to ``HIGH_WATER`` bytes of them; a stream's turn is one frame."""
        waiting = self._waiting
        while waiting and self.out_size < HIGH_WATER:
            stream = waiting.popleft()
            stream._waiting = False
            if stream.closed:
                continue
            pending = stream.pending
            size = min(pending, self._frame_size, stream._send_window, self._send_window)
            if size <= 0 < pending:
                if stream._send_window > 0:
                    # The connection's window is used up, for all.
                    stream._waiting = True
                    waiting.appendleft(stream)
                    return
                continue  # until its window opens
            self._send_frame(stream, size)
            if stream.pending:
                self._wait(stream)

    def _send_frame(self, stream: Stream, size: int) -> None:
        queue = stream._queue
        before = stream.pending
        stream.pending -= size
        stream.sent += size
        stream._send_window -= size
        self._send_window -= size
        last = stream._queued_end and not stream.pending
        trailers = stream._trailers if last else None
        if size or trailers is None:
            self._head(F_DATA, END_STREAM if last and trailers is None else 0, stream.id, size)
            self._control.earn(3)  # the WINDOW_UPDATEs that it may cause
        while size:
            piece = queue.popleft()
            if len(piece) > size:
                view = memoryview(piece)
                self._out.append(view[:size])
                queue.appendleft(view[size:])
                break
            self._out.append(piece)
            size -= len(piece)
        if trailers is not None:
            stream._trailers = None
            self.send_headers(stream, trailers, True)
        elif last:
            self._sent_all(stream)
        if before > LOW_WATER >= stream.pending:
            self._events.append((ROOM, stream, None))

    # ------------------------------------------------------------ own

    def _wait(self, stream: Stream) -> None:
        if not stream._waiting:
            stream._waiting = True
            self._waiting.append(stream)

    def _head(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        self._out.append(FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream_id))
        self.out_size += 9 + length

    def _put(self, frame: bytes) -> None:
        self._out.append(frame)
        self.out_size += len(frame)

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._head(kind, flags, stream_id, len(payload))
        self._out.append(payload)

    def _reset_frame(self, stream_id: int, code: int) -> None:
        self._frame(F_RST_STREAM, 0, stream_id, WORD.pack(code))

    def _sent_all(self, stream: Stream) -> None:
        """Our side of ``stream`` is complete. What a request still has to send is not wanted (RFC 9113 section 8.1)."""
        stream._queued_end = stream._sent_end = True
        self._control.earn(3)
        if stream.ended:
            self._close(stream, False)
        elif not stream.tunnel:
            self.reset(stream, NO_ERROR)

    def _close(self, stream: Stream, ignore: bool) -> None:
        stream.closed = True
        del self.streams[stream.id]
        self._remember(stream.id, ignore)
        if stream._untaken:
            self._give_back(stream._untaken)
        stream._queue.clear()
        stream.pending = 0

    def _remember(self, stream_id: int, ignore: bool) -> None:
        recent = self._recent
        recent[stream_id] = ignore
        if len(recent) > _REMEMBERED:
            del recent[next(iter(recent))]
