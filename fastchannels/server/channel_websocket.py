"""One socket as messages: its events through a window to the workers, their replies as frames (channel mode)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from fastchannels._core.fanout import Member
from fastchannels.envelope import ABORT, ACK, BUSY, EVENT, LOST, REDELIVERED, REPLIES, SESSION
from fastchannels.exceptions import ChannelFull, LayerUnavailable, MessageTooLarge, may_close_with
from fastchannels.server.channel_messages import FULL_DELAY, RETRY_AFTER, Message, envelope_of
from fastchannels.server.events import Request
from fastchannels.server.stream import Carrier
from fastchannels.server.timer import NEVER, Timed
from fastchannels.server.websocket_stream import WebSocketStream
from fastchannels.server.window import Event, Verdict, Window

if TYPE_CHECKING:
    from fastchannels.server.bridge_channels import ChannelBridge

logger = logging.getLogger("fastchannels.server")

_LONGEST_DELAY: Final = 1.0  #: seconds to which the delay before a full channel is tried again grows
_SIDE_BY_SIDE: Final = 0.1  #: seconds within which the order of two sends is not judged
_REPLY_KEYS: Final = frozenset(("text", "bytes", "close", "accept"))


class _AckTimer(Timed):
    """The window's deadline; the socket's own is for handshake, pings and life."""

    __slots__ = ("_socket",)

    def __init__(self, socket: ChannelSocket) -> None:
        super().__init__()
        self._socket = socket

    def expired(self, now: float) -> None:
        self._socket.check_window()


class ChannelSocket(WebSocketStream):
    """One socket, whose events go through a :class:`Window` to ``websocket.connect``, ``.receive``, ``.disconnect``."""

    __slots__ = (
        "_ack_timer", "_code", "_delivering", "_delivery", "_paused", "_reply", "_unseen", "bridge", "layer", "told",
        "window",
    )  # fmt: skip

    def __init__(self, connection: Carrier, request: Request, bridge: ChannelBridge) -> None:
        super().__init__(connection, request)
        context = connection.context
        self.bridge = bridge
        self.layer = bridge.layer
        self.window = Window(context.wheel.clock, self.layer.expiry, context.config.ack_timeout)
        #: The disconnect message is in the layer, or needs not be.
        self.told = False
        self._ack_timer = _AckTimer(self)
        self._reply = ""
        #: Events are sent whose turn it is; the task, when that has to wait.
        self._delivering = False
        self._delivery: asyncio.Task[None] | None = None
        #: How the socket ended.
        self._code = 1012
        self._paused = False
        #: No worker was told of this socket, so none is told of its end.
        self._unseen = False

    def begin(self) -> None:
        self._reply = self.layer.new_local_channel("websocket.send")
        self.layer.attach(self._reply, Member(self, self.bridge.fanout, self._on_message))
        self.bridge.sockets.add(self)
        self.window.add("connect", envelope_of(self.connection, self.request))
        self._kick()

    # ------------------------------------------------------------ from the connection

    def on_text(self, text: str) -> None:
        self._add({"path": self.request.path, "text": text}, len(text))

    def on_binary(self, data: bytes) -> None:
        self._add({"path": self.request.path, "bytes": data}, len(data))

    def on_close(self, code: int, reason: str) -> None:
        self._unpause()
        if self._unseen:
            self.finish()
            return
        self._code = code
        self.window.add("disconnect", {"path": self.request.path, "code": code})
        self._kick()

    def on_full(self) -> None:
        super().on_full()
        if self._reply and not self._paused and not self.closed and self.waits_for_room():
            self._paused = True

    def on_room(self) -> None:
        super().on_room()
        self._unpause()

    def _unpause(self) -> None:
        if self._paused:
            self._paused = False
            self._kick()

    def _add(self, content: Message, size: int) -> None:
        self.window.add("receive", content, size)
        if self.window.full:
            self.fall_behind()
        self._kick()

    # ------------------------------------------------------------ to the layer

    def _kick(self) -> None:
        # A client that does not read is given no worker: the answers would only wait for it.
        if not (self._delivering or self._paused or self.told) and self.window.ready:
            self._delivering = True
            context, delivery = self.connection.context, self._deliver()
            # An answer to the handshake must not come before its own end.
            task = context.begin(delivery) if self.accepted else context.spawn(delivery)
            if task is not None:
                self._delivery = task

    async def _deliver(self) -> None:
        """Send the events whose turn it is; ends when one is in flight."""
        window = self.window
        try:
            while not (self._paused or self.told) and (event := window.take()) is not None:
                await self._offer(event)
        finally:
            self._delivering, self._delivery = False, None
        self._settle()

    def _message(self, event: Event) -> Message:
        message = {"reply_channel": self._reply, **event.content, "order": event.number, EVENT: event.number}
        if self.window.session is not None:
            message[SESSION] = self.window.session
        if event.deaths:
            message[REDELIVERED] = event.deaths
        return message

    async def _offer(self, event: Event) -> None:
        """Send one event, or give it up."""
        context, clock = self.connection.context, self.connection.context.wheel.clock
        message = self._message(event)
        expires = event.queued + self.layer.expiry
        # An open socket stays open as long as a message lives; who wants to open one may come back.
        until = clock() + context.config.channel_full_timeout if event.kind == "connect" else expires
        lane = self.bridge.lanes[f"websocket.{event.kind}"]
        delay = FULL_DELAY

        def wanted() -> bool:
            event.offered = clock()
            return not self.closed or event.kind != "connect"

        while True:
            try:
                taken = await lane.send(message, until, wanted)
            except ChannelFull as error:
                self._refuse(event, 503, 1013, "channel_full", str(error))
                return
            except LayerUnavailable as error:
                logger.debug("websocket.%s of %s waits: %s", event.kind, self.request.path, error)
            except MessageTooLarge as error:
                self._refuse(event, 431, 1009, "message_too_large", str(error))
                return
            except Exception:
                logger.exception("websocket.%s of %s cannot be sent", event.kind, self.request.path)
                self._refuse(event, 500, 1011)
                return
            else:
                if not taken:
                    self._unseen = True
                    self.window.refused("left")
                    self.finish()
                    return
                self.window.sent()
                if event.kind == "disconnect":
                    self.told = True
                    context.note_end()
                elif event.kind == "connect" and not (self.accepted or self.closed):
                    # A worker has its whole time, however long the line was.
                    context.wheel.arm(self, context.deadline(context.config.websocket_connect_timeout))
                self._watch()
                return
            if clock() > expires:
                self._refuse(event, 503, 1013, "expired", "it expired before the layer took it")
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    def _refuse(self, event: Event, status: int, code: int, reason: str = "", why: str = "") -> None:
        """``event`` cannot be delivered: the socket ends, and events behind it are given up but for the last.

        ``reason`` and ``why`` are counted and logged.
        """
        if reason:
            self._give_up(event.kind, reason, why)
        self.window.refused("refused")
        if event.kind == "connect":
            self._unseen = True
            if self.closed:
                self.finish()
            else:
                self.reject(status, RETRY_AFTER if status == 503 else ())
        elif event.kind == "receive":
            self.window.discard_waiting()
            # Not in the middle of what the socket reads.
            self.connection.context.loop.call_soon(self.close, code)

    def _give_up(self, kind: str, reason: str, why: str) -> None:
        self.connection.context.drops.note(reason, f"websocket.{kind} of {self.request.shown} is given up: {why}")

    def expired(self, now: float) -> None:
        """Of a handshake of which no worker could be told yet, the client is told so."""
        if self._delivering and not (self.accepted or self.closed):
            lane = self.bridge.lanes["websocket.connect"]
            reason, why = ("channel_full", lane.reason) if lane.waiting else ("layer", "the channel layer is away")
            self._give_up("connect", reason, why)
            self.reject(503, RETRY_AFTER)
        else:
            super().expired(now)

    def _watch(self) -> None:
        """Look at the window again at its deadline."""
        self.connection.context.wheel.arm(self._ack_timer, self.window.deadline)

    def check_window(self) -> None:
        """The window's deadline has passed."""
        event = self.window.current
        verdict = self.window.check()
        if verdict is Verdict.ASK and event is not None:
            self.connection.context.spawn(self._ask(event))
        elif verdict is Verdict.DROPPED and event is not None:
            self._dropped(event)
        self._watch()

    async def _ask(self, event: Event) -> None:
        unread = 0
        if max(event.offered, event.alive) + _SIDE_BY_SIDE > self.bridge.taken.get(event.kind, 0.0):
            try:
                unread = await self.layer.pending(f"websocket.{event.kind}")
            except LayerUnavailable:
                return  # its clients wait as well: nobody can be judged by silence
        # Else a worker has taken what came after it, and so this too, however many wait.
        verdict = self.window.answer(event.number, unread)
        if verdict is Verdict.AGAIN:
            self._tell(event, "is sent again: its worker gave no sign of life")
            await self._offer(event)
            self._settle()
        elif verdict is Verdict.DROPPED:
            self._dropped(event)
        self._watch()

    def _dropped(self, event: Event) -> None:
        self._tell(event, "is dropped: its worker gave no sign of life")
        self._settle()

    def _tell(self, event: Event, fate: str) -> None:
        name = f"websocket.{event.kind} {event.number} of {self.request.shown} {self.connection.client_name}"
        self.bridge.fates.note(fate, f"{name} {fate}")

    def _settle(self) -> None:
        """An event is done: read the socket again, send the next, or end."""
        if self.window.finished:
            self.finish()
            return
        if not self.window.full:
            self.catch_up()
        self._kick()

    async def tell(self) -> None:
        """Send the disconnect message past what is in flight, because the server ends."""
        current = self.window.current
        if current is not None and current.kind == "disconnect" and self._delivery is not None:
            await asyncio.wait((self._delivery,))
        if self._unseen or self.told:
            return
        self.told = True
        event = Event("disconnect", {"path": self.request.path, "code": self._code}, 0, 0)
        event.number = self.window.next_number
        await self.layer.send("websocket.disconnect", self._message(event))

    def finish(self) -> None:
        """Nothing more is said to workers about this socket."""
        if self in self.bridge.sockets:
            self.bridge.sockets.discard(self)
            self.bridge.dropped.update(self.window.dropped)
            self.told = True
            self.connection.context.wheel.arm(self._ack_timer, NEVER)
            self.connection.context.wheel.disarm(self._ack_timer)
            self.layer.detach(self._reply)
            self.connection.context.note_end()

    # ------------------------------------------------------------ from the workers

    def _on_message(self, message: Message) -> None:
        if ACK in message:
            for reply in message.get(REPLIES) or ():
                self._apply(reply, alone=True)
            event, lost = self.window.current, LOST in message
            if event is not None and event.number == message[ACK]:
                self._taken(event)
            if self.window.ack(message[ACK], lost):
                if lost and event is not None:
                    self._tell(event, "is lost with its worker: its route does not redeliver")
                if SESSION in message:
                    self.window.session = message[SESSION]
                self._settle()
        elif BUSY in message:
            event = self.window.current
            if event is not None and event.number == message[BUSY]:
                self._taken(event)
            self.window.busy(message[BUSY])
            self._watch()
        else:
            self._apply(message)

    def _taken(self, event: Event) -> None:
        taken = self.bridge.taken
        if event.offered > taken.get(event.kind, 0.0):
            taken[event.kind] = event.offered

    def _apply(self, reply: Message, alone: bool = False) -> None:
        """Act on one reply, by the two tables of talk-api.md section 8. ``alone``: no other socket gets it."""
        if self.closed or self.closing:
            logger.debug("a reply to a closed socket of %s is ignored", self.request.path)
            return
        if ABORT in reply:
            if self.accepted:
                self.close(1011)
            else:
                self.reject(500)
            return
        text, data, close = reply.get("text"), reply.get("bytes"), reply.get("close")
        fault = _fault(reply, text, data)
        if fault:
            logger.error("a reply to %s is ignored: %s", self.request.path, fault)
            return
        if not self.accepted:
            accept = reply.get("accept")
            if accept is False or (not accept and close and not text and not data):
                self.reject(403)
                return
            if not (accept or text or data):
                return  # not an answer
            self.accept(self._choose_protocol(), ())
        code = 1000
        if close:
            code = 1000 if close is True else close
            if not isinstance(code, int) or not may_close_with(code):
                logger.error("a reply to %s is ignored: close code %r", self.request.path, close)
                return
        payload = data if text is None else text
        if payload is not None:
            assert self.ws is not None
            if not alone:
                self.send_frame(self.bridge.fanout.frame_of(reply, payload, self.ws.deflate_bits))
            elif text is not None:
                self.send_text(text)
            else:
                self.send_binary(payload)
        if close:
            self.close(code)

    def _choose_protocol(self) -> str | None:
        """Consumers of 1.x cannot choose: the first offer that the server was told to accept."""
        accepted = self.connection.context.config.ws_protocols
        return next((offer for offer in self.subprotocols if offer in accepted), None)


def _fault(reply: Message, text: Any, data: Any) -> str | None:
    """Why ``reply`` cannot be acted on, or None."""
    if text is not None:
        if data is not None:
            return "it has both text and bytes"
        if not isinstance(text, str):
            return f"its text is {type(text).__name__}"
    elif data is not None and not isinstance(data, bytes):
        return f"its bytes are {type(data).__name__}"
    if not reply.keys() <= _REPLY_KEYS:
        return f"unknown keys {sorted(reply.keys() - _REPLY_KEYS)}"
    return None
