"""Redis on an event loop: the line that waits in a blocking pop."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from typing import Any, Final, Protocol

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis.connection import Connection, connect, pack
from fastchannels.layers.redis.outage import NOT_RUN, LoginRefused, Outage, ProtocolBroken, ReplyError, refused

#: Seconds that one pop may take to be answered once it has been asked to end.
CLOSE_TIMEOUT: Final = 1.0
#: Seconds between two rounds of attempts, once one has failed altogether; doubles while the login is refused.
ROUND_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0

#: Errors that end a blocked pop and pass by themselves: the server changed its role or restarts.
_PASSING: Final = NOT_RUN | {"UNBLOCKED"}


class PopOwner(Protocol):
    """Who asked a line."""

    def on_lost(self) -> None:
        """The connection broke while a pop waited. It is asked again by itself."""

    def on_torn(self) -> None:
        """The same connection may have taken messages with it: none, or as many as the pop asked for at most (D-04)."""

    def on_unavailable(self, error: LayerUnavailable) -> bool:
        """Redis stayed away for ``reconnect_timeout``, or refused the login. True: go on trying."""


class PopLine(abc.ABC):
    """A connection that waits in one blocking pop at a time, for as long as it takes.

    ``TIME`` travels behind each pop, so that the age of what comes is known by the store's clock (D-07) without a round
    trip.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outage: Outage, owner: PopOwner) -> None:
        self._loop = loop
        self._outage = outage
        self._owner = owner
        self.connection: Connection | None = None
        #: The attempt to connect.
        self.attempt: asyncio.Task[None] | None = None
        self._closed = False
        self._wanted: tuple[tuple[str, ...], int] | None = None
        self._written = False
        #: Redis has refused what was written.
        self._refused = False
        self._replies: list[Any] = []
        self._expected = 0
        self._asked_at = 0.0
        self._multi = False
        self._idle: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> bool:
        """A pop is asked for."""
        return self._wanted is not None

    @property
    def blocked(self) -> bool:
        """A pop was written: only a message, or a token on one of its keys, ends it."""
        return self._written

    def pop(self, keys: tuple[str, ...], count: int) -> None:
        """Wait for what :meth:`_command` makes of this. Replaces a pop that is not written yet."""
        assert not self._written
        self._wanted = keys, count
        connection = self.connection
        if connection is None:
            self._open()
            return
        self._written = True
        self._asked_at = self._loop.time()
        data, self._expected = self._command(keys, count)
        connection.write(data + pack("TIME"))

    @abc.abstractmethod
    def _command(self, keys: tuple[str, ...], count: int) -> tuple[bytes, int]:
        """The pop as bytes, and how many replies come with the one to ``TIME`` behind it."""

    @abc.abstractmethod
    def _deliver(self, replies: list[Any], now: int) -> None:
        """Hand on what :meth:`_command` was answered; ``now`` is the store's clock in milliseconds right after."""

    def _on_reply(self, reply: Any) -> None:
        if not self._written:
            raise ProtocolBroken(f"{reply!r:.80} answers nothing that was asked")
        self._replies.append(reply)
        if len(self._replies) < self._expected:
            return
        replies, self._replies = self._replies, []
        for item in replies:
            if isinstance(item, ReplyError):
                if self.connection is not None and item.code in _PASSING:
                    # What another command of the same pop took is lost.
                    self._refused = all(reply is None or isinstance(reply, ReplyError) for reply in replies[:-1])
                    self.connection.abort(ConnectionResetError(str(item)))
                    return
                self._fail(refused(self._outage.address, item))
                return
        time = replies.pop()
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        wanted, self._wanted, self._written = self._wanted, None, False
        try:
            self._deliver(replies, now)
        except Exception:
            # It does not read as an answer (CLIENT UNBLOCK gives one): the connection ends, the pop is asked again.
            if self._wanted is None:
                self._wanted = wanted
            raise
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _fail(self, error: LayerUnavailable) -> None:
        wanted, self._wanted, self._written = self._wanted, None, False
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.on_lost = lambda error: None
            connection.abort()
        if self._owner.on_unavailable(error) and wanted is not None:
            self._wanted = wanted
            self._open(ROUND_PAUSE)

    def _open(self, pause: float = 0.0) -> None:
        if self.attempt is None and not self._closed:
            self.attempt = self._loop.create_task(self._connect(pause))

    async def _connect(self, pause: float) -> None:
        try:
            while True:
                if pause:
                    await asyncio.sleep(pause)
                try:
                    connection, replies = await connect(
                        self._outage.address, self._outage, [("COMMAND", "INFO", "BLMPOP")]
                    )
                    break
                except LayerUnavailable as error:
                    pause = min(pause * 2, LONGEST_PAUSE) if isinstance(error, LoginRefused) and pause else ROUND_PAUSE
                    if not self._owner.on_unavailable(error):
                        self._wanted = None
                        return
        finally:
            self.attempt = None
        self._multi = bool(replies[0]) and replies[0][0] is not None
        self._replies, self._refused = [], False
        self.connection = connection
        connection.on_reply, connection.on_lost = self._on_reply, self._on_lost
        if connection.lost:
            self._on_lost(ConnectionResetError("Redis closed the connection"))
        elif self._wanted is not None:
            self.pop(*self._wanted)

    def _on_lost(self, error: Exception) -> None:
        connection, self.connection = self.connection, None
        if (
            self._written
            and not self._refused
            and (self._replies or connection is None or connection.torn or not connection.finished)
        ):
            self._owner.on_torn()
        self._replies = []
        self._written = False
        if self._wanted is not None:
            self._owner.on_lost()
        if self._wanted is not None:
            # One that is lost again right away is not asked in a tight loop.
            self._open(ROUND_PAUSE if self._loop.time() - self._asked_at < ROUND_PAUSE else 0.0)

    def forget(self) -> None:
        """Take back a pop that was not written yet."""
        if not self._written:
            self._wanted = None

    async def settled(self) -> None:
        """Wait until no pop is outstanding, ``CLOSE_TIMEOUT`` seconds at most; the caller has asked for its end."""
        if self._written:
            self._idle = self._loop.create_future()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._idle, CLOSE_TIMEOUT)

    def close(self) -> None:
        """Close the connection for good, whatever it waits for. An :attr:`attempt` has to be ended."""
        self._closed = True
        self._wanted, self._written = None, False
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.on_lost = lambda error: None
            connection.abort()

    def drop(self) -> None:
        """:meth:`close` when the loop cannot run."""
        if self.connection is not None:
            self.connection.drop()


class BatchOwner(PopOwner, Protocol):
    """Who asked a :class:`ListLine`."""

    def on_batch(self, key: str, entries: list[bytes], now: int) -> None:
        """``entries`` were popped from ``key``; ``now`` is the store's clock in milliseconds right after."""


class ListLine(PopLine):
    """A line that pops from lists: up to ``count`` entries of the first of the keys that has any.

    Redis 7 pops a batch by ``BLMPOP``; before that ``BLPOP`` takes one entry, and ``LPOP`` more when there is one key.
    """

    _owner: BatchOwner

    def _command(self, keys: tuple[str, ...], count: int) -> tuple[bytes, int]:
        if self._multi:
            return pack("BLMPOP", 0, len(keys), *keys, "LEFT", "COUNT", count), 2
        if len(keys) == 1 and count > 1:
            return pack("BLPOP", *keys, 0) + pack("LPOP", keys[0], count - 1), 3
        return pack("BLPOP", *keys, 0), 2

    def _deliver(self, replies: list[Any], now: int) -> None:
        popped = replies[0]
        entries = popped[1] if self._multi else [popped[1], *((replies[1] or []) if len(replies) == 2 else [])]
        self._owner.on_batch(popped[0].decode("utf-8"), entries, now)
