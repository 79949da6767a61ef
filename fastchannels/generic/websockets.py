"""Class consumers of a socket."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder

from fastchannels.auth import (
    channel_and_http_session_user_from_http,
    channel_session_user,
    channel_session_user_from_http,
)
from fastchannels.channel import Channel, Group
from fastchannels.exceptions import SendNotAvailableOnDemultiplexer
from fastchannels.generic.base import BaseConsumer
from fastchannels.message import Message
from fastchannels.sessions import enforce_ordering, warn_slight_ordering

__all__ = ["JsonWebsocketConsumer", "WebsocketConsumer", "WebsocketDemultiplexer", "WebsocketMultiplexer"]


def _frame(text: str | None, bytes: bytes | None, close: bool | int) -> dict[str, Any]:
    """A reply for a socket. An empty frame is a frame (D-24)."""
    message: dict[str, Any] = {"close": close} if close else {}
    if text is not None:
        message["text"] = text
    elif bytes is not None:
        message["bytes"] = bytes
    else:
        raise ValueError("send needs text or bytes")
    return message


class WebsocketConsumer(BaseConsumer):
    """Override :meth:`connect`, :meth:`receive` and :meth:`disconnect`.

    The socket is in the groups of ``groups`` (or :meth:`connection_groups`) from before ``connect`` until
    ``disconnect``.
    """

    method_mapping: ClassVar[dict[str, str]] = {
        "websocket.connect": "raw_connect",
        "websocket.receive": "raw_receive",
        "websocket.disconnect": "raw_disconnect",
    }
    #: Gives ``channel_session``; the order is kept anyway (D-09).
    strict_ordering: ClassVar[bool] = False
    #: Not needed any more: it warns (D-03).
    slight_ordering: ClassVar[bool] = False
    groups: ClassVar[Iterable[str] | None] = None
    #: The user of the page's session is known from the connect on: ``message.user`` at every event.
    http_user: ClassVar[bool] = False
    #: The same, with ``message.http_session`` at every event.
    http_user_and_session: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("slight_ordering", False):
            warn_slight_ordering(f"{cls.__qualname__}.slight_ordering")

    def __init__(self, message: Message, **kwargs: Any) -> None:
        self.path = message.get("path")
        super().__init__(message, **kwargs)

    def get_handler(self, message: Message, **kwargs: Any) -> Callable[..., Any]:
        """The method for ``message``, with its decorators."""
        handler = super().get_handler(message, **kwargs)
        if self.http_user_and_session:
            handler = channel_and_http_session_user_from_http(handler)
        elif self.http_user:
            first = message.channel.name == "websocket.connect"
            handler = (channel_session_user_from_http if first else channel_session_user)(handler)
        return enforce_ordering(handler) if self.strict_ordering else handler

    def connection_groups(self, **kwargs: Any) -> Iterable[str]:
        """The groups of this socket; it gets the keyword arguments of the route."""
        return self.groups or []

    def raw_connect(self, message: Message, **kwargs: Any) -> None:
        """Join the groups, then :meth:`connect`. When that raises, the groups are left again."""
        groups = [Group(name, channel_layer=message.channel_layer) for name in self.connection_groups(**kwargs)]
        for group in groups:
            group.add(_reply(message))
        try:
            self.connect(message, **kwargs)
        except BaseException:
            for group in groups:
                group.discard(_reply(message))
            raise

    def connect(self, message: Message, **kwargs: Any) -> None:
        """A socket asks to be opened; the default accepts it."""
        _reply(message).send({"accept": True})

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Hand the frame to :meth:`receive`."""
        # Present means "not None" (D-24).
        text = message.get("text")
        if text is not None:
            self.receive(text=text, **kwargs)
        else:
            self.receive(bytes=message["bytes"], **kwargs)

    def receive(self, text: str | None = None, bytes: bytes | None = None, **kwargs: Any) -> None:
        """A frame came: one of ``text`` and ``bytes``."""

    def send(self, text: str | None = None, bytes: bytes | None = None, close: bool | int = False) -> None:
        """Send a frame to the socket, and close it when ``close`` is True or a code. ``ValueError`` without data."""
        _reply(self.message).send(_frame(text, bytes, close))

    @classmethod
    def group_send(
        cls, name: str, text: str | None = None, bytes: bytes | None = None, close: bool | int = False
    ) -> None:
        """Send a frame to every socket of the group ``name``."""
        Group(name).send(_frame(text, bytes, close))

    def close(self, status: bool | int = True) -> None:
        """Close the socket: with 1000, or with the code ``status``."""
        _reply(self.message).send({"close": status})

    def raw_disconnect(self, message: Message, **kwargs: Any) -> None:
        """Leave the groups, then :meth:`disconnect`."""
        for name in self.connection_groups(**kwargs):
            Group(name, channel_layer=message.channel_layer).discard(_reply(message))
        self.disconnect(message, **kwargs)

    def disconnect(self, message: Message, **kwargs: Any) -> None:
        """The socket is closed."""


class JsonWebsocketConsumer(WebsocketConsumer):
    """A socket whose text frames are JSON. Override :meth:`receive`, which gets the decoded content."""

    def raw_receive(self, message: Message, **kwargs: Any) -> None:
        """Decode the frame for :meth:`receive`. ``ValueError`` for a binary frame or text that is not JSON."""
        text = message.get("text")
        if text is None:
            raise ValueError("a JSON socket takes text frames; this one is binary")
        self.receive(self.decode_json(text), **kwargs)

    def receive(self, content: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """A frame came."""

    def send(self, content: Any, close: bool | int = False) -> None:  # type: ignore[override]
        """Send ``content`` as JSON to the socket."""
        super().send(text=self.encode_json(content), close=close)

    @classmethod
    def group_send(cls, name: str, content: Any, close: bool | int = False) -> None:  # type: ignore[override]
        """Send ``content`` as JSON to every socket of the group ``name``."""
        super().group_send(name, text=cls.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text: str) -> Any:
        """Text to content."""
        return json.loads(text)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Content to text."""
        return json.dumps(content)


class WebsocketMultiplexer:
    """Sends to one stream of a socket: frames ``{"stream": ..., "payload": {...}}``."""

    def __init__(self, stream: str, reply_channel: Channel) -> None:
        self.stream = stream
        self.reply_channel = reply_channel

    def send(self, payload: Any) -> None:
        """Send ``payload`` on this stream to the socket."""
        self.reply_channel.send(self.encode(self.stream, payload))

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Content to text; dates, decimals and UUIDs as Django writes them."""
        return json.dumps(content, cls=DjangoJSONEncoder)

    @classmethod
    def encode(cls, stream: str, payload: Any) -> dict[str, Any]:
        """The reply that carries ``payload`` on ``stream``."""
        return {"text": cls.encode_json({"stream": stream, "payload": payload})}

    @classmethod
    def group_send(cls, name: str, stream: str, payload: Any, close: bool | int = False) -> None:
        """Send ``payload`` on ``stream`` to every socket of the group ``name``."""
        message = cls.encode(stream, payload)
        if close:
            message["close"] = close
        Group(name).send(message)


class WebsocketDemultiplexer(JsonWebsocketConsumer):
    """Several consumers on one socket: each frame ``{"stream": ..., "payload": {...}}`` goes to that of its stream.

    A consumer is called with the message, whose ``text`` is the payload as JSON, and with the keyword argument
    ``multiplexer`` to answer by. Connect and disconnect go to all of them.
    """

    #: Name of the stream to its consumer: a class, or any callable.
    consumers: ClassVar[dict[str, Any]] = {}
    multiplexer_class: ClassVar[type[WebsocketMultiplexer]] = WebsocketMultiplexer

    def receive(self, content: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Hand the payload to its stream. ``ValueError`` for a frame that names none, or carries no dict."""
        if not isinstance(content, dict) or "stream" not in content or "payload" not in content:
            raise ValueError('a multiplexed frame is {"stream": ..., "payload": {...}}')
        stream, payload = content["stream"], content["payload"]
        if not isinstance(stream, str) or stream not in self.consumers:
            raise ValueError(f"no consumer for the stream {stream!r}: there is {', '.join(sorted(self.consumers))}")
        if not isinstance(payload, dict):
            raise ValueError(f"the payload on the stream {stream!r} is not a dict but {type(payload).__name__}")
        self.message.content["text"] = self.encode_json(payload)
        self._dispatch_to(stream, **kwargs)

    def connect(self, message: Message, **kwargs: Any) -> None:
        """Accept, then tell every stream."""
        super().connect(message, **kwargs)
        for stream in self.consumers:
            self._dispatch_to(stream, **kwargs)

    def disconnect(self, message: Message, **kwargs: Any) -> None:
        """Tell every stream."""
        for stream in self.consumers:
            self._dispatch_to(stream, **kwargs)

    def _dispatch_to(self, stream: str, **kwargs: Any) -> None:
        consumer = self.consumers[stream]
        if isinstance(consumer, type) and hasattr(consumer, "send"):
            consumer = _without_send(consumer)
        kwargs["multiplexer"] = self.multiplexer_class(stream, _reply(self.message))
        consumer(self.message, **kwargs)

    def send(self, *args: Any, **kwargs: Any) -> None:
        """``SendNotAvailableOnDemultiplexer``: a frame must name its stream."""
        raise SendNotAvailableOnDemultiplexer("use multiplexer.send() of the keyword argument multiplexer")

    @classmethod
    def group_send(cls, *args: Any, **kwargs: Any) -> None:
        """``SendNotAvailableOnDemultiplexer``: a frame must name its stream."""
        raise SendNotAvailableOnDemultiplexer("use WebsocketMultiplexer.group_send()")


@functools.lru_cache(maxsize=256)
def _without_send(consumer: Any) -> Any:
    """The class ``consumer`` as it is dispatched here; it keeps its own ``send`` elsewhere (D-23)."""
    attributes = {"send": WebsocketDemultiplexer.send, "__module__": consumer.__module__}
    return type(consumer.__name__, (consumer,), attributes)


def _reply(message: Message) -> Any:
    if message.reply_channel is None:
        raise ValueError(f"the message on {message.channel} has no reply channel: it comes from no socket")
    return message.reply_channel
