"""One socket, served by a run of the application (ASGI WebSocket 2.5)."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any, Final

from fastchannels._core.awaited import running
from fastchannels._core.exchange import make_scope
from fastchannels._core.fanout import Member
from fastchannels._core.socket import Mailbox, Sender
from fastchannels.envelope import NATIVE
from fastchannels.exceptions import ClientDisconnected
from fastchannels.server.asgi_scope import Message, Reaper, as_bytes, describe
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier, HttpStream
from fastchannels.server.websocket_stream import WebSocketStream

if TYPE_CHECKING:
    from fastchannels.server.bridge_asgi import AsgiBridge

logger = logging.getLogger("fastchannels.server")

#: Seconds for which messages to a client that has left are dropped before ``send`` raises. A Channels 4 consumer may be
#: handling group messages when its client leaves; an exception there would end it without its ``disconnect``.
SEND_GRACE: Final = 1.0


class AsgiWebSocket(WebSocketStream):
    """One socket, served by a run of the application."""

    __slots__ = ("_denial", "_ended", "_left_at", "_native", "_task", "bridge")

    def __init__(self, connection: Carrier, request: Request, bridge: AsgiBridge) -> None:
        super().__init__(connection, request)
        self.bridge = bridge
        self.mailbox = Mailbox(self, connection.context.loop)
        self.mailbox.deliver({"type": "websocket.connect"})
        #: When the socket ended.
        self._left_at = math.inf
        self._task: asyncio.Task[None] | None = None
        #: The response in place of a socket, while it is being sent.
        self._denial: HttpStream | None = None
        #: Layers and their channels whose ready messages go out from here.
        self._native: list[tuple[Any, str]] = []
        #: The application sent ``websocket.close`` to an open socket.
        self._ended = False

    def begin(self) -> None:
        context = self.connection.context
        self._task = context.loop.create_task(running(self))
        context.tasks.add(self._task)

    def call(self) -> Any:
        """The application, for its task to await."""
        scope = make_scope(self.connection, self.request, "websocket", self.bridge.state)
        scope["subprotocols"] = self.subprotocols
        extensions: dict[str, Any] = {"websocket.http.response": {}, NATIVE: {}}
        if "tls" in self.connection.extensions:
            extensions["tls"] = self.connection.extensions["tls"]
        scope["extensions"] = extensions
        return self.bridge.application(scope, self.mailbox, Sender(self))

    def ended(self, error: BaseException | None) -> None:
        """The application is over; raises ``error`` again where that is for the task."""
        context = self.connection.context
        try:
            if error is None:
                self._returned()
            elif not isinstance(error, ClientDisconnected):
                if isinstance(error, Exception):
                    what = describe(self.connection, self.request)
                    logger.error("%s: the application raised", what, exc_info=error)
                self._give_up()
                if not isinstance(error, Exception):
                    raise error
        finally:
            context.tasks.discard(self._task)
            self._let_go()
            context.note_end()

    def _returned(self) -> None:
        if self.ending:
            self.end_now()
        if not (self.closing or self.closed):
            logger.error(
                "%s: the application returned without %s",
                describe(self.connection, self.request),
                "closing its socket" if self.accepted else "answering",
            )
            self._give_up()

    def _let_go(self) -> None:
        """When nothing more can come, nor be asked for: the two would keep each other alive."""
        if self.closed and (self._task is None or self._task not in self.connection.context.tasks):
            self.mailbox = None

    def _give_up(self) -> None:
        if self.accepted:
            self.close(1011)
        elif self._denial is not None:
            self._denial.fail(500)
        else:
            self.reject(500)

    # ------------------------------------------------------------ from the connection

    def on_close(self, code: int, reason: str) -> None:
        self._left_at = self.connection.context.wheel.clock()
        for layer, channel in self._native:
            layer.attach_ahead(channel, None)
        assert self.mailbox is not None  # it goes when the socket has ended
        self.mailbox.deliver({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self._task is not None and not self._task.done():
            Reaper(self.connection.context, self._task, describe(self.connection, self.request))
        self._let_go()

    # ------------------------------------------------------------ from the application

    def send_other(self, message: Message) -> None:
        """Messages before the accept, the application's own end, and what comes after any end.

        Raises ``ClientDisconnected`` when the client left more than ``SEND_GRACE`` seconds ago.
        """
        kind = message.get("type")
        if kind == NATIVE:
            self._go_native(message["channel_layer"], message["channel"])
        elif self.closing or self.closed or not self.accepted:
            self._send_unusual(kind, message)
        elif kind == "websocket.close":
            code = message.get("code", 1000)
            self.close(1000 if code is None else code, message.get("reason") or "")
            self._ended = True
        elif kind == "websocket.accept":
            raise ValueError("websocket.accept twice")
        else:
            raise ValueError(f"message type {kind!r}: websocket.send and websocket.close go to an open socket")

    def _go_native(self, layer: Any, channel: str) -> None:
        """Write what is ready for the socket on ``channel`` from here (extension ``fastchannels.native``)."""
        if not (self.closing or self.closed):
            layer.attach_ahead(channel, Member(self, self.bridge.fanout))
            self._native.append((layer, channel))

    def _send_unusual(self, kind: Any, message: Message) -> None:
        """Messages before the accept and after the end."""
        if self.closed or (self.closing and not self._ended):
            if self.connection.context.wheel.clock() - self._left_at >= SEND_GRACE:
                raise ClientDisconnected(f"{describe(self.connection, self.request)}: the client left")
            return
        if self._denial is not None and kind == "websocket.http.response.body":
            self._denial.body(as_bytes(message.get("body", b""), "body of a response"), message.get("more_body", False))
        elif self.closing or self._denial is not None:
            what = describe(self.connection, self.request)
            raise RuntimeError(f"{what}: {kind} after the application had answered or closed")
        elif kind == "websocket.accept":
            self.accept(message.get("subprotocol"), message.get("headers") or ())
        elif kind == "websocket.close":
            self.reject(403)
        elif kind == "websocket.http.response.start":
            if "status" not in message:
                raise ValueError("websocket.http.response.start without a status")
            denial = self.deny()
            denial.start(message["status"], message.get("headers", ()))
            self._denial = denial
        else:
            raise ValueError(
                f"message type {kind!r}: websocket.accept, websocket.close or websocket.http.response.start answers "
                "a handshake"
            )
