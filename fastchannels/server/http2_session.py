"""An HTTP/2 connection between the transport's and its streams: what comes in is told, what goes out is written once.

All that is said in a turn of the event loop leaves in one write, and nothing while the transport has no room.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from fastchannels.exceptions import HttpError
from fastchannels.server.config import Config
from fastchannels.server.http2 import Http2Connection
from fastchannels.server.http2_frames import CANCEL, ENHANCE_YOUR_CALM
from fastchannels.server.http2_outgoing import (
    DATA,
    END,
    FAULT,
    HIGH_WATER,
    REQUEST,
    RESET,
    ROOM,
    Http2Limits,
    Stream,
)
from fastchannels.server.http2_stream import Http2Stream
from fastchannels.server.stream import HOLD_PIPELINE

if TYPE_CHECKING:
    from fastchannels.server.protocol import Connection
    from fastchannels.server.websocket_stream import WebSocketStream

logger = logging.getLogger("fastchannels.server")

#: Seconds between looks at clients that owe something.
_LOOK: Final = 1.0


def limits_of(config: Config) -> Http2Limits:
    """What one connection may take."""
    return Http2Limits(
        config.limits,
        config.http2_streams,
        config.http2_window,
        config.http2_connection_window,
        config.http2_resets,
        config.http2_control_frames,
    )


class Http2Session:
    """Stands in for a connection's HTTP/1.1 parser. The connection's deadline is its own."""

    __slots__ = ("_flushing", "_head_since", "_requests_left", "_unsent", "connection", "engine")

    #: As a parser's: what it reports is acted on here.
    events: Final = ()

    def __init__(self, connection: Connection) -> None:
        context = connection.context
        wheel = context.wheel
        self.connection = connection
        self.engine = Http2Connection(limits_of(context.config), lambda: wheel.now)
        self._flushing = False
        #: When a header section began that is not complete, or 0.
        self._head_since = 0.0
        self._requests_left = context.config.keep_alive_requests
        #: Bytes that the transport held when it was looked at last, and since when it is no fewer.
        self._unsent = (0, 0.0)
        wheel.arm(connection, context.deadline(context.config.keep_alive_timeout))
        self.flush_soon()

    # ------------------------------------------------------------ from the connection

    def feed(self, data: memoryview) -> None:
        """Bytes of the client."""
        engine = self.engine
        engine.receive_data(data)
        self._dispatch()
        if not engine.in_header_section:
            self._head_since = 0.0
        elif not self._head_since:
            self._head_since = self.connection.context.wheel.now
            self.watch()
        self.flush_soon()
        if engine.out_size > HIGH_WATER and self.connection.write_paused:
            # A client that asks without reading is heard no more until it reads.
            self.connection.hold(HOLD_PIPELINE)

    def on_room(self) -> None:
        """The transport has room again."""
        self._unsent = (0, 0.0)
        self.connection.release(HOLD_PIPELINE)
        self.flush()

    def lost(self) -> None:
        """The transport is gone."""
        self.engine.finished = True
        for stream in list(self.engine.streams.values()):
            stream.user.lost()

    def go_away(self) -> None:
        """Take no more requests, and close when those that run are answered."""
        self.engine.go_away()
        self.flush_soon()

    @property
    def sockets(self) -> list[WebSocketStream]:
        """The WebSockets that are open."""
        found = (stream.user.websocket for stream in self.engine.streams.values())
        return [websocket for websocket in found if websocket is not None]

    def expired(self, now: float) -> None:
        """The time for a look has come, or the client has had nothing to ask for too long."""
        connection, engine = self.connection, self.engine
        context = connection.context
        config = context.config
        self._look_at_transport(now)
        if self._head_since and config.header_timeout and now - self._head_since >= config.header_timeout:
            context.drops.note("header_timeout", f"{connection.client_name} is cut off: its request head is too slow")
            engine.fail(ENHANCE_YOUR_CALM, "the request head is too slow")
            self._dispatch()
        for stream in list(engine.streams.values()):
            self._look_at(stream, now)
        if not engine.streams and not self._head_since and not connection.closed:
            self.go_away()
        elif not engine.finished:
            self.watch()

    def watch(self) -> None:
        """Look again in a while when a client owes something; wait for a request when nothing runs."""
        connection = self.connection
        context = connection.context
        owed = self._head_since or connection.write_paused
        if owed or any(stream.pending or not stream.tunnel for stream in self.engine.streams.values()):
            context.wheel.arm(connection, context.wheel.now + _LOOK)
        elif self.engine.streams:
            context.wheel.disarm(connection)
        else:
            context.wheel.arm(connection, context.deadline(context.config.keep_alive_timeout))

    # ------------------------------------------------------------ from the streams

    def send(self, stream: Stream, data: bytes | bytearray | memoryview, end: bool) -> None:
        """As ``Outgoing.send_data``."""
        self.engine.send_data(stream, data, end)
        self.flush_soon()

    def send_headers(self, stream: Stream, block: bytes, end: bool) -> None:
        """As ``Outgoing.send_headers``."""
        self.engine.send_headers(stream, block, end)
        self.flush_soon()

    def send_trailers(self, stream: Stream, block: bytes) -> None:
        """As ``Outgoing.send_trailers``."""
        self.engine.send_trailers(stream, block)
        self.flush_soon()

    def end(self, stream: Stream) -> None:
        """End our side of ``stream``."""
        self.send(stream, b"", True)

    def reset(self, stream: Stream, code: int) -> None:
        """Cut ``stream``; its user is not told."""
        self.engine.reset(stream, code)
        self.flush_soon()

    def acknowledge(self, stream: Stream, size: int) -> None:
        """``size`` bytes were taken."""
        self.engine.acknowledge(stream, size)
        if self.engine.out_size:
            self.flush_soon()

    # ------------------------------------------------------------ own

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self.connection.context.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what there is, until the transport has no room."""
        self._flushing = False
        connection, engine = self.connection, self.engine
        while not connection.write_paused:
            engine.pump()
            data = engine.data_to_send()
            if not data:
                break
            connection.write(data)
        self._dispatch()
        if engine.finished:
            connection.close_after_answer()
        elif not engine.streams:
            if engine.going:
                connection.close()
            else:
                self.watch()

    def _dispatch(self) -> None:
        """Act on what the engine reports."""
        for kind, stream, value in self.engine.events_received():
            if stream is None:
                if kind == FAULT:
                    self._on_fault(value)
            elif kind == REQUEST:
                self._begin(stream, value)
            elif kind == DATA:
                stream.user.on_data(value)
            elif kind == END:
                stream.user.on_end()
            elif kind == RESET:
                stream.user.lost()
            elif kind == ROOM:
                stream.user.on_room()

    def _begin(self, stream: Stream, request: Any) -> None:
        stream.user = carrier = Http2Stream(self, stream)
        if isinstance(request, HttpError):
            carrier.context.running += 1
            carrier.refuse(request)
            carrier.finish()
            return
        self._requests_left -= 1
        if not self._requests_left:
            self.go_away()
        carrier.begin(request)
        self.watch()

    def _on_fault(self, reason: str) -> None:
        logger.info("the HTTP/2 connection of %s ends: %s", self.connection.client_name, reason)
        self.lost()
        self.flush_soon()

    def _look_at_transport(self, now: float) -> None:
        """Cut a client that takes nothing of what the transport holds."""
        connection = self.connection
        timeout = connection.context.config.write_timeout
        unsent = connection.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif timeout and now - self._unsent[1] >= timeout:
            connection.context.drops.note("write_timeout", f"{connection.client_name} is cut off: it takes nothing")
            connection.abort()

    def _look_at(self, stream: Stream, now: float) -> None:
        """Cut a stream whose client opens no window for what waits, or does not send what it announced."""
        carrier: Http2Stream = stream.user
        context = carrier.context
        config = context.config
        if stream.pending:
            if stream.sent != carrier.stalled[0] or not carrier.stalled[1]:
                carrier.stalled = (stream.sent, now)
            elif config.write_timeout and now - carrier.stalled[1] >= config.write_timeout:
                context.drops.note("write_timeout", f"{carrier.client_name}: a stream is cut off, its window is closed")
                self.reset(stream, CANCEL)
                carrier.lost()
            return
        carrier.stalled = (0, 0.0)
        http = carrier.http
        if http is None or http.body_complete:
            return
        if carrier.held or http.waits_for_continue:
            carrier.body_deadline = context.deadline(config.body_timeout)
        elif now >= carrier.body_deadline:
            context.drops.note("body_timeout", f"{carrier.client_name} is cut off: its request body is too slow")
            carrier.too_slow()
