"""The admin address: ``/metrics`` for Prometheus, ``/health``, and a small page for a person at ``/``.

It speaks through the same connections as the server, on an address of its own, so that it is reached when the server
is full or stops, and not from where the clients are.
"""

from __future__ import annotations

import asyncio
import html
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from fastchannels.server.config import Config, Context
from fastchannels.server.endpoints import Endpoint, EndpointError
from fastchannels.server.events import Request
from fastchannels.server.front import Answer, health
from fastchannels.server.http import error_page
from fastchannels.server.listeners import UNIX_OPTIONS, Listener, ListenError, close_listeners, open_listeners
from fastchannels.server.metrics import CONTENT_TYPE, Metrics
from fastchannels.server.protocol import connection_factory
from fastchannels.server.stream import Carrier, HttpStream
from fastchannels.server.websocket_stream import WebSocketStream

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("fastchannels.server")

_BACKLOG: Final = 64
#: Seconds after which a worker tries again to listen.
_AGAIN: Final = 1.0
_METHODS: Final = ("GET", "HEAD")
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset=utf-8><meta http-equiv=refresh content=5><title>fastchannels {state}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:40em}}
table{{border-collapse:collapse;width:100%}}th{{text-align:left;font-weight:normal;color:#555}}
td{{text-align:right;font-variant-numeric:tabular-nums}}tr{{border-bottom:1px solid #ddd}}</style></head>
<body>
<h1>fastchannels {state}</h1>
<table>
{rows}</table>
<p><a href="/metrics">/metrics</a> <a href="/health">/health</a> <a href="/status.json">/status.json</a></p>
</body>
</html>
"""


def _context(served: Context, metrics: Metrics) -> Context:
    """What the connections of the admin address share."""
    context = Context(Config(limit_connections=64, keep_alive_timeout=served.config.keep_alive_timeout))
    context.loop = served.loop
    context.bridge = _AdminBridge(served, metrics)
    return context


class _AdminBridge:
    """Answers by itself; there is no application."""

    def __init__(self, served: Context, metrics: Metrics) -> None:
        self._served = served
        self._metrics = metrics

    def http(self, connection: Carrier, request: Request) -> HttpStream:
        if request.method not in _METHODS:
            return Answer(connection, request, 405, *error_page(405))
        if request.path == "/metrics":
            return _page(connection, request, CONTENT_TYPE, self._metrics.text())
        if request.path == "/health":
            return Answer(connection, request, *health(self._served.stopping))
        if request.path == "/status.json":
            return _page(connection, request, b"application/json", json.dumps(self._status()))
        if request.path == "/":
            status = self._status()
            rows = "".join(_row(name, value) for name, value in _flat(status))
            text = _PAGE.format(state="is draining" if status["stopping"] else "serves", rows=rows)
            return _page(connection, request, b"text/html; charset=utf-8", text)
        return Answer(connection, request, 404, *error_page(404))

    def websocket(self, connection: Carrier, request: Request) -> WebSocketStream:
        return _NoSocket(connection, request)

    def _status(self) -> dict[str, Any]:
        metrics = self._metrics
        status = metrics.snapshot()
        status["latency"] = {"p50": metrics.latency.quantile(0.5), "p99": metrics.latency.quantile(0.99)}
        status["event_loop_lag"] = {"p50": metrics.lag.quantile(0.5), "p99": metrics.lag.quantile(0.99)}
        return status


class _NoSocket(WebSocketStream):
    def begin(self) -> None:
        self.reject(404)


def _page(connection: Carrier, request: Request, kind: bytes, text: str) -> HttpStream:
    body = text.encode()
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(connection, request, 200, headers, body)


def _flat(status: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in status.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}".replace("_", " "), value


def _row(name: str, value: Any) -> str:
    shown = "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
    return f"<tr><th>{html.escape(name)}<td>{html.escape(shown)}\n"


class Admin:
    """Listens at ``config.admin``. Of several workers, the one in ``slot`` has the port, or path, so much further on.

    Raises ``ListenError`` when it cannot listen; a worker tries again instead, for the one before it may still drain.
    """

    def __init__(self, served: Context, slot: int | None = None) -> None:
        self._served = served
        self._slot = slot
        self.metrics = Metrics(served)
        served.measure(self.metrics)
        self._context = _context(served, self.metrics)
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._trying: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """``(host, port)``; a Unix socket is ``(path, 0)``."""
        return [listener.address for listener in self._listeners]

    async def start(self) -> None:
        """Listen."""
        self._context.wheel.start(self._context.loop)
        if self._slot is None:
            await self._listen()
        else:
            self._trying = self._context.loop.create_task(self._try())

    async def stop(self) -> None:
        """Close all connections; nothing is waited for."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait((self._trying,))
        self.metrics.stop()
        for listener in self._listeners:
            listener.remove_file()
        for server in self._servers:
            server.close()
        for connection in list(self._context.connections):
            connection.abort()
        await asyncio.sleep(0)
        for server in self._servers:
            await server.wait_closed()
        close_listeners(self._listeners)
        self._context.wheel.stop()

    async def _listen(self) -> None:
        endpoint = admin_endpoint(str(self._served.config.admin), self._slot or 0)
        self._listeners = open_listeners([endpoint])
        factory = connection_factory(self._context)
        loop = self._context.loop
        for listener in self._listeners:
            if endpoint.path:
                server = await loop.create_unix_server(factory, sock=listener.sock, **UNIX_OPTIONS)
            else:
                server = await loop.create_server(factory, sock=listener.sock)
            self._servers.append(server)
            logger.info("Admin on %s", listener.url)

    async def _try(self) -> None:
        told = False
        while True:
            try:
                return await self._listen()
            except ListenError as error:
                if not told:
                    logger.info("the admin address waits: %s", error)
                    told = True
            await asyncio.sleep(_AGAIN)


def admin_endpoint(text: str, slot: int = 0) -> Endpoint:
    """A port of the loopback, host:port, or the path of a Unix socket. Raises ``EndpointError`` for anything else."""
    host, _, port = text.rpartition(":")
    if "/" in text:
        return Endpoint(path=f"{text}.{slot}" if slot else text, mode=0o600, backlog=_BACKLOG)
    if not port.isdigit() or int(port) + slot > 65535:
        raise EndpointError(f"admin: {text!r} is neither a port, host:port nor the path of a Unix socket")
    number = int(port) + slot if int(port) else 0
    return Endpoint(host=host.strip("[]") or "127.0.0.1", port=number, backlog=_BACKLOG)
