"""The message that a consumer receives."""

from __future__ import annotations

import copy
from collections.abc import ItemsView, KeysView, ValuesView
from typing import TYPE_CHECKING, Any

from fastchannels import envelope
from fastchannels.channel import Channel, PendingMessageStore, pending_message_store

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from fastchannels.asgi import ChannelLayerWrapper

__all__ = ["Message", "PendingMessageStore", "pending_message_store"]


class Message:
    """``content`` (a dict), the ``channel`` it came by, and the ``reply_channel`` to answer on (None without one).

    Reading and writing by key, ``in``, ``get``, ``keys``, ``values`` and ``items`` act on ``content``. The keys that a
    protocol server adds for the worker (:mod:`fastchannels.envelope`) are taken out of it.
    """

    # Set by the decorators of fastchannels.sessions and fastchannels.auth.
    channel_session: Any  # ChannelSession, or a session of CHANNEL_SESSION_ENGINE
    http_session: SessionBase | None
    user: Any

    def __init__(self, content: dict[str, Any], channel_name: str, channel_layer: ChannelLayerWrapper) -> None:
        #: The place of the message among the events of its socket; None when it is no socket's event.
        self.event: int | None = content.pop(envelope.EVENT, None)
        #: The session that travels with the socket's events.
        self.session_payload: bytes | None = content.pop(envelope.SESSION, None)
        #: Whether ``session_payload`` was changed here, so that the protocol server must get it back.
        self.session_changed = False
        #: Workers that died with this event before.
        self.redelivered: int = content.pop(envelope.REDELIVERED, 0)
        if self.event is not None:
            content.setdefault("order", self.event)
        self.content = content
        self.channel = Channel(channel_name, channel_layer=channel_layer)
        self.channel_layer = channel_layer
        reply_channel = content.get("reply_channel")
        self.reply_channel = Channel(reply_channel, channel_layer=channel_layer) if reply_channel else None
        self.__doomed__ = False

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.content[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.content

    def keys(self) -> KeysView[str]:
        """The keys of the content."""
        return self.content.keys()

    def values(self) -> ValuesView[Any]:
        """The values of the content."""
        return self.content.values()

    def items(self) -> ItemsView[str, Any]:
        """The pairs of the content."""
        return self.content.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The value under ``key``, or ``default``."""
        return self.content.get(key, default)

    def copy(self) -> Message:
        """A message with a deep copy of the content. What decorators set, and the socket's event, stay behind."""
        return type(self)(copy.deepcopy(self.content), self.channel.name, self.channel_layer)

    def __repr__(self) -> str:
        return f"<Message on {self.channel.name}: {', '.join(self.content)}>"
