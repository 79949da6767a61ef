"""Groups of Channels 4 consumers whose ready messages the server writes to the socket itself.

    class Chat(AsyncNativeGroups, AsyncWebsocketConsumer):
        async def connect(self):
            await self.group_join_native("room")
            await self.accept()

From then on ``{"type": "websocket.send", "text": ...}``, or ``"bytes"``, that reaches the consumer by a group or by its
channel name goes out without waking the consumer: framed and compressed once for all such sockets of a server. Other
messages (``chat.message``) call their handlers as ever. Order is kept among them all: a ready message that comes while
the consumer has others to handle waits behind those. One that is only busy with its client does not hold them up.

Under another server, or on another layer, the same messages arrive at the handler below, and cost what each message to
a consumer costs.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync

from fastchannels import envelope
from fastchannels.exceptions import InvalidChannelLayerError

__all__ = ["AsyncNativeGroups", "NativeGroups"]


class _Native:
    """What both mixins share. The attributes are those of a Channels consumer."""

    scope: Any
    channel_layer: Any
    channel_name: str
    base_send: Any
    _native_groups: dict[str, None] | None = None

    def _joining(self, group: str) -> dict[str, Any] | None:
        """Note ``group``; what to send to the server, once. ``InvalidChannelLayerError`` without a layer."""
        layer = self.channel_layer
        if layer is None:
            raise InvalidChannelLayerError("a consumer without a channel layer cannot join a group: set CHANNEL_LAYERS")
        first = self._native_groups is None
        groups = self._native_groups = self._native_groups or {}
        groups[group] = None
        offered = envelope.NATIVE in (self.scope.get("extensions") or {})
        if first and offered and hasattr(layer, "attach_ahead"):
            return {"type": envelope.NATIVE, "channel": self.channel_name, "channel_layer": layer}
        return None

    def _leaving(self) -> list[str]:
        groups, self._native_groups = self._native_groups, {}
        return list(groups or ())


class AsyncNativeGroups(_Native):
    """For subclasses of ``AsyncConsumer``; name it before them."""

    async def group_join_native(self, group: str) -> None:
        """Make the socket a member of ``group``, until :meth:`group_leave_native` or its end."""
        event = self._joining(group)
        if event is not None:
            await self.base_send(event)
        await self.channel_layer.group_add(group, self.channel_name)

    async def group_leave_native(self, group: str) -> None:
        """End the membership; no error when there is none."""
        (self._native_groups or {}).pop(group, None)
        await self.channel_layer.group_discard(group, self.channel_name)

    async def websocket_send(self, event: dict[str, Any]) -> None:
        """A ready message that the server did not take."""
        await self.base_send(event)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """Leave the groups, then what the consumer does."""
        for group in self._leaving():
            await self.channel_layer.group_discard(group, self.channel_name)
        await super().websocket_disconnect(message)  # type: ignore[misc]


class NativeGroups(_Native):
    """For subclasses of ``SyncConsumer``; name it before them."""

    def group_join_native(self, group: str) -> None:
        """Make the socket a member of ``group``, until :meth:`group_leave_native` or its end."""
        event = self._joining(group)
        if event is not None:
            self.base_send(event)
        async_to_sync(self.channel_layer.group_add)(group, self.channel_name)

    def group_leave_native(self, group: str) -> None:
        """End the membership; no error when there is none."""
        (self._native_groups or {}).pop(group, None)
        async_to_sync(self.channel_layer.group_discard)(group, self.channel_name)

    def websocket_send(self, event: dict[str, Any]) -> None:
        """A ready message that the server did not take."""
        self.base_send(event)

    def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """Leave the groups, then what the consumer does."""
        for group in self._leaving():
            async_to_sync(self.channel_layer.group_discard)(group, self.channel_name)
        super().websocket_disconnect(message)  # type: ignore[misc]
