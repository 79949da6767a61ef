"""What a server is told, and what its connections share."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fastchannels._core.http1 import Shared
from fastchannels.server.eager import begin
from fastchannels.server.front import Front
from fastchannels.server.http import CommonHeaders, HttpLimits
from fastchannels.server.limits import Drops, Gate, connection_limit
from fastchannels.server.proxy import TrustedAddresses
from fastchannels.server.stream import log_response
from fastchannels.server.timer import Wheel

if TYPE_CHECKING:
    from fastchannels.server.events import Request
    from fastchannels.server.metrics import Metrics
    from fastchannels.server.protocol import Connection
    from fastchannels.server.stream import Carrier, HttpStream
    from fastchannels.server.websocket_stream import WebSocketStream

#: Called as ``action_logger(protocol, action, details)``; server.md section 6 lists the calls.
ActionLogger = Callable[[str, str, dict[str, Any]], None]


@dataclasses.dataclass(kw_only=True)
class Config:
    """Options of a server. Times are in seconds; ``None`` or a value of 0 or less means no limit (D-30)."""

    # Where to listen; several of these may be given.
    host: str = "127.0.0.1"  #: IPv6 with or without brackets
    port: int | None = 8000  #: 0 picks a free one; ``None`` opens no TCP socket
    uds: str | None = None  #: path of a Unix socket
    uds_mode: int = 0o666  #: its permissions, so that a proxy of another user may connect
    fd: int | None = None  #: number of an inherited, bound socket
    endpoints: Sequence[str] = ()  #: endpoint strings, see endpoints.py
    backlog: int = 2048

    # TLS, for ``host`` and ``port``, ``uds`` and ``fd``.
    ssl_certfile: str | None = None  #: PEM, the certificate and its chain; what makes the server speak TLS
    ssl_keyfile: str | None = None  #: PEM; ``None``: in ``ssl_certfile``
    ssl_keyfile_password: str | None = None
    ssl_ca_certs: str | None = None  #: PEM, who may sign certificates of clients
    ssl_cert_reqs: str = "none"  #: certificates of clients: "none", "optional", "required"
    ssl_ciphers: str | None = None  #: OpenSSL's syntax, for TLS 1.2
    ssl_handshake_timeout: float = 10.0  #: for a client's half of it, then the connection is cut

    # What the application sees.
    root_path: str = ""
    lifespan: str = "auto"  #: "on": a lifespan that fails stops the server; "off": none is run
    threads: int | None = None  #: of the loop's default executor, for synchronous code
    request_buffer_size: int = 64 * 1024  #: bytes of a request body that wait for the application
    proxy_headers: bool = False  #: take client and scheme from what a proxy wrote
    proxy_headers_host: str = "X-Forwarded-For"
    proxy_headers_port: str = "X-Forwarded-Port"
    #: Proxies that are believed: addresses, networks, "unix", "*" (D-59).
    forwarded_allow_ips: Sequence[str] = ("127.0.0.0/8", "::1", "unix")

    # What each response carries.
    server_name: str | None = "fastchannels"  #: the ``Server`` header; ``None`` sends none (D-62)
    date_header: bool = True
    headers: Sequence[tuple[str, str]] = ()  #: further ones

    access_log: str | None = None  #: a path, or "-" for standard output
    access_log_format: str = "daphne"  #: or "json"
    #: Parameters of a query string whose values the access log does not show.
    access_log_mask: Sequence[str] = (
        "access_token", "api_key", "apikey", "auth", "jwt", "key", "passwd", "password", "secret", "session_key",
        "sessionid", "sig", "signature", "ticket", "token",
    )  # fmt: skip

    #: Time without progress of a request (D-33). ``None``: no limit in ASGI mode, 120 s in channel mode.
    http_timeout: float | None = None
    keep_alive_timeout: float = 60.0  #: for the next request
    keep_alive_requests: int = 0  #: of one connection, then it is closed; 0: no limit
    header_timeout: float | None = 20.0  #: for a whole request head, from its first byte, then 408
    body_timeout: float | None = 30.0  #: without a byte of a request's body, then 408
    body_rate: int = 500  #: bytes a second: time that a body takes beyond this counts towards ``body_timeout``
    write_timeout: float | None = 60.0  #: in which a client takes nothing of its response, then it is cut
    application_close_timeout: float = 10.0  #: for an application whose client left, then it is cancelled

    # WebSocket.
    websocket_timeout: float | None = 86400.0  #: life of a socket, then close code 1000
    websocket_connect_timeout: float | None = 5.0  #: for the answer to a handshake, then 403
    websocket_close_timeout: float = 10.0  #: for the client's half of the closing handshake
    ping_interval: float | None = 20.0  #: silence before a ping
    ping_timeout: float | None = 30.0  #: for its pong, then the connection is cut
    ws_max_size: int = 1024 * 1024  #: bytes of one WebSocket message; 0: no limit
    ws_max_frame_size: int = 0  #: bytes of one frame of it; 0: no limit of its own
    ws_per_message_deflate: bool = True  #: compress for clients that offer it
    #: Bytes of messages that wait for a client that reads too slowly, beside what the transport holds; 0: no limit.
    ws_write_budget: int = 1024 * 1024
    #: Past it: ``close`` the socket with 1013, ``drop_oldest`` messages first, or keep only the ``latest``.
    ws_slow_client: str = "close"
    ws_message_rate: int = 50_000  #: messages a second of one socket; past it, it is read no faster; 0: no limit
    ws_byte_rate: int = 256 * 1024 * 1024  #: the same in bytes
    ws_protocols: Sequence[str] = ()  #: subprotocols of channel mode, where consumers cannot choose

    # HTTP/2, where the extra is installed: over TLS by ALPN, in the clear with prior knowledge.
    http2: bool = True
    http2_streams: int = 100  #: requests and sockets at once on one connection
    http2_window: int = 256 * 1024  #: bytes of one request that its application has not read
    http2_connection_window: int = 1024 * 1024  #: and of all requests of a connection
    #: Requests that a client takes back, or that are reset for its faults; a tenth more each second.
    http2_resets: int = 200
    #: Frames without content (PING, SETTINGS, empty DATA ...); a tenth more each second, and some with each response.
    http2_control_frames: int = 1000

    # Processes.
    limit_connections: int | None = None  #: at once; ``None``: what the limit on open files allows; 0: no limit
    limit_per_address: int = 1024  #: connections of an address (IPv6: of a /64) outside ``forwarded_allow_ips``
    limit_concurrency: int | None = None  #: requests and sockets at once, then 503
    limit_max_requests: int | None = None  #: requests and sockets after which the server stops
    graceful_timeout: float = 30.0  #: for running responses and last messages when the server stops
    drain_seconds: float = 0.0  #: over which a stopping server spreads the closing of its websockets
    admin: str | None = None  #: address of metrics and status: port, host:port or path of a Unix socket
    health_path: str | None = None  #: answered by the server: 200, or 503 when it stops

    #: How long a request or a handshake waits for room in its channel, then 503 (channel mode); 0: not at all.
    channel_full_timeout: float = 5.0
    #: For the layer to take a request, then 503 (channel mode, D-41).
    layer_timeout: float | None = 5.0
    #: Without a sign of life of an event's consumer, ask the layer (channel mode).
    ack_timeout: float = 5.0
    limits: HttpLimits = HttpLimits()  # noqa: RUF009 - an immutable tuple


class Bridge(Protocol):
    """Makes the object that answers one request or one socket."""

    def http(self, connection: Carrier, request: Request) -> HttpStream: ...

    def websocket(self, connection: Carrier, request: Request) -> WebSocketStream: ...


class Context(Shared):
    """What all connections of a server share."""

    def __init__(self, config: Config, action_logger: ActionLogger | None = None) -> None:
        self.config = config
        self.root_path = config.root_path
        self.http_timeout = config.http_timeout or 0.0
        self.request_buffer_size = config.request_buffer_size
        self.keep_alive_timeout = config.keep_alive_timeout
        self.wheel = Wheel()
        self.common = CommonHeaders(config.server_name, config.date_header, config.headers)
        self.action_logger = action_logger
        #: Counts what happens, when an admin address tells of it.
        self.metrics: Metrics | None = None
        #: Told of each complete response.
        self.observe: Callable[[HttpStream], None] | None = None
        if action_logger is not None:
            self.observe = functools.partial(log_response, action_logger)
        self.connections: set[Connection] = set()
        #: Applications and senders that run; a task that nobody refers to may vanish.
        self.tasks: set[asyncio.Task[Any]] = set()
        #: Set when the server stops: responses close their connection.
        self.stopping = False
        #: Set whenever something ended while the server stops.
        self.ended = asyncio.Event()
        #: Requests and sockets that are open.
        self.running = 0
        #: Called after ``limit_max_requests``.
        self.spent: Callable[[], None] = lambda: None
        self.drops = Drops()
        trusted = TrustedAddresses(config.forwarded_allow_ips)
        self.gate = Gate(connection_limit(config.limit_connections), config.limit_per_address, trusted, self.drops)
        self._front = Front(config, self, trusted)
        self.front = self._front if self._front.needed else None
        self._held: list[HttpStream] = []

    def deadline(self, seconds: float | None) -> float:
        """The time in ``seconds``; never, for no limit."""
        return self.wheel.clock() + seconds if seconds is not None and seconds > 0 else float("inf")

    def flush_soon(self, stream: HttpStream) -> None:
        """Let the head of ``stream`` leave after this turn of the loop, unless its body takes it along before."""
        if not self._held:
            self.loop.call_soon(self._flush)
        self._held.append(stream)

    def _flush(self) -> None:
        held, self._held = self._held, []
        for stream in held:
            stream.flush()

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run ``coroutine`` as a task that is kept until it ends."""
        task: asyncio.Task[Any] = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def begin(self, coroutine: Any) -> asyncio.Task[Any] | None:
        """Run ``coroutine`` at once; what is left at its first wait becomes a task as of :meth:`spawn`."""
        rest = begin(coroutine)
        return None if rest is None else self.spawn(rest.run())

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self.note_end()

    def measure(self, metrics: Metrics) -> None:
        """Have ``metrics`` count, beside what is told already."""
        self.metrics = metrics
        told, counted = self.observe, metrics.response
        if told is None:
            self.observe = counted
            return
        also = told

        def both(stream: HttpStream) -> None:
            counted(stream)
            also(stream)

        self.observe = both

    def stop(self) -> None:
        """The server stops: responses close their connection, no socket is opened."""
        self.stopping = True
        self.front = self._front

    def note_end(self) -> None:
        """Something ended that a stopping server may wait for."""
        if self.stopping:
            self.ended.set()
