"""One request as messages: ``http.request`` to a worker, and the worker's messages as the response (channel mode)."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Final

from fastchannels.envelope import ABORT
from fastchannels.exceptions import ChannelFull, LayerUnavailable, MessageTooLarge
from fastchannels.server.channel_messages import FULL_DELAY, RETRY_AFTER, Message, envelope_of
from fastchannels.server.events import Request
from fastchannels.server.stream import HOLD_BODY, Carrier, HttpStream

if TYPE_CHECKING:
    from fastchannels.server.bridge_channels import ChannelBridge

logger = logging.getLogger("fastchannels.server")

INLINE_BODY: Final = 256 * 1024  #: bytes of a body that travel in the request's own message, and of one chunk


class ChannelHttp(HttpStream):
    """One request on ``http.request``, answered on a channel of its own."""

    def __init__(self, connection: Carrier, request: Request, bridge: ChannelBridge) -> None:
        super().__init__(connection, request)
        self.bridge = bridge
        self.layer = bridge.layer
        self._chunks: list[bytes] = []
        self._buffered = 0
        #: Hands the request, and the rest of its body, to the layer.
        self._delivery: asyncio.Task[None] | None = None
        #: The reply channel, when the request has been handed to the layer.
        self._reply: str | None = None
        self._sent = False
        self._waiter: asyncio.Future[None] | None = None
        self._timeout = bridge.http_timeout
        self._lane = bridge.lanes["http.request"]

    def begin(self) -> None:
        if self.body_complete:
            self._deliver_soon()
            return
        self._progress()
        if self.request.expect_continue:
            self.inform(100, [])

    # ------------------------------------------------------------ from the connection

    def on_body(self, data: bytes) -> None:
        self._progress()
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= INLINE_BODY:
            if self._delivery is not None:
                self.connection.hold(HOLD_BODY)
            else:
                self._deliver_soon()
        self._wake()

    def on_body_end(self) -> None:
        if self._delivery is not None:
            self._wake()
        else:
            self._deliver_soon()

    def on_end(self) -> None:
        self.connection.context.wheel.disarm(self)
        if self._reply is not None:
            self.layer.detach(self._reply)
            if self.disconnected and self._sent:
                self.connection.context.spawn(self._tell_disconnect())
        self._wake()

    def on_full(self) -> None:
        if self._reply is not None:
            self.layer.pause(self._reply)

    def on_room(self) -> None:
        if self._reply is not None and not (self.done or self.disconnected):
            self.layer.resume(self._reply)

    def expired(self, now: float) -> None:
        context = self.connection.context
        if self._delivery is None or self._sent:
            self._note("http_timeout", 503, f"no answer in {self._timeout} s (http_timeout)")
            self.fail(503, "The application did not answer in time.", RETRY_AFTER)
        else:
            if self._lane.waiting:
                self._note("channel_full", 503, self._lane.reason)
            else:
                seconds = context.config.layer_timeout
                self._note("layer", 503, f"the channel layer did not take it in {seconds} s (layer_timeout)")
            self._delivery.cancel()
            self.fail(503, "The service is not available at the moment.", RETRY_AFTER)

    def _progress(self) -> None:
        if self._delivery is not None and not self._sent:
            return  # the layer's time runs
        context = self.connection.context
        context.wheel.arm(self, context.deadline(self._timeout))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------ to the layer

    def _deliver_soon(self) -> None:
        context = self.connection.context
        if context.config.layer_timeout:
            context.wheel.arm(self, context.deadline(context.config.layer_timeout))
        self._delivery = context.spawn(self._deliver())

    async def _deliver(self) -> None:
        request = self.request
        try:
            body_channel = await self._send_request()
        except (ChannelFull, LayerUnavailable) as error:
            self._note("channel_full" if isinstance(error, ChannelFull) else "layer", 503, str(error))
            self.fail(503, "The service is overloaded.", RETRY_AFTER)
            return
        except MessageTooLarge as error:
            self._note("message_too_large", 413, str(error))
            self.fail(413)
            return
        except Exception:
            logger.exception("%s %s: the request could not be sent", request.method, request.shown)
            self.fail(500)
            return
        if not self._sent:
            return  # its client did not wait
        if not (self.done or self.disconnected):
            self._progress()
        if self.disconnected:
            await self._tell_disconnect()
        if body_channel is not None:
            await self._deliver_body(body_channel)

    async def _send_request(self) -> str | None:
        """Hand the request to the layer; returns the channel for the rest of its body, if there is a rest."""
        request = self.request
        reply = self._reply = self.layer.new_local_channel("http.response")
        self.layer.attach(reply, self._on_message)
        message = envelope_of(self.connection, request)
        message["reply_channel"] = reply
        message["http_version"] = request.version
        message["method"] = request.method
        message["body"], last = self._take()
        body_channel = None
        if not last:
            body_channel = message["body_channel"] = f"http.request.body?{uuid.uuid4().hex}"
        until = self.connection.context.wheel.clock() + self.connection.context.config.channel_full_timeout
        self._sent = await self._lane.send(message, until, self._wanted)
        return body_channel

    def _wanted(self) -> bool:
        return not (self.done or self.disconnected)

    def _note(self, reason: str, status: int, why: str) -> None:
        request = self.request
        self.connection.context.drops.note(reason, f"{request.method} {request.shown}: {status}, {why}")

    def _take(self) -> tuple[bytes, bool]:
        """What waits of the body, ``INLINE_BODY`` bytes at most, and whether it is the last of it."""
        body = b"".join(self._chunks)
        rest = body[INLINE_BODY:]
        self._chunks = [rest] if rest else []
        self._buffered = len(rest)
        if self._buffered < INLINE_BODY:
            self.connection.release(HOLD_BODY)
        return body[:INLINE_BODY], self.body_complete and not rest

    async def _deliver_body(self, channel: str) -> None:
        """Send the rest of a long body in chunks, waiting where the worker lags."""
        last = False
        while not last:
            if self.disconnected or self.done:
                await self._send_chunk(channel, {"closed": True})
                return
            if not self._chunks and not self.body_complete:
                self._waiter = self.connection.context.loop.create_future()
                await self._waiter
                continue
            content, last = self._take()
            await self._send_chunk(channel, {"content": content, "more_content": not last})

    async def _send_chunk(self, channel: str, message: Message) -> None:
        deadline = self.connection.context.loop.time() + self.layer.expiry
        while True:
            try:
                await self.layer.send(channel, message, single_reader=True)
                return
            except (ChannelFull, LayerUnavailable):
                if self.disconnected or self.done:
                    message = {"closed": True}
                    if self.connection.context.loop.time() > deadline:
                        return
                await asyncio.sleep(FULL_DELAY)

    async def _tell_disconnect(self) -> None:
        """The client left before the response was complete (D-16)."""
        try:
            await self.layer.send("http.disconnect", {"reply_channel": self._reply, "path": self.request.path})
        except (ChannelFull, LayerUnavailable) as error:
            logger.debug("http.disconnect of %s is given up: %s", self.request.path, error)

    # ------------------------------------------------------------ from the worker

    def _on_message(self, message: Message) -> None:
        if self.done or self.disconnected:
            return
        self._progress()
        try:
            if ABORT in message:
                self.fail(500)
                return
            if "status" in message:
                if self.started:
                    logger.error("a second response for %s %s is ignored", self.request.method, self.request.path)
                    return
                self.start(message["status"], message.get("headers") or ())
            elif message.keys() == {"type"}:
                return  # on_disconnect or on_reconnect of the layer, which is for applications (D-44)
            elif not self.started:
                if "request" not in message:  # server push, which needs HTTP/2, is dropped
                    logger.error(
                        "a message for %s %s has no status and is ignored", self.request.method, self.request.path
                    )
                return
            self.body(message.get("content") or b"", bool(message.get("more_content", False)))
        except (ValueError, TypeError):
            logger.exception("%s %s: the worker's response is invalid", self.request.method, self.request.path)
            self.fail(500)
