"""Redis on an event loop: one socket, and the pipelined link for commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

import hiredis

from fastchannels._core.outbox import Batch, Outbox, Route
from fastchannels._core.wake import Waiter
from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.outage import (
    NOT_RUN,
    Attempts,
    Outage,
    ProtocolBroken,
    ReplyError,
    refused,
    require_master,
)
from fastchannels.layers.redis.places import ASK_TIMEOUT, Place, misplaced, probes
from fastchannels.layers.redis.scripts import ALL, Script

Argument: TypeAlias = "str | bytes | int | float"
Sink: TypeAlias = Callable[[Any], None]
T = TypeVar("T")

_MORE: Final = object()
#: Messages, and bytes of them, that one script call takes (MOST in common.lua). A call that has them leaves at once:
#: Redis works on it while the rest of the turn goes on here, and the senders come back in parts.
BATCH_MESSAGES: Final = 128
BATCH_BYTES: Final = 1 << 20
#: Bytes that one read takes. A connection keeps a buffer of that size: a fresh one for each read would be as large.
READ_SIZE: Final = 65_536
#: Seconds before an attempt to connect that is to end is told so again.
ONCE_MORE: Final = 0.1
#: How often in ``reconnect_timeout`` a silent connection is looked at; it may stay silent for one look longer.
LOOKS: Final = 5


def pack(*command: Argument) -> bytes:
    """One command in RESP."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


def new_reader() -> Any:
    """A RESP parser whose ``gets()`` gives ``_MORE`` until a reply is whole."""
    return hiredis.Reader(protocolError=ProtocolBroken, replyError=ReplyError, notEnoughData=_MORE)


def is_whole(reply: Any) -> bool:
    """Whether ``gets()`` of :func:`new_reader` gave a reply."""
    return reply is not _MORE


def tune(sock: socket.socket) -> None:
    """Send at once, and notice a vanished peer within half a minute without sending commands."""
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class Connection(asyncio.BufferedProtocol):
    """One socket. ``on_reply`` is called for each reply in order, ``on_lost`` once when the socket is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self.on_reply: Sink = lambda reply: None
        self.on_lost: Callable[[Exception], None] = lambda error: None
        self.lost = False
        #: Redis closed the connection: all that it had written has come.
        self.finished = False
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._parser = new_reader()
        self._buffer = bytearray(READ_SIZE)
        # asyncio's TLS writes each further record into a slice: that of a bytearray is a copy, and the record was lost.
        self._view = memoryview(self._buffer)
        self._broken: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def cut(self, error: Exception) -> None:
        """:meth:`abort` from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(self.abort, error)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    # HOT: benchmarks/layers.py
    def buffer_updated(self, count: int) -> None:
        parser = self._parser
        try:
            parser.feed(self._buffer, 0, count)
            while (reply := parser.gets()) is not _MORE:
                self.on_reply(reply)
        except Exception as error:
            # Not RESP, or not what was asked for: whose replies the next ones are is unknown.
            if not isinstance(error, ProtocolBroken):
                error = ProtocolBroken(f"{type(error).__name__}: {error}")
            self.abort(error)

    @property
    def torn(self) -> bool:
        """The bytes that came end in the middle of a reply."""
        return bool(self._parser.has_data())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.finished = exc is None and self._broken is None
        self.on_lost(self._broken or exc or ConnectionResetError("Redis closed the connection"))
        self.on_reply = self.on_lost = lambda _: None

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; ``on_lost`` follows."""
        self._broken = self._broken or error
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """Close the file descriptor alone: the loop is another process's, or closed."""
        self.lost = True
        self.on_reply = self.on_lost = lambda _: None
        with contextlib.suppress(OSError):
            # Detached, so that neither the socket object nor the transport closes this number a second time.
            os.close(self._sock.detach())


async def _open_socket(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    targets: list[tuple[int, Any]]
    if address.path is not None:
        targets = [(socket.AF_UNIX, address.path)]
    else:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        targets = [(family, target) for family, _, _, _, target in found]
    failure: OSError = OSError(f"{address.host} has no address")
    for family, target in targets:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            tune(sock)
            await loop.sock_connect(sock, target)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _attempt(address: Address, commands: Sequence[tuple[Argument, ...]]) -> tuple[Connection, list[Any]]:
    loop = asyncio.get_running_loop()
    sock = await _open_socket(address)
    connection = Connection(sock)
    replies: list[Any] = []
    done: asyncio.Future[None] = loop.create_future()

    def on_reply(reply: Any) -> None:
        replies.append(reply)
        if done.done():
            return
        try:
            if len(replies) == len(commands):
                require_master(reply)
                done.set_result(None)
            elif isinstance(reply, ReplyError):
                raise reply
        except ReplyError as error:
            done.set_exception(error)

    def on_lost(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    connection.on_reply, connection.on_lost = on_reply, on_lost
    try:
        if address.path is not None:
            name = "" if address.tls is not None else None
            await loop.create_unix_connection(lambda: connection, sock=sock, ssl=address.tls, server_hostname=name)
        else:
            name = address.host if address.tls is not None else None
            await loop.create_connection(lambda: connection, sock=sock, ssl=address.tls, server_hostname=name)
        connection.write(b"".join(pack(*command) for command in commands))
        await done
    except BaseException:
        # Nobody asks it any more what became of the connection.
        if not done.cancel() and not done.cancelled():
            done.exception()
        if connection._transport is None:
            sock.close()
        connection.abort()
        raise
    return connection, replies


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns; after ``seconds`` it is cancelled and this raises ``TimeoutError``.

    It runs in the task of the caller: ``asyncio.wait_for`` up to Python 3.11 drops the connection that comes in the
    turn in which it is cancelled, or forgets the cancellation.
    """
    loop, task, late = asyncio.get_running_loop(), asyncio.current_task(), False
    timer: asyncio.TimerHandle
    assert task is not None

    def end() -> None:
        nonlocal late, timer
        late = True
        task.cancel()
        # A step inside that ended in this very turn may have taken this for its own.
        timer = loop.call_later(ONCE_MORE, end)

    timer = loop.call_later(seconds, end)
    try:
        return await work
    except asyncio.CancelledError:
        if late:
            raise TimeoutError(f"no answer in {seconds:.1f} s") from None
        raise
    finally:
        timer.cancel()


async def gone(attempts: Iterable[asyncio.Task[None]]) -> None:
    """End attempts to connect; what they had opened is closed then."""
    waiting = set(attempts)
    while waiting:
        for attempt in waiting:
            attempt.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=ONCE_MORE)


async def _find(place: Place) -> Address:
    """Where ``place`` is now. Raises ``MasterUnknown``."""
    if isinstance(place, Address):
        return place
    steps = place.find()
    sentinel = next(steps)
    try:
        while True:
            commands = [*await sentinel.greeting_on_loop(), place.question, ("PING",)]
            try:
                connection, replies = await within(ASK_TIMEOUT, _attempt(sentinel, commands))
            except (OSError, ReplyError) as error:
                sentinel = steps.throw(error)
            else:
                connection.abort()
                sentinel = steps.send(replies[-2])
    except StopIteration as found:
        address: Address = found.value
        return address


async def _reach(place: Place, commands: Sequence[tuple[Argument, ...]]) -> tuple[Connection, list[Any], Address]:
    address = await _find(place)
    greeting = [*await address.greeting_on_loop(), *probes(place)]
    connection, replies = await _attempt(address, [*greeting, *commands, ("PING",), ("HELLO", 2)])
    wrong = misplaced(place, replies[-1])
    if wrong:
        connection.abort()
        raise ReplyError(wrong)
    return connection, replies[len(greeting) : -2], address


async def connect(
    place: Place, outage: Outage, commands: Sequence[tuple[Argument, ...]]
) -> tuple[Connection, list[Any]]:
    """A connection that is logged in and has answered ``commands``, with their replies.

    Tries until ``outage.limit`` seconds have passed; then, and at once when Redis refuses the login, it raises
    ``LayerUnavailable``. A replica is no Redis to work with: it is waited for until it is the master.
    """
    outage.check()
    attempts = Attempts(outage)
    while True:
        try:
            connection, replies, address = await within(attempts.timeout(), _reach(place, commands))
        except (OSError, ReplyError) as error:
            await asyncio.sleep(attempts.failed(error))
        else:
            outage.over()
            outage.landed(connection, address)
            return connection, replies


class _Request:
    """Bytes to write and who takes the reply."""

    __slots__ = ("data", "sink", "turned_away")

    def __init__(self, data: bytes, sink: Sink) -> None:
        self.data = data
        self.sink = sink
        #: Redis did not run it because of its own state, and it waited for another connection.
        self.turned_away = False


def _settle_batch(batch: Batch) -> Sink:
    def sink(reply: Any) -> None:
        if isinstance(reply, Exception):
            batch.fail(reply)
        elif not isinstance(reply, bytes) or len(reply) != len(batch) or not reply.isdigit():
            raise ProtocolBroken(f"{reply!r:.80} answers a script that was given {len(batch)} messages")
        else:
            batch.settle(reply)

    return sink


def _settle(future: asyncio.Future[Any], check: Sink) -> Sink:
    def sink(reply: Any) -> None:
        if not isinstance(reply, Exception):
            check(reply)
        if future.done():
            return
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    return sink


def _ignore(reply: Any) -> None:
    """The sink of commands whose outcome nobody waits for."""


class Link:
    """The command connection of one event loop; opened by the first command, and again after a loss.

    Guarantees: commands take effect in the order in which they were given (when Redis forgot its scripts, scripts among
    themselves); those of one tick leave in one write; sends to one list between two other commands share script calls.
    A command that was written and then lost its connection fails with ``LayerUnavailable`` and is never written again
    (at most once); one that was not written yet waits for the next connection, up to ``reconnect_timeout``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outage: Outage) -> None:
        self._loop = loop
        self._outage = outage
        self.connection: Connection | None = None
        #: The attempt to connect.
        self.attempt: asyncio.Task[None] | None = None
        self._closed = False
        self.outbox = Outbox(loop, self._schedule, self._send_now, most=BATCH_MESSAGES, most_bytes=BATCH_BYTES)
        self._unwritten: list[_Request] = []
        self._sent: deque[_Request] = deque()
        #: Answered that they did not run. Writing stops until everything written is answered, so that order holds.
        self._again: list[_Request] = []
        #: Why not, when the scripts are not the reason: then another connection is wanted.
        self._turned_away: ReplyError | None = None
        self._scheduled = False
        self._answered = 0
        self._watch: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ commands

    def push(
        self, script: Script, keys: tuple[str, ...], head: tuple[Argument, ...], body: bytes, name: str, limit: int
    ) -> Waiter[int] | None:
        """Send ``body`` in the batch of ``keys[0]``; the future gives the digit that the script returns for it.

        None: this batch alone already holds ``limit`` messages for ``name``.
        """
        return self.outbox.push(Route(name, script.digest, keys, head, limit=limit), body)

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Argument) -> asyncio.Future[Any]:
        """Run ``script`` after everything given before; the future gives its reply or raises ``LayerUnavailable``."""
        return self._ask(script.check, "EVALSHA", script.digest, len(keys), *keys, *arguments)

    def call(self, *command: Argument) -> asyncio.Future[Any]:
        """Run a plain command, as :meth:`run`."""
        return self._ask(_ignore, *command)

    def _ask(self, check: Sink, *command: Argument) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._add(_Request(pack(*command), _settle(future, check)))
        return future

    def post(self, *command: Argument) -> None:
        """Run a plain command whose outcome nobody waits for."""
        self._add(_Request(pack(*command), _ignore))

    @property
    def stands(self) -> bool:
        """What is given to :meth:`write` leaves now."""
        return self.connection is not None and not self._again

    def write(self, sink: Sink, *commands: tuple[Argument, ...]) -> object:
        """Write plain commands at once, behind everything given before, while the link stands.

        ``sink`` gets the reply to the first, or an error. Returns a mark for :meth:`ends_with`.
        """
        self._seal_all()
        for command in commands:
            self._unwritten.append(_Request(pack(*command), sink))
            sink = _ignore
        mark = self._unwritten[-1]
        self._flush()
        return mark

    def ends_with(self, mark: object) -> bool:
        """Nothing was given after what was written with ``mark``, which Redis has not answered yet."""
        sent = self._sent
        return bool(sent) and sent[-1] is mark and not self._unwritten and not self.outbox.batches

    def _add(self, request: _Request) -> None:
        self._seal_all()
        self._unwritten.append(request)
        self._schedule()

    def _seal_all(self) -> None:
        if self.outbox.batches:
            for batch in self.outbox.clear():
                self._seal(batch)

    def _seal(self, batch: Batch) -> None:
        data = batch.request()
        if data is not None:
            self._unwritten.append(_Request(data, _settle_batch(batch)))

    def _send_now(self, batch: Batch) -> None:
        self._seal(batch)
        if self.stands:
            self._write()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        connection = self.connection
        if connection is None:
            if self._closed:
                self._fail(LayerUnavailable("the channel layer was closed"), unwritten=True)
            elif self.attempt is None:
                self.attempt = self._loop.create_task(self._connect())
            return
        if self._again:
            return
        self._seal_all()
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        """What is given is written; the link stands."""
        connection = self.connection
        assert connection is not None
        requests, self._unwritten = self._unwritten, []
        self._sent.extend(requests)
        connection.write(requests[0].data if len(requests) == 1 else b"".join([item.data for item in requests]))
        if self._watch is None:
            self._look_later()

    # ------------------------------------------------------------------ replies

    def _on_reply(self, reply: Any) -> None:
        if not self._sent:
            raise ProtocolBroken(f"{reply!r:.80} answers nothing that was asked")
        request = self._sent[0]
        if isinstance(reply, ReplyError):
            self._on_error(request, reply)
        else:
            request.sink(reply)
        # Not before: a reply that its sink cannot take ends the connection, and what was asked fails with it.
        self._sent.popleft()
        self._answered += 1
        if self._again and not self._sent:
            if self._turned_away is not None and self.connection is not None:
                self.connection.abort(ConnectionResetError(str(self._turned_away)))
                return
            loads = [_Request(pack("SCRIPT", "LOAD", script.source), _ignore) for script in ALL]
            self._seal_all()
            self._unwritten = [*loads, *self._again, *self._unwritten]
            self._again = []
            self._flush()

    def _on_error(self, request: _Request, reply: ReplyError) -> None:
        # Nothing ran, so it may be written again.
        if reply.code == "NOSCRIPT":
            self._again.append(request)
        elif reply.code in NOT_RUN and not request.turned_away:
            request.turned_away = True
            self._turned_away = reply
            self._again.append(request)
        else:
            request.sink(refused(self._outage.address, reply))

    def _look_later(self, looks: int = 0) -> None:
        self._watch = self._loop.call_later(self._outage.limit / LOOKS, self._look, self._answered, looks)

    def _look(self, answered: int, looks: int) -> None:
        """Abort a connection that answered nothing for ``reconnect_timeout`` seconds though something is asked."""
        self._watch = None
        if not self._sent:
            return
        looks = looks + 1 if self._answered == answered else 0
        if looks >= LOOKS and self.connection is not None:
            self.connection.abort(TimeoutError(f"no answer in {self._outage.limit:g} s"))
        else:
            self._look_later(looks)

    # ------------------------------------------------------------------ the connection

    async def _connect(self) -> None:
        try:
            connection, _ = await connect(
                self._outage.address, self._outage, [("SCRIPT", "LOAD", script.source) for script in ALL]
            )
        except BaseException as error:
            self.attempt = None
            self._fail(
                error
                if isinstance(error, LayerUnavailable)
                else LayerUnavailable("the connection to Redis was given up"),
                unwritten=True,
            )
            if not isinstance(error, LayerUnavailable):
                raise
            return
        self.attempt = None
        connection.on_reply, connection.on_lost = self._on_reply, self._on_lost
        self.connection = connection
        if connection.lost:
            self._on_lost(ConnectionResetError("Redis closed the connection"))
        else:
            self._flush()

    def _on_lost(self, error: Exception) -> None:
        self.connection = None
        self._fail(
            LayerUnavailable(
                f"Redis at {self._outage.address} was lost after this was sent, so whether it took effect is unknown: "
                f"{type(error).__name__}: {error}"
            ),
            unwritten=False,
        )
        # What did not run goes first.
        self._unwritten = [*self._again, *self._unwritten]
        self._again, self._turned_away = [], None
        if self._unwritten or self.outbox.batches:
            self._flush()

    def _fail(self, error: LayerUnavailable, unwritten: bool) -> None:
        failed = list(self._sent)
        self._sent.clear()
        if unwritten:
            self._seal_all()
            failed += self._unwritten
            self._unwritten = []
        for request in failed:
            request.sink(error)

    def close(self) -> None:
        """Close the connection for good; what waits for a reply fails. An :attr:`attempt` has to be ended."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.on_lost = lambda error: None
            connection.abort()
        self._fail(LayerUnavailable("the channel layer was closed"), unwritten=True)

    def drop(self) -> None:
        """:meth:`close` when the loop cannot run: see :meth:`Connection.drop`."""
        if self.connection is not None:
            self.connection.drop()
