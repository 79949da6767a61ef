"""The response of an HTTP/1.1 request as bytes on its connection (RFC 9112)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from fastchannels.server.events import Headers, Request
from fastchannels.server.http import CHUNKED, LAST_CHUNK, UNTIL_CLOSE, chunk, encode_head, encode_interim
from fastchannels.server.stream import HttpStream

if TYPE_CHECKING:
    from fastchannels.server.config import Context
    from fastchannels.server.websocket import Handshake

#: Larger pieces are written by themselves instead of being joined to the head.
_JOIN_BELOW: Final = 64 * 1024


class Http1Framing:
    """The half of a connection that frames responses; ``stream`` promises what these methods do."""

    __slots__ = ()

    context: Context

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    def response_complete(self, stream: HttpStream) -> None:
        """``stream`` has written its last byte."""
        raise NotImplementedError

    def close_after_answer(self) -> None:
        """Close, but read on for a moment."""
        raise NotImplementedError

    def answer(self, request: Request, status: int, headers: Headers, page: bytes) -> None:
        """Send a whole response that the server makes itself, and close."""
        self.write(encode_head(request, status, headers, self.context.common, False)[0] + page)
        self.close_after_answer()

    def accept_socket(self, handshake: Handshake, subprotocol: str | None, headers: Headers) -> None:
        """Write the 101 response. Raises as ``Handshake.response``."""
        self.write(handshake.response(subprotocol, [*self.context.common.pairs, *headers]))

    def start_response(self, stream: HttpStream, status: int, headers: Iterable[Iterable[bytes]]) -> None:
        context = self.context
        # A connection whose request was not read to its end cannot be used again.
        keep_alive = stream.request.keep_alive and stream.body_complete and not context.stopping
        stream.head, stream.framing, stream.keep_alive = encode_head(
            stream.request, status, headers, context.common, keep_alive
        )

    def flush_head(self, stream: HttpStream) -> None:
        self.write(stream.head)

    def send_body(self, stream: HttpStream, data: bytes, more: bool) -> None:  # HOT: http hello
        framing = stream.framing
        stream.size += len(data)
        if framing == CHUNKED:
            if data:
                if len(data) > _JOIN_BELOW:
                    self._write(stream, b"%x\r\n" % len(data))
                    self._write(stream, data)
                    data = b"\r\n"
                else:
                    data = chunk(data)
            if not more:
                data = data + LAST_CHUNK
        elif framing >= 0:
            stream.check_length(len(data), more)
        elif framing != UNTIL_CLOSE:
            stream.size = 0
            data = b""
        self._write(stream, data)
        if not more:
            stream.done = True
            self.response_complete(stream)

    def _write(self, stream: HttpStream, data: bytes) -> None:
        head = stream.head
        if head is not None:
            stream.head = None
            if len(data) < _JOIN_BELOW:
                self.write(head + data)
                return
            self.write(head)
        if data:
            self.write(data)

    def inform(self, stream: HttpStream, status: int, headers: Headers) -> None:
        if stream.request.version != "1.0":
            self.write(encode_interim(status, headers))
