"""Class consumers of a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from fastchannels.channel import Group
from fastchannels.generic.base import BaseConsumer
from fastchannels.message import Message
from fastchannels.sessions import enforce_ordering, warn_slight_ordering

__all__ = ["JsonWebsocketConsumer", "WebsocketConsumer"]


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


def _reply(message: Message) -> Any:
    if message.reply_channel is None:
        raise ValueError(f"the message on {message.channel} has no reply channel: it comes from no socket")
    return message.reply_channel
