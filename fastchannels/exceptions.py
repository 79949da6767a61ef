"""Every error that fastchannels raises.

* :exc:`FastChannelsError`

  * :exc:`UsageError`: the caller's fault.

    * :exc:`InvalidChannelLayerError` (a ``ValueError``): settings or options of a layer.
    * :exc:`InvalidNameError` (a ``TypeError``): a channel or group name.
    * :exc:`InvalidMessageError` (a ``TypeError``, ``ValueError`` and ``AssertionError``): a message that no layer
      can carry.
    * :exc:`MessageRangeError` (an ``OverflowError``): an integer outside 64 bits.
    * :exc:`ChannelFull`, :exc:`MessageTooLarge`: limits. With Channels installed these two, and
      :exc:`InvalidChannelLayerError`, *are* Channels' own classes and stand outside this tree.

  * :exc:`PeerError`: the fault of the other end of a socket.

    * :exc:`WebSocketError`: carries the close ``code`` of RFC 6455 section 7.4.1.
    * :exc:`HttpError`: carries the response ``status``.

  * :exc:`InvalidPayloadError` (a ``ValueError``): bytes from a store that are not a message.
  * :exc:`LayerUnavailable` (a ``ConnectionError``): the store of a layer cannot be reached.
  * :exc:`CorruptSegmentError`: a shared-memory segment that cannot be used.
  * :exc:`InternalError`: our bug.

* :exc:`ClientDisconnected` (an ``OSError``): ``send`` after the client left (ASGI HTTP & WebSocket 2.4).

Raised by consumers to steer the worker (the names of Channels 1.x): :exc:`ConsumeLater`, :exc:`ResponseLater`,
:exc:`DenyConnection`, :exc:`RequestTimeout`, :exc:`RequestAborted`, :exc:`ChannelSocketException`,
:exc:`WebsocketCloseException`. Raised to a consumer: :exc:`SendNotAvailableOnDemultiplexer`.
"""

from __future__ import annotations

import contextlib
import typing

__all__ = [
    "ChannelFull",
    "ChannelSocketException",
    "ClientDisconnected",
    "ConsumeLater",
    "CorruptSegmentError",
    "DenyConnection",
    "FastChannelsError",
    "HttpError",
    "InternalError",
    "InvalidChannelLayerError",
    "InvalidMessageError",
    "InvalidNameError",
    "InvalidPayloadError",
    "LayerUnavailable",
    "MessageRangeError",
    "MessageTooLarge",
    "PeerError",
    "RequestAborted",
    "RequestTimeout",
    "ResponseLater",
    "SendNotAvailableOnDemultiplexer",
    "UsageError",
    "WebSocketError",
    "WebsocketCloseException",
]


class FastChannelsError(Exception):
    """Base of all errors of fastchannels."""


class UsageError(FastChannelsError):
    """The caller asked for something that cannot be done; the message says what to change."""


class InvalidNameError(UsageError, TypeError):
    """A channel or group name that breaks the rules of the channel-layer specification."""


class InvalidMessageError(UsageError, TypeError, ValueError, AssertionError):
    """A message that cannot be carried. The text gives the path of the offending key.

    It is a ``TypeError`` (the type of a value), a ``ValueError`` (1.x raised that from ``Group.send``) and an
    ``AssertionError`` (Channels 4 raises that from ``send``), so that code written for either keeps working.
    """


class MessageRangeError(UsageError, OverflowError):
    """An integer in a message needs more than 64 bits."""


class ChannelFull(UsageError):
    """The channel holds as many unread messages as its capacity allows."""


class MessageTooLarge(UsageError):
    """The encoded message is larger than ``max_message_size``."""


class InvalidChannelLayerError(UsageError, ValueError):
    """A channel layer is configured wrongly."""


if not typing.TYPE_CHECKING:
    # The same objects, so that ``except channels.exceptions.ChannelFull`` and ours catch each other (D-02).
    with contextlib.suppress(ImportError):
        from channels.exceptions import ChannelFull, InvalidChannelLayerError, MessageTooLarge


class PeerError(FastChannelsError):
    """The other end of a socket broke its protocol."""


class WebSocketError(PeerError):
    """The peer broke RFC 6455; ``code`` is the close code to answer with."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{reason} (close code {code})" if reason else f"close code {code}")
        self.code = code
        self.reason = reason


class HttpError(PeerError):
    """The peer broke HTTP; ``status`` is the response to answer with."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"{reason} (status {status})" if reason else f"status {status}")
        self.status = status
        self.reason = reason


class InvalidPayloadError(FastChannelsError, ValueError):
    """Bytes that are not an encoded message; the text says what is wrong and at which byte."""


class LayerUnavailable(FastChannelsError, ConnectionError):
    """The store behind a channel layer cannot be reached; the message says which and for how long."""


class CorruptSegmentError(FastChannelsError):
    """A shared-memory segment that is damaged, of another version, or not ours."""


class InternalError(FastChannelsError):
    """Something that fastchannels promises never happens."""


class ClientDisconnected(OSError):
    """``send`` was called after the client had left (ASGI HTTP & WebSocket 2.4)."""


class ConsumeLater(Exception):
    """Put the message back on its channel and run its consumer again later."""


class ResponseLater(Exception):
    """Raised in a view: another consumer answers the request on its reply channel."""


class DenyConnection(Exception):
    """Raised in a ``websocket.connect`` consumer: refuse the handshake."""


class RequestTimeout(Exception):
    """The body of a request did not arrive in time."""


class RequestAborted(Exception):
    """The client left before the body of its request had arrived."""


class SendNotAvailableOnDemultiplexer(Exception):
    """A consumer behind a demultiplexer sent a frame that names no stream."""


class ChannelSocketException(Exception):
    """Base of exceptions that act on the socket of the message: the worker calls :meth:`run`."""

    def run(self, message: typing.Any) -> None:
        """Act on ``message.reply_channel``."""
        raise NotImplementedError("subclasses of ChannelSocketException define run(message)")


def may_close_with(code: int) -> bool:
    """Whether an application may send a close frame with ``code`` (RFC 6455 section 7.4.2)."""
    return code == 1000 or 3000 <= code <= 4999


def check_close_code(code: int) -> None:
    """Raise ``ValueError`` for a code that an application may not send."""
    if not may_close_with(code):
        raise ValueError(f"close code {code}: an application may send 1000 or 3000 to 4999")


class WebsocketCloseException(ChannelSocketException):
    """Raised in a consumer: close the socket with ``code``, 1000 when it is left out.

    Raises ``ValueError`` for a code that an application may not send (RFC 6455 section 7.4.2: 1000 or 3000-4999).
    """

    def __init__(self, code: int | None = None) -> None:
        if code is not None:
            check_close_code(code)
        super().__init__(f"close the socket with {code or 1000}")
        self._code = code

    def run(self, message: typing.Any) -> None:
        if message.reply_channel is None:
            raise ValueError("WebsocketCloseException needs a message with a reply channel")
        message.reply_channel.send({"close": self._code or True})
