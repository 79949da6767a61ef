"""Listens, serves and drains: one process, one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

from fastchannels.exceptions import UsageError
from fastchannels.server.access_log import AccessLog
from fastchannels.server.asgi_scope import Application
from fastchannels.server.bridge_asgi import AsgiBridge
from fastchannels.server.bridge_channels import ChannelBridge, Layer
from fastchannels.server.config import ActionLogger, Config, Context
from fastchannels.server.drain import drain
from fastchannels.server.lifespan import Lifespan
from fastchannels.server.protocol import connection_factory

logger = logging.getLogger("fastchannels.server")

__all__ = ["Config", "ListenError", "Server", "new_event_loop"]


class ListenError(UsageError):
    """The server cannot listen where it was told to; the message is one line for a person."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop loop where that is installed, otherwise one of asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Server:
    """Serves ``application`` (ASGI 3), or ``layer`` in channel mode; exactly one of them is given.

    ``ready`` is called once with the server when it listens. ``action_logger(protocol, action, details)`` is told of
    each complete response and each step of a websocket (server.md section 6), beside the access log of ``config``.
    """

    def __init__(
        self,
        config: Config,
        *,
        application: Application | None = None,
        layer: Layer | None = None,
        action_logger: ActionLogger | None = None,
        ready: Callable[[Server], None] | None = None,
    ) -> None:
        if (application is None) == (layer is None):
            raise UsageError("a server needs an application or a layer, and not both")
        self.config = config
        self.application = application
        self.layer = layer
        self.ready = ready
        self._action_logger = action_logger
        self._log_file: IO[str] | None = None
        self._context: Context | None = None
        self._servers: list[asyncio.AbstractServer] = []
        self._lifespan: Lifespan | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._unix_inode: tuple[int, int] | None = None
        self._signals: list[signal.Signals] = []

    # ------------------------------------------------------------ start and stop

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """``(host, port)`` of each TCP socket; a Unix socket is ``(path, 0)``."""
        found: list[tuple[str, int]] = []
        for server in self._servers:
            for sock in server.sockets:  # type: ignore[attr-defined]
                name = sock.getsockname()
                found.append((name[0], name[1]) if isinstance(name, tuple) else (name, 0))
        return found

    @property
    def urls(self) -> list[str]:
        """Where the server listens, for a person."""
        return [
            f"unix:{host}" if not port else f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            for host, port in self.addresses
        ]

    async def start(self) -> None:
        """Run the application's lifespan start, then listen. Raises ``ListenError``, or ``UsageError`` when the
        application refuses to start.
        """
        if self._context is not None:
            raise UsageError("the server has been started")
        config = self.config
        context = Context(config, self._open_log())
        context.loop = loop = asyncio.get_running_loop()
        if self.layer is not None:
            context.bridge = ChannelBridge(context, self.layer)
        else:
            assert self.application is not None
            bridge = AsgiBridge(context, self.application)
            context.bridge = bridge
            self._lifespan = Lifespan(self.application)
            bridge.state = await self._lifespan.start()
        self._context = context
        context.wheel.start(loop)
        self._tick()
        try:
            factory = connection_factory(context)
            for sock in self._bind():
                if sock.family == getattr(socket, "AF_UNIX", None):
                    self._servers.append(await loop.create_unix_server(factory, sock=sock, backlog=config.backlog))
                else:
                    self._servers.append(await loop.create_server(factory, sock=sock, backlog=config.backlog))
        except BaseException:
            await self.stop(0)
            raise
        for url in self.urls:
            logger.info("Listening on %s", url)
        if self.ready is not None:
            self.ready(self)

    async def stop(self, graceful_timeout: float | None = None) -> None:
        """Stop listening, close websockets with 1012, let responses and last messages finish, then cut the rest.

        ``graceful_timeout`` seconds at most after the last websocket was told, those of the configuration when left
        out; with 0, nobody is waited for.
        """
        context = self._context
        if context is None:
            return
        timeout = self.config.graceful_timeout if graceful_timeout is None else graceful_timeout
        context.stop()
        for server in self._servers:
            server.close()
        self._remove_unix_socket()
        if timeout > 0:
            await drain(context, timeout)
        for connection in list(context.connections):
            connection.abort()
        if isinstance(context.bridge, ChannelBridge):
            await context.bridge.finish(5.0 if timeout > 0 else 1.0)
        # One turn lets the transports report their end before the tasks that depend on them are cancelled.
        await asyncio.sleep(0)
        if tasks := list(context.tasks):
            logger.warning("cancelling %d running tasks", len(tasks))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=self.config.application_close_timeout if timeout > 0 else 1.0)
        if self._lifespan is not None:
            try:
                await asyncio.wait_for(self._lifespan.stop(), timeout if timeout > 0 else 1.0)
            except asyncio.TimeoutError:
                logger.error("the application's lifespan shutdown does not end")
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        context.wheel.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None
        self._context = None

    def _tick(self) -> None:
        context = self._context
        assert context is not None
        context.common.refresh()
        self._ticker = context.loop.call_later(0.5, self._tick)

    # ------------------------------------------------------------ sockets

    def _bind(self) -> list[socket.socket]:
        config = self.config
        sockets: list[socket.socket] = []
        try:
            if config.fd is not None:
                sockets.append(self._inherit(config.fd))
            if config.uds is not None:
                sockets.append(self._bind_unix(config.uds))
            if config.port is not None:
                sockets.extend(self._bind_tcp(config.host, config.port))
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        if not sockets:
            raise ListenError("nothing to listen on: give a port, a Unix socket or a file descriptor")
        for sock in sockets:
            sock.setblocking(False)
        return sockets

    def _inherit(self, fd: int) -> socket.socket:
        try:
            return socket.socket(fileno=os.dup(fd))
        except OSError as error:
            raise ListenError(f"cannot listen on file descriptor {fd}: {error.strerror}") from error

    def _bind_unix(self, path: str) -> socket.socket:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
                os.unlink(path)  # left by a server that was killed
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(path)
        except OSError as error:
            sock.close()
            raise ListenError(f"cannot listen on {path}: {error.strerror}") from error
        status = os.stat(path)
        self._unix_inode = (status.st_dev, status.st_ino)
        return sock

    def _remove_unix_socket(self) -> None:
        """Remove our socket file, unless another server has put its own there."""
        path = self.config.uds
        if path is None or self._unix_inode is None:
            return
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            if (status.st_dev, status.st_ino) == self._unix_inode:
                os.unlink(path)
        self._unix_inode = None

    def _bind_tcp(self, host: str, port: int) -> list[socket.socket]:
        host = host.strip("[]")
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise ListenError(f"cannot listen on {where}: {error.strerror}") from error
        sockets: list[socket.socket] = []
        for family, kind, proto, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            try:
                if os.name == "posix":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(self.config.backlog)
            except OSError as error:
                for opened in sockets:
                    opened.close()
                raise ListenError(f"cannot listen on {where}: {error.strerror}") from error
            if port == 0:
                break  # further families would get other ports
        return sockets

    def _open_log(self) -> ActionLogger | None:
        """The action logger of the caller, the access log, or both."""
        log: ActionLogger | None = None
        if self.config.access_log == "-":
            log = AccessLog(sys.stdout)
        elif self.config.access_log:
            self._log_file = open(self.config.access_log, "a", buffering=1)  # noqa: SIM115 - closed by stop()
            log = AccessLog(self._log_file)
        other = self._action_logger
        if log is None or other is None:
            return log or other
        first, second = log, other

        def both(protocol: str, action: str, details: dict[str, Any]) -> None:
            first(protocol, action, details)
            second(protocol, action, details)

        return both

    # ------------------------------------------------------------ running as a program

    async def serve(self, install_signals: bool = True) -> None:
        """Start, and stop at SIGINT or SIGTERM (D-31): the first drains, a second one stops at once."""
        loop = asyncio.get_running_loop()
        stopping: asyncio.Future[None] = loop.create_future()
        at_once: asyncio.Future[None] = loop.create_future()

        def on_signal() -> None:
            if not stopping.done():
                logger.info("Stopping; a second signal stops at once")
                stopping.set_result(None)
            elif not at_once.done():
                at_once.set_result(None)

        with self._signal_handlers(loop, on_signal) if install_signals else contextlib.nullcontext():
            await self.start()
            try:
                await stopping
            finally:
                drain = loop.create_task(self.stop())
                await asyncio.wait((drain, at_once), return_when=asyncio.FIRST_COMPLETED)
                if not drain.done():
                    drain.cancel()
                    await asyncio.wait((drain,))
                    await self.stop(0)
                else:
                    drain.result()

    @contextlib.contextmanager
    def _signal_handlers(self, loop: asyncio.AbstractEventLoop, on_signal: Callable[[], None]) -> Iterator[None]:
        if sys.platform == "win32":  # its loops take no signal handlers
            previous = [
                (number, signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_signal)))
                for number in (signal.SIGINT, signal.SIGTERM)
            ]
            try:
                yield
            finally:
                for number, handler in previous:
                    signal.signal(number, handler)
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def run(self) -> None:
        """Serve in this thread until a signal. Raises what :meth:`start` raises."""
        loop = new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self.serve())
        finally:
            try:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()


def _answers(path: str) -> bool:
    """A server listens on the Unix socket ``path``."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True
