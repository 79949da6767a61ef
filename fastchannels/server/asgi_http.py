"""One request, answered by a run of the application (ASGI HTTP 2.5): what happens beside the usual."""

from __future__ import annotations

import logging
from typing import Any

from fastchannels._core.exchange import Exchange
from fastchannels.exceptions import ClientDisconnected
from fastchannels.server.asgi_scope import Message, Reaper, as_bytes, describe
from fastchannels.server.http import CHUNKED, encode_trailers
from fastchannels.server.sendfile import open_for_sending, send_file
from fastchannels.server.stream import HttpStream

logger = logging.getLogger("fastchannels.server")


class AsgiHttp(Exchange, HttpStream):
    """One request, answered by a run of the application."""

    __slots__ = ("_trailers", "_wants_trailers")

    # ------------------------------------------------------------ the end of the application

    def raised(self, error: Exception) -> None:
        logger.error("%s: the application raised", describe(self.connection, self.request), exc_info=error)
        self.fail(500)

    def returned_early(self) -> None:
        logger.error(
            "%s: the application returned without %s",
            describe(self.connection, self.request),
            "completing its response" if self.started else "answering",
        )
        self.fail(500)

    def settle(self) -> None:
        """All is over between the client and us: no time-out, and none left who does not know."""
        context = self.connection.context
        if self.timeout:
            context.wheel.disarm(self)
        if self.disconnected and self.task is not None and not self.task.done():
            Reaper(context, self.task, describe(self.connection, self.request))

    # ------------------------------------------------------------ time

    def progress(self) -> None:
        context = self.connection.context
        context.wheel.arm(self, context.deadline(self.timeout))

    def expired(self, now: float) -> None:
        logger.warning("%s: no progress for %s s", describe(self.connection, self.request), self.timeout)
        begun = self.begun
        self.fail(503, "The application did not answer in time.")
        if not begun:
            self.disconnected = True  # for the application, whose answer nobody waits for
            self.on_end()

    # ------------------------------------------------------------ for the application

    async def next_message(self) -> Message:
        """Wait for what ``receive`` gives."""
        message: Message | None = None
        while message is None:
            if self.waits_for_continue and self._more:
                self.waits_for_continue = False
                if not self.started:
                    self.inform(100, [])
            # Each caller has a future of its own: cancelling one leaves the others.
            waiter = self.connection.context.loop.create_future()
            if self.waiters is None:
                self.waiters = []
            self.waiters.append(waiter)
            await waiter
            message = self.poll()
        return message

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent."""
        await self.connection.drain()
        self._check_client()

    def _check_client(self) -> None:
        if self.disconnected:
            raise ClientDisconnected(f"{self.request.method} {self.request.shown}: the client left")

    def as_bytes(self, body: Any) -> bytes:
        return as_bytes(body, "body of a response")

    def refuse(self, kind: str) -> None:
        """Raise what is wrong with a message of this type now."""
        self._check_client()
        if kind == "http.response.start":
            raise ValueError("http.response.start twice")
        if not self.started:
            raise ValueError(f"{kind} before http.response.start")
        raise RuntimeError(f"{kind} after the response was complete")

    async def send_other(self, message: Message) -> None:
        """Take a message of one of the extensions."""
        kind = message.get("type")
        extensions = self.connection.extensions
        if kind == "http.response.early_hint" and kind in extensions:
            self._check_client()
            if self.body_over:
                self.refuse(kind)
            self.inform(103, [(b"link", link) for link in message.get("links", ())])
        elif kind == "http.response.trailers":
            self._take_trailers(message)
        elif kind == "http.response.pathsend" and kind in extensions:
            await self._send_path(message["path"])
        elif kind == "http.response.zerocopysend" and kind in extensions:
            self._check_body(kind)
            more = message.get("more_body", False)
            file = message["file"]
            fd = file if isinstance(file, int) else file.fileno()
            await send_file(self, fd, message.get("offset"), message.get("count"), more)
        else:
            raise ValueError(f"message type {kind!r}: http.response.start and http.response.body answer a request")

    def _check_body(self, kind: str) -> None:
        if not self.started or self.body_over or self.disconnected:
            self.refuse(kind)

    async def _send_path(self, path: str) -> None:
        self._check_body("http.response.pathsend")
        if self.begun:
            raise ValueError("http.response.pathsend after a piece of the body")
        with open_for_sending(path) as file:
            await send_file(self, file.fileno(), 0, None, False)

    # ------------------------------------------------------------ trailers

    def expect_trailers(self) -> None:
        """The application will send trailers; they leave only if the client takes them and chunks frame the body."""
        self._wants_trailers = True
        self._trailers: list[tuple[bytes, bytes]] = []
        self.trailers = self.request.te_trailers and self.framing == CHUNKED

    def _take_trailers(self, message: Message) -> None:
        self._check_client()
        if not getattr(self, "_wants_trailers", False):
            raise ValueError("http.response.trailers without trailers in http.response.start")
        if not self.body_over:
            raise ValueError("http.response.trailers before the end of the body")
        trailers = [*self._trailers, *((name, value) for name, value in message.get("headers", ()))]
        end = encode_trailers(trailers)
        self._trailers = trailers
        if not message.get("more_trailers", False):
            self._wants_trailers = False
            if self.trailers:
                self.trailers = False
                self.connection.end_chunks(self, end)
