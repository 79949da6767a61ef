"""Runs an ASGI 3 application for each request and each socket (ASGI HTTP & WebSocket 2.5)."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastchannels.exceptions import ClientDisconnected
from fastchannels.server.config import Context
from fastchannels.server.events import Request
from fastchannels.server.http import CONTINUE
from fastchannels.server.protocol import Connection
from fastchannels.server.stream import HOLD_BODY, HOLD_SOCKET, HttpStream
from fastchannels.server.timer import Timed
from fastchannels.server.websocket_stream import WebSocketStream

Message = dict[str, Any]
Application = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

logger = logging.getLogger("fastchannels.server")

#: Bytes of a request body that wait for the application before the connection stops being read.
BODY_WINDOW: Final = 64 * 1024
#: Frames, and bytes in them, that wait for the application.
FRAMES_WINDOW: Final = 32
FRAMES_BYTES: Final = 64 * 1024
#: Seconds for which messages to a client that has left are dropped before ``send`` raises. A Channels 4 consumer may be
#: handling group messages when its client leaves; an exception there would end it without its ``disconnect``.
SEND_GRACE: Final = 1.0

_SPEC_VERSION: Final = "2.5"


def _scope(connection: Connection, request: Request, kind: str, state: dict[str, Any] | None) -> dict[str, Any]:
    secure = connection.scheme == "https"
    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": _SPEC_VERSION},
        "http_version": request.version,
        "scheme": connection.scheme if kind == "http" else ("wss" if secure else "ws"),
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": connection.context.config.root_path if request.root_path is None else request.root_path,
        "headers": request.headers,
        "client": connection.client,
        "server": connection.server,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


class AsgiBridge:
    """Makes the streams that run ``application``. ``state`` is set when its lifespan has started."""

    def __init__(self, context: Context, application: Application) -> None:
        self.context = context
        self.application = application
        self.state: dict[str, Any] | None = None

    def http(self, connection: Connection, request: Request) -> HttpStream:
        return AsgiHttp(connection, request, self)

    def websocket(self, connection: Connection, request: Request) -> WebSocketStream:
        return AsgiWebSocket(connection, request, self)


class _Reaper(Timed):
    """Cancels an application that goes on after its client left."""

    __slots__ = ("task", "what")

    def __init__(self, context: Context, task: asyncio.Task[None], what: str) -> None:
        super().__init__()
        self.task = task
        self.what = what
        context.wheel.arm(self, context.deadline(context.config.application_close_timeout))
        task.add_done_callback(lambda _: context.wheel.disarm(self))

    def expired(self, now: float) -> None:
        logger.warning("%s: the application goes on after its client left and is cancelled", self.what)
        self.task.cancel()


def _describe(connection: Connection, request: Request) -> str:
    kind = "websocket" if request.websocket else request.method
    return f"{kind} {request.shown} of {connection.client_name}"


async def wait(context: Context, waiters: list[asyncio.Future[None]]) -> None:
    """Wait for ``wake``. Each caller has a future of its own: cancelling one leaves the others."""
    waiter = context.loop.create_future()
    waiters.append(waiter)
    await waiter


def wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()


def _as_bytes(value: Any, what: str) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"{what}: bytes are needed, not {type(value).__name__}")
    return bytes(value)


class AsgiHttp(HttpStream):
    """One request, answered by a run of the application."""

    #: The application has not been given the end of the body.
    _more = True
    _buffered = 0

    def __init__(self, connection: Connection, request: Request, bridge: AsgiBridge) -> None:
        super().__init__(connection, request)
        self.bridge = bridge
        self._chunks: list[bytes] = []
        self._continue = request.expect_continue and not request.complete
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
        scope = _scope(self.connection, self.request, "http", self.bridge.state)
        scope["method"] = self.request.method
        try:
            await self.bridge.application(scope, self.receive, self.send)
        except ClientDisconnected:
            pass  # it told the application so itself (ASGI 2.4)
        except asyncio.CancelledError:
            self.fail(500)
            raise
        except Exception:
            logger.exception("%s: the application raised", _describe(self.connection, self.request))
            self.fail(500)
        else:
            if not (self.done or self.disconnected):
                logger.error(
                    "%s: the application returned without %s",
                    _describe(self.connection, self.request),
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
        if self._buffered > BODY_WINDOW:
            self.connection.hold(HOLD_BODY)
        self._progress()
        self._wake()

    def on_body_end(self) -> None:
        self._wake()

    def on_end(self) -> None:
        if self._timeout:
            self.connection.context.wheel.disarm(self)
        if self.disconnected and self._task is not None and not self._task.done():
            _Reaper(self.connection.context, self._task, _describe(self.connection, self.request))
        if self._waiters:
            wake(self._waiters)

    def expired(self, now: float) -> None:
        logger.warning("%s: no progress for %s s", _describe(self.connection, self.request), self._timeout)
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
            if self._continue and self._more:
                self._continue = False
                if not self.started:
                    self.connection.write(CONTINUE)
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
                body = _as_bytes(body, "body of a response")
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


class AsgiWebSocket(WebSocketStream):
    """One socket, served by a run of the application."""

    __slots__ = ("_bytes", "_denial", "_ended", "_inbox", "_left_at", "_task", "_waiters", "bridge")

    def __init__(self, connection: Connection, request: Request, bridge: AsgiBridge) -> None:
        super().__init__(connection, request)
        self.bridge = bridge
        self._inbox: deque[Message] = deque(({"type": "websocket.connect"},))
        #: When the socket ended.
        self._left_at = math.inf
        self._bytes = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        #: The response in place of a socket, while it is being sent.
        self._denial: HttpStream | None = None
        #: The application sent ``websocket.close`` to an open socket.
        self._ended = False

    def begin(self) -> None:
        self._task = self.connection.context.spawn(self._run())

    async def _run(self) -> None:
        scope = _scope(self.connection, self.request, "websocket", self.bridge.state)
        scope["subprotocols"] = self.subprotocols
        scope["extensions"] = {"websocket.http.response": {}}
        try:
            await self.bridge.application(scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            self._give_up()
            raise
        except Exception:
            logger.exception("%s: the application raised", _describe(self.connection, self.request))
            self._give_up()
        else:
            if not (self.closing or self.closed):
                logger.error(
                    "%s: the application returned without %s",
                    _describe(self.connection, self.request),
                    "closing its socket" if self.accepted else "answering",
                )
                self._give_up()

    def _give_up(self) -> None:
        if self.accepted:
            self.close(1011)
        elif self._denial is not None:
            self._denial.fail(500)
        else:
            self.reject(500)

    # ------------------------------------------------------------ from the connection

    def on_text(self, text: str) -> None:  # HOT: ws echo
        self._bytes += len(text)
        self._put({"type": "websocket.receive", "text": text})

    def on_binary(self, data: bytes) -> None:
        self._bytes += len(data)
        self._put({"type": "websocket.receive", "bytes": data})

    def on_close(self, code: int, reason: str) -> None:
        self._left_at = self.connection.context.wheel.clock()
        self._inbox.append({"type": "websocket.disconnect", "code": code, "reason": reason})
        wake(self._waiters)
        if self._task is not None and not self._task.done():
            _Reaper(self.connection.context, self._task, _describe(self.connection, self.request))

    def _put(self, message: Message) -> None:
        inbox = self._inbox
        inbox.append(message)
        if len(inbox) >= FRAMES_WINDOW or self._bytes > FRAMES_BYTES:
            self.connection.hold(HOLD_SOCKET)
        if self._waiters:
            wake(self._waiters)

    # ------------------------------------------------------------ for the application

    async def receive(self) -> Message:  # HOT: ws echo
        """The next event of the socket; after ``websocket.disconnect``, the last one, it waits for ever."""
        inbox = self._inbox
        while not inbox:
            await wait(self.connection.context, self._waiters)
        message = inbox.popleft()
        if not inbox:
            self._bytes = 0
            self.connection.release(HOLD_SOCKET)
        return message

    async def send(self, message: Message) -> None:  # HOT: ws echo
        """Take a message of the application. Waits while the client reads too slowly.

        Raises ``ClientDisconnected`` when the client left more than ``SEND_GRACE`` seconds ago, ``ValueError`` or
        ``TypeError`` for a message that does not belong here, ``RuntimeError`` after the application's own end.
        """
        kind = message.get("type")
        if self.closing or self.closed or not self.accepted:
            self._send_unusual(kind, message)
        elif kind == "websocket.send":
            text = message.get("text")
            data = message.get("bytes")
            if text is not None and data is None:
                self.send_text(text)
            elif data is not None and text is None:
                self.send_binary(data if type(data) is bytes else _as_bytes(data, "bytes of a frame"))
            else:
                raise ValueError("websocket.send needs one of text and bytes")
        elif kind == "websocket.close":
            code = message.get("code", 1000)
            self.close(1000 if code is None else code, message.get("reason") or "")
            self._ended = True
        elif kind == "websocket.accept":
            raise ValueError("websocket.accept twice")
        else:
            raise ValueError(f"message type {kind!r}: websocket.send and websocket.close go to an open socket")
        if self.connection.write_paused:
            await self.connection.drain()

    def _send_unusual(self, kind: Any, message: Message) -> None:
        """Messages before the accept and after the end."""
        what = _describe(self.connection, self.request)
        if self.closed or (self.closing and not self._ended):
            if self.connection.context.wheel.clock() - self._left_at >= SEND_GRACE:
                raise ClientDisconnected(f"{what}: the client left")
            return
        if self._denial is not None and kind == "websocket.http.response.body":
            self._denial.body(
                _as_bytes(message.get("body", b""), "body of a response"), message.get("more_body", False)
            )
        elif self.closing or self._denial is not None:
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
