"""Listens, serves and drains: one process, one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Final

from fastchannels.exceptions import UsageError
from fastchannels.server import systemd, threads
from fastchannels.server.access_log import FORMATS, Mask
from fastchannels.server.admin import Admin
from fastchannels.server.asgi_scope import Application
from fastchannels.server.bridge_asgi import AsgiBridge
from fastchannels.server.bridge_channels import ChannelBridge, Layer
from fastchannels.server.config import ActionLogger, Config, Context
from fastchannels.server.drain import drain
from fastchannels.server.endpoints import endpoints_of
from fastchannels.server.http2_frames import INSTALLED
from fastchannels.server.leash import Leash
from fastchannels.server.lifespan import Lifespan
from fastchannels.server.limits import raise_open_files
from fastchannels.server.listeners import UNIX_OPTIONS, Listener, ListenError, close_listeners, open_listeners
from fastchannels.server.protocol import connection_factory
from fastchannels.server.tls import tls_context

logger = logging.getLogger("fastchannels.server")

#: Turns of the loop from a connection in the system's queue to one that is counted.
_ACCEPT_TURNS: Final = 4

__all__ = ["Config", "ListenError", "Server", "new_event_loop"]


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

    It opens what ``config`` names, unless it is given ``listeners``, which stay open elsewhere.

    ``ready`` is called once with the server when it listens. ``action_logger(protocol, action, details)`` is told of
    each complete response and each step of a websocket (server.md section 6), beside the access log of ``config``.
    """

    def __init__(
        self,
        config: Config,
        *,
        application: Application | None = None,
        layer: Layer | None = None,
        listeners: Sequence[Listener] | None = None,
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
        self._given = listeners
        self._listeners: Sequence[Listener] = ()
        self._servers: list[asyncio.AbstractServer] = []
        self._lifespan: Lifespan | None = None
        self._admin: Admin | None = None
        #: Which of several workers this is.
        self._slot: int | None = None
        self._spent: Callable[[], None] = lambda: None
        self._ticker: asyncio.TimerHandle | None = None
        #: Threads of requests are kept.
        self._keeps_threads = False

    # ------------------------------------------------------------ start and stop

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """``(host, port)`` of each TCP socket; a Unix socket is ``(path, 0)``."""
        return [listener.address for listener in self._listeners]

    @property
    def urls(self) -> list[str]:
        """Where the server listens, for a person."""
        return [listener.url for listener in self._listeners]

    async def start(self) -> None:
        """Run the application's lifespan start, then listen. Raises ``ListenError``, or ``UsageError`` when the
        application refuses to start.
        """
        if self._context is not None:
            raise UsageError("the server has been started")
        config = self.config
        context = Context(config, self._open_log())
        context.loop = loop = asyncio.get_running_loop()
        context.spent = self._spent
        self._context = context
        try:
            if self.layer is not None:
                context.bridge = ChannelBridge(context, self.layer)
            else:
                assert self.application is not None
                context.bridge = bridge = AsgiBridge(context, self.application)
                if config.lifespan != "off":
                    self._lifespan = Lifespan(self.application, required=config.lifespan == "on")
                    bridge.state = await self._lifespan.start()
                # By now the application has imported what it is made of.
                self._keeps_threads = threads.install()
            context.wheel.start(loop)
            self._tick()
            if config.admin:
                self._admin = Admin(context, self._slot)
                await self._admin.start()
            self._listeners = self._given or open_listeners(endpoints_of(config))
            await self._listen(context)
        except BaseException:
            await self.stop(0)
            raise
        if self._given is None:
            for url in self.urls:
                logger.info("Listening on %s", url)
        if self.ready is not None:
            self.ready(self)

    async def _listen(self, context: Context) -> None:
        """Accept connections from all sockets."""
        factory = connection_factory(context)
        for listener in self._listeners:
            options: dict[str, Any] = {"sock": listener.sock, "backlog": listener.backlog}
            if listener.tls is not None:
                http2 = INSTALLED and self.config.http2
                options["ssl"] = tls_context(listener.tls, ("h2", "http/1.1") if http2 else ("http/1.1",))
                # There is always a limit here: asyncio's own, where ours is off.
                timeout = self.config.ssl_handshake_timeout
                options["ssl_handshake_timeout"] = timeout if timeout > 0 else None
            if listener.sock.family == getattr(socket, "AF_UNIX", None):
                self._servers.append(await context.loop.create_unix_server(factory, **options, **UNIX_OPTIONS))
            else:
                self._servers.append(await context.loop.create_server(factory, **options))

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
        if self._given is None:
            for listener in self._listeners:
                listener.remove_file()
        if timeout > 0:
            await self._accept_rest(context)
        for server in self._servers:
            server.close()
        if timeout > 0:
            await drain(context, timeout)
        for connection in list(context.connections):
            connection.abort()
        if isinstance(context.bridge, ChannelBridge):
            await context.bridge.finish(5.0 if timeout > 0 else 1.0)
        # A few turns let the transports report their end, and applications hear of it, before these are cancelled.
        for _ in range(4):
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
        close_listeners(self._listeners if self._given is None else ())
        self._listeners = ()
        if self._keeps_threads:
            self._keeps_threads = False
            threads.uninstall()
        if self._admin is not None:
            await self._admin.stop()
            self._admin = None
        context.wheel.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._log_file is not None:
            self._log_file.close()
            self._log_file = None
        self._context = None

    async def _accept_rest(self, context: Context) -> None:
        """Accept what the system holds for us, as it would reset that with our sockets. A turn of uvloop takes one."""
        idle = 0
        for _ in range(self.config.backlog):
            seen = context.gate.accepted
            await asyncio.sleep(0)
            idle = idle + 1 if context.gate.accepted == seen else 0
            if idle == _ACCEPT_TURNS:
                return

    def _tick(self) -> None:
        context = self._context
        assert context is not None
        context.common.refresh()
        context.drops.report()
        if isinstance(context.bridge, ChannelBridge):
            context.bridge.fates.report()
        self._ticker = context.loop.call_later(0.5, self._tick)

    def _open_log(self) -> ActionLogger | None:
        """The action logger of the caller, the access log, or both."""
        config = self.config
        log: ActionLogger | None = None
        if config.access_log == "-":
            log = FORMATS[config.access_log_format](sys.stdout, Mask(config.access_log_mask))
        elif config.access_log:
            try:
                self._log_file = open(config.access_log, "a", buffering=1)  # noqa: SIM115 - closed by stop()
            except OSError as error:
                raise UsageError(f"cannot write the access log {config.access_log}: {error.strerror}") from None
            log = FORMATS[config.access_log_format](self._log_file, Mask(config.access_log_mask))
        other = self._action_logger
        if log is None or other is None:
            return log or other
        first, second = log, other

        def both(protocol: str, action: str, details: dict[str, Any]) -> None:
            first(protocol, action, details)
            second(protocol, action, details)

        return both

    # ------------------------------------------------------------ running as a program

    async def serve(self, install_signals: bool = True, leash: Leash | None = None) -> None:
        """Start, and stop at SIGINT or SIGTERM (D-31): the first drains, a second one stops at once.

        Under a supervisor the ``leash`` says when to stop at once: a process manager may send SIGTERM to each process
        of a service, beside the supervisor's own word.
        """
        loop = asyncio.get_running_loop()
        stopping: asyncio.Future[None] = loop.create_future()
        at_once: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not stopping.done():
                stopping.set_result(None)

        def cut() -> None:
            end()
            if not at_once.done():
                at_once.set_result(None)

        def on_signal() -> None:
            if leash is not None:
                end()
            elif stopping.done():
                cut()
            else:
                logger.info("Stopping; a second signal stops at once")
                end()

        self._slot = None if leash is None else leash.slot
        self._spent = end if leash is None else leash.tell_spent
        with self._signal_handlers(loop, on_signal) if install_signals else contextlib.nullcontext():
            if leash is not None:
                leash.follow(loop, end, cut)
            starting = loop.create_task(self.start())
            try:
                await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    if install_signals:
                        # What the program is made of stays: the collector need not look at it again.
                        gc.collect()
                        gc.freeze()
                    if leash is not None:
                        leash.tell_ready()
                    elif install_signals:
                        systemd.notify("READY=1")
                    await stopping
            finally:
                if not starting.done():
                    starting.cancel()
                    await asyncio.wait((starting,))
                if leash is None and install_signals:
                    systemd.notify("STOPPING=1")
                drained = loop.create_task(self.stop())
                await asyncio.wait((drained, at_once), return_when=asyncio.FIRST_COMPLETED)
                if not drained.done():
                    drained.cancel()
                    await asyncio.wait((drained,))
                    await self.stop(0)
                else:
                    drained.result()

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

    def run(self, leash: Leash | None = None) -> None:
        """Serve in this thread until a signal. Raises what :meth:`start` raises."""
        raise_open_files()
        loop = new_event_loop()
        if self.config.threads is not None:
            loop.set_default_executor(ThreadPoolExecutor(self.config.threads, "fastchannels"))
        try:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(self.serve(leash=leash))
        finally:
            try:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()
