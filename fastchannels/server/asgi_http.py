"""One HTTP request, answered by a run of the application (ASGI HTTP 2.5)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from fastchannels.exceptions import ClientDisconnected
from fastchannels.server.asgi_scope import Message, Reaper, as_bytes, describe, make_scope, wait, wake
from fastchannels.server.events import Request
from fastchannels.server.stream import HOLD_BODY, Carrier, HttpStream

if TYPE_CHECKING:
    from fastchannels.server.bridge_asgi import AsgiBridge

logger = logging.getLogger("fastchannels.server")


class AsgiHttp(HttpStream):
    """One request, answered by a run of the application."""

    #: The application has not been given the end of the body.
    _more = True
    _buffered = 0

    def __init__(self, connection: Carrier, request: Request, bridge: AsgiBridge) -> None:
        super().__init__(connection, request)
        self.bridge = bridge
        self._chunks: list[bytes] = []
        self.waits_for_continue = request.expect_continue and not request.complete
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._timeout = connection.context.config.http_timeout

    def begin(self) -> None:
        context = self.connection.context
        if self._timeout:
            context.wheel.arm(self, context.deadline(self._timeout))
        self._task = task = context.loop.create_task(self._run())
        context.tasks.add(task)

    async def _run(self) -> None:  # HOT: http hello
        scope = make_scope(self.connection, self.request, "http", self.bridge.state)
        scope["method"] = self.request.method
        try:
            await self.bridge.application(scope, self.receive, self.send)
        except ClientDisconnected:
            pass  # it told the application so itself (ASGI 2.4)
        except asyncio.CancelledError:
            self.fail(500)
            raise
        except Exception:
            logger.exception("%s: the application raised", describe(self.connection, self.request))
            self.fail(500)
        else:
            if not (self.done or self.disconnected):
                logger.error(
                    "%s: the application returned without %s",
                    describe(self.connection, self.request),
                    "completing its response" if self.started else "answering",
                )
                self.fail(500)
        finally:
            # Here and not in a callback of the task, which would cost a turn of the loop.
            if self._task is not None:
                self.connection.context.tasks.discard(self._task)
            self.connection.context.note_end()

    # ------------------------------------------------------------ from the connection

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered > self.connection.context.config.request_buffer_size:
            self.connection.hold(HOLD_BODY)
        self._progress()
        self._wake()

    def on_body_end(self) -> None:
        self._wake()

    def on_end(self) -> None:
        if self._timeout:
            self.connection.context.wheel.disarm(self)
        if self.disconnected and self._task is not None and not self._task.done():
            Reaper(self.connection.context, self._task, describe(self.connection, self.request))
        if self._waiters:
            wake(self._waiters)

    def expired(self, now: float) -> None:
        logger.warning("%s: no progress for %s s", describe(self.connection, self.request), self._timeout)
        begun = self.begun
        self.fail(503, "The application did not answer in time.")
        if not begun:
            self.disconnected = True  # for the application, whose answer nobody waits for
            self.on_end()

    def _progress(self) -> None:
        if self._timeout:
            context = self.connection.context
            context.wheel.arm(self, context.deadline(self._timeout))

    def _wake(self) -> None:
        if self._waiters:
            wake(self._waiters)

    # ------------------------------------------------------------ for the application

    async def receive(self) -> Message:
        """``http.request`` until the body is complete, then ``http.disconnect`` when all is over (D-60)."""
        while True:
            if self._more and (self._chunks or self.body_complete):
                body = b"".join(self._chunks)
                self._chunks.clear()
                if self._buffered:
                    self._buffered = 0
                    self.connection.release(HOLD_BODY)
                self._more = not self.body_complete
                return {"type": "http.request", "body": body, "more_body": self._more}
            if self.disconnected or self.done:
                return {"type": "http.disconnect"}
            if self.waits_for_continue and self._more:
                self.waits_for_continue = False
                if not self.started:
                    self.inform(100, [])
            await wait(self.connection.context, self._waiters)

    async def send(self, message: Message) -> None:  # HOT: http hello
        """Take a message of the application. Waits while the client reads too slowly.

        Raises ``ClientDisconnected`` when the client left (D-58), ``ValueError`` or ``TypeError`` for a message that
        does not belong here.
        """
        kind = message.get("type")
        if kind == "http.response.body":
            if self.disconnected:
                raise ClientDisconnected(f"{self.request.method} {self.request.shown}: the client left")
            if not self.started:
                raise ValueError("http.response.body before http.response.start")
            if self.done:
                raise RuntimeError("http.response.body after the response was complete")
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = as_bytes(body, "body of a response")
            self.body(body, message.get("more_body", False))
            if self._timeout and not self.done:
                self._progress()
            if self.connection.write_paused:
                await self.connection.drain()
                if self.disconnected:
                    raise ClientDisconnected(f"{self.request.method} {self.request.shown}: the client left")
        elif kind == "http.response.start":
            if self.disconnected:
                raise ClientDisconnected(f"{self.request.method} {self.request.shown}: the client left")
            if self.started:
                raise ValueError("http.response.start twice")
            if "status" not in message:
                raise ValueError("http.response.start without a status")
            self.start(message["status"], message.get("headers", ()))
            # The first piece of the body normally follows at once and takes the head along.
            self.connection.context.flush_soon(self)
        else:
            raise ValueError(f"message type {kind!r}: http.response.start and http.response.body answer a request")
