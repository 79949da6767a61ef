"""Redis for a thread without an event loop: one socket, one command at a time."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time
from typing import Any, Final

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import wire
from fastchannels.layers.redis.address import Address
from fastchannels.layers.redis.connection import Argument, is_whole, new_reader, pack, tune
from fastchannels.layers.redis.outage import (
    NOT_RUN,
    Attempts,
    Outage,
    ProtocolBroken,
    ReplyError,
    is_passing,
    refused,
    require_master,
)
from fastchannels.layers.redis.places import ASK_TIMEOUT, Place, misplaced, probes
from fastchannels.layers.redis.scripts import ALL, Script

#: Seconds that a reply may come after the time that a blocking pop was given.
MARGIN: Final = 5.0
#: Redis rounds a timeout to milliseconds, and 0 means for ever.
LEAST_TIMEOUT: Final = 0.001
#: Seconds before a pop that Redis turned away is asked on another connection.
PAUSE: Final = 0.2
#: Seconds for each step of one attempt to connect that other shards wait for, or that was given no time.
REACH_TIMEOUT: Final = 1.0


class Finished(ConnectionResetError):
    """Redis closed the connection: all that it had written has come."""


class BlockingClient:
    """The connection of one thread, opened by the first command and again after a loss.

    A command that was written and lost its connection raises ``LayerUnavailable`` and is not written again. Anything
    else that leaves a call early, such as ``KeyboardInterrupt``, closes the connection: its reply would be taken for
    another's.
    """

    def __init__(self, outage: Outage) -> None:
        self._outage = outage
        self._sock: socket.socket | None = None
        self._parser: Any = None
        self._attempts: Attempts | None = None
        self._multi = False
        self._turn = 0
        #: When the next attempt of :meth:`reach` may come.
        self._due = 0.0
        self._token = ""
        self._answers: list[Any] = []

    def __del__(self) -> None:
        self.close()

    def call(self, *command: Argument) -> Any:
        """Run one command. Raises ``LayerUnavailable``, also for what Redis refuses."""
        reply = self._ask(*command)
        if isinstance(reply, ReplyError):
            raise refused(self._outage.address, reply) from reply
        return reply

    def _ask(self, *command: Argument) -> Any:
        """The reply, which may be a ``ReplyError``."""
        data = pack(*command)
        self._connect(None)
        (reply,) = self._exchange(data, 1, self._outage.limit)
        if isinstance(reply, ReplyError) and reply.code in NOT_RUN:
            # Nothing ran: once more, when Redis is the master again, or has loaded its data.
            self.close()
            self._connect(None)
            (reply,) = self._exchange(data, 1, self._outage.limit)
        return reply

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Argument) -> Any:
        """Run a script, loading it when Redis does not know it. Raises ``LayerUnavailable``."""
        reply = self._ask("EVALSHA", script.digest, len(keys), *keys, *arguments)
        if isinstance(reply, ReplyError) and reply.code == "NOSCRIPT":
            # Nothing ran, so it may be sent again.
            reply = self._ask("EVAL", script.source, len(keys), *keys, *arguments)
        if isinstance(reply, ReplyError):
            raise refused(self._outage.address, reply) from reply
        try:
            script.check(reply)
        except ProtocolBroken as error:
            # Whose replies the next ones are is unknown.
            self.close()
            raise LayerUnavailable(f"Redis at {self._outage.address}: {error}") from error
        return reply

    def pop(self, keys: list[str], timeout: float | None) -> tuple[str, int, bytes, int] | None:
        """``(key, stamp, payload, now)`` of the first entry of any key, or None after ``timeout`` seconds.

        The keys are looked at in an order that rotates from call to call. A lost connection is opened again within the
        time that is left; ``LayerUnavailable`` when Redis is away for longer than ``reconnect_timeout``, over calls.
        """
        taken = self.turn([], [], keys, timeout, 1)
        return taken[0] if taken else None

    # HOT: benchmarks/talk.py
    def turn(
        self, calls: list[bytes], answers: list[Any], keys: list[str], timeout: float | None, most: int
    ) -> list[tuple[str, int, bytes, int]]:
        """A :meth:`pop` of up to ``most`` entries of one key, in one write with ``calls``.

        Their replies are added to ``answers``: each may be a ``ReplyError``, or the ``LayerUnavailable`` of a
        connection that was lost before it came. No replies: nothing was written, for Redis is away.
        """
        self._turn = (self._turn + 1) % len(keys)
        keys = keys[self._turn :] + keys[: self._turn]
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self._connect(ends):
                return []
            left = None if ends is None else ends - time.monotonic()
            replies: list[Any] = []
            try:
                self._pop_once(calls, keys, left, most, replies)
            except LayerUnavailable as error:
                # At most once: what that pop took is lost, what it did not take is still there.
                if len(replies) > len(calls) or self._may_have_popped(error.__cause__):
                    self._outage.tore()
                answers += replies[: len(calls)]
                answers += [error] * (len(calls) - len(replies))
                calls = []
                if ends is not None and time.monotonic() >= ends:
                    return []
                continue
            answers += replies[: len(calls)]
            del replies[: len(calls)]
            calls = []
            refusal = next((reply for reply in replies if isinstance(reply, ReplyError)), None)
            if refusal is not None:
                self.close()
                if not is_passing(refusal):
                    raise refused(self._outage.address, refusal) from refusal
                # It changed its role, or loads its data.
                time.sleep(PAUSE if ends is None else max(0.0, min(PAUSE, ends - time.monotonic())))
                continue
            popped, clock = replies
            if popped is not None:
                return self._entries(popped, clock)
            if ends is not None and time.monotonic() >= ends - LEAST_TIMEOUT:
                return []

    def _may_have_popped(self, error: BaseException | None) -> bool:
        """Whether an answer to what was asked last may have been lost with the connection."""
        return not isinstance(error, Finished) or bool(self._parser.has_data())

    def _pop_once(self, calls: list[bytes], keys: list[str], left: float | None, most: int, replies: list[Any]) -> None:
        """Add the replies to ``calls``, what was popped, or None, and the time."""
        before, limit = b"".join(calls), self._outage.limit
        if left is not None and left <= 0:
            if self._multi:
                command = pack("LMPOP", len(keys), *keys, "LEFT", "COUNT", most) + pack("TIME")
                self._exchange(before + command, len(calls) + 2, limit, replies)
                return
            if calls:
                self._exchange(before, len(calls), limit, replies)
            for key in keys:
                entry, clock = self._exchange(pack("LPOP", key) + pack("TIME"), 2, limit)
                if entry is not None:
                    replies += [entry if isinstance(entry, ReplyError) else [key.encode(), entry], clock]
                    return
            replies += [None, None]
            return
        if self._outage.may_move:
            left = limit if left is None else min(left, limit)
        wait = 0 if left is None else max(left, LEAST_TIMEOUT)
        command = pack("BLPOP", *keys, wait)
        if self._multi:
            command = pack("BLMPOP", wait, len(keys), *keys, "LEFT", "COUNT", most)
        timeout = None if left is None else left + MARGIN
        self._exchange(before + command + pack("TIME"), len(calls) + 2, timeout, replies)

    def ask_all(self, calls: list[bytes]) -> list[Any]:
        """The replies to ``calls``, which leave in one write; each may be a ``ReplyError``."""
        self._connect(None)
        return self._exchange(b"".join(calls), len(calls), self._outage.limit)

    def ask_again(self, call: bytes) -> Any:
        """The reply to a ``call`` whose script Redis did not know."""
        loads = [pack("SCRIPT", "LOAD", script.source) for script in ALL]
        return self.ask_all([*loads, call])[-1]

    # ------------------------------------------------------------------ one of several that are waited for at once

    @property
    def longest(self) -> float | None:
        """Seconds that one pop may wait, so that it is noticed when Redis is elsewhere now; None: without end."""
        return self._outage.limit if self._outage.may_move else None

    def reach(self) -> bool:
        """Whether there is a connection, after one attempt when one is due; it does not sleep.

        Raises ``LayerUnavailable`` when Redis is away for longer than ``reconnect_timeout``, over calls.
        """
        if self._sock is not None and self._is_stale(self._sock):
            self.close()
        if self._sock is not None:
            return True
        if time.monotonic() < self._due:
            return False
        self._outage.check()
        if self._attempts is None:
            self._attempts = Attempts(self._outage)
        try:
            self._open(min(self._attempts.timeout(), REACH_TIMEOUT))
        except (OSError, ReplyError) as error:
            self.close()
            try:
                self._due = time.monotonic() + self._attempts.failed(error)
            except LayerUnavailable:
                self._attempts = None
                raise
            return False
        self._attempts = None
        self._outage.over()
        return True

    @property
    def connected(self) -> bool:
        """Whether a connection is open, as far as this thread has seen."""
        return self._sock is not None

    def ask(self, keys: list[str], timeout: float | None, token: str) -> int:
        """Write a blocking pop that also ends with an entry on ``token``; the descriptor to wait for.

        Raises ``LayerUnavailable``, then nothing was asked.
        """
        assert self._sock is not None
        self._turn = (self._turn + 1) % len(keys)
        keys = [token, *keys[self._turn :], *keys[: self._turn]]
        wait = 0 if timeout is None else max(timeout, LEAST_TIMEOUT)
        command = pack("BLMPOP", wait, len(keys), *keys, "LEFT") if self._multi else pack("BLPOP", *keys, wait)
        self._token, self._answers = token, []
        try:
            self._sock.settimeout(self._outage.limit)
            self._sock.sendall(command + pack("TIME"))
            return self._sock.fileno()
        except OSError as error:
            self.close()
            raise LayerUnavailable(f"Redis at {self._outage.address} was lost: {error}") from error

    def answer(self) -> tuple[bool, tuple[str, int, bytes, int] | None]:
        """Read what came without waiting: whether the pop of :meth:`ask` is answered, and by which entry.

        Raises ``LayerUnavailable`` when the connection is lost.
        """
        assert self._sock is not None
        self._sock.settimeout(0)
        try:
            while len(self._answers) < 2:
                self._answers.append(self._read())
        except (BlockingIOError, ssl.SSLWantReadError):
            return False, None
        except OSError as error:
            if self._answers or self._may_have_popped(error):
                self._outage.tore()
            self.close()
            raise LayerUnavailable(f"Redis at {self._outage.address} was lost: {error}") from error
        popped, clock = self._answers
        for reply in self._answers:
            if isinstance(reply, ReplyError):
                # Of a server that changes its role, or has no room for clients: the next connection tells.
                self.close()
                raise LayerUnavailable(f"Redis at {self._outage.address} answered {reply}")
        if popped is None or popped[0].decode("utf-8") == self._token:
            return True, None
        return True, self._entries(popped, clock)[0]

    def finish(self) -> tuple[str, int, bytes, int] | None:
        """The entry that answers :meth:`ask`, if any, after its token was pushed."""
        assert self._sock is not None
        ends = time.monotonic() + self._outage.limit
        while True:
            answered, popped = self.answer()
            if answered:
                return popped
            if not select.select([self._sock], [], [], max(0.0, ends - time.monotonic()))[0]:
                raise LayerUnavailable(f"Redis at {self._outage.address} did not end a pop")

    def abandon(self) -> None:
        """Close the connection while the pop of :meth:`ask` waits: what it takes is lost."""
        if self._sock is not None:
            self._outage.tore()
            self.close()

    def _entries(self, popped: Any, clock: Any) -> list[tuple[str, int, bytes, int]]:
        try:
            entries = popped[1] if isinstance(popped[1], list) else [popped[1]]
            key, now = popped[0].decode("utf-8"), int(clock[0]) * 1000 + int(clock[1]) // 1000
            return [(key, *wire.parse_queued(entry), now) for entry in entries]
        except Exception as error:
            # Not what was asked for: whose replies the next ones are is unknown.
            self.close()
            raise LayerUnavailable(f"Redis at {self._outage.address} answered {popped!r:.80}") from error

    # ------------------------------------------------------------------ the socket

    def _exchange(self, data: bytes, count: int, timeout: float | None, replies: list[Any] | None = None) -> list[Any]:
        """Write ``data`` and read ``count`` replies, into ``replies`` when it is given."""
        assert self._sock is not None
        replies = [] if replies is None else replies
        try:
            self._sock.settimeout(timeout)
            self._sock.sendall(data)
            while len(replies) < count:
                replies.append(self._read())
            return replies
        except OSError as error:
            self.close()
            raise LayerUnavailable(
                f"Redis at {self._outage.address} was lost after this was sent, so whether it took effect is unknown: "
                f"{type(error).__name__}: {error}"
            ) from error
        except BaseException:
            self.close()
            raise

    def _read(self) -> Any:
        assert self._sock is not None
        while not is_whole(reply := self._parser.gets()):
            data = self._sock.recv(65536)
            if not data:
                raise Finished("Redis closed the connection")
            self._parser.feed(data)
        return reply

    def _connect(self, ends: float | None) -> bool:
        """Make sure of a connection. False: not by the time ``ends``."""
        if self._sock is not None and (self._parser.has_data() or self._is_stale(self._sock)):
            self.close()
        if self._sock is not None:
            return True
        self._outage.check()
        if self._attempts is None:
            self._attempts = Attempts(self._outage)
        while True:
            timeout = self._attempts.timeout()
            try:
                self._open(timeout if ends is None else min(timeout, max(REACH_TIMEOUT, ends - time.monotonic())))
            except (OSError, ReplyError) as error:
                self.close()
                try:
                    delay = self._attempts.failed(error)
                except LayerUnavailable:
                    self._attempts = None
                    raise
                if ends is not None and time.monotonic() + delay >= ends:
                    time.sleep(max(0.0, ends - time.monotonic()))
                    return False
                time.sleep(delay)
            except BaseException:
                self.close()
                raise
            else:
                self._attempts = None
                self._outage.over()
                return True

    @staticmethod
    def _is_stale(sock: socket.socket) -> bool:
        """Nothing is asked, so a socket with something to read is one that Redis closed meanwhile."""
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock], [], [], 0)[0])

    def _open(self, timeout: float, asking: bool = False) -> None:
        """Connect and log in; ``timeout`` holds for each step. ``asking``: any server will do, also a replica."""
        address = self._find(self._outage.address, timeout)
        if address.path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock = sock
            sock.settimeout(timeout)
            sock.connect(address.path)
        else:
            sock = self._sock = socket.create_connection((address.host, address.port), timeout)
            tune(sock)
        if address.tls is not None:
            self._sock = address.tls.wrap_socket(sock, server_hostname=None if address.path else address.host)
        self._parser = new_reader()
        place = self._outage.address
        commands = [*address.greeting(), *probes(place), ("PING",), ("HELLO", 2), ("COMMAND", "INFO", "BLMPOP")]
        self._sock.sendall(b"".join(pack(*command) for command in commands))
        replies = [self._read() for _ in commands]
        for reply in replies[:-2]:
            if isinstance(reply, ReplyError):
                raise reply
        if asking:
            return
        require_master(replies[-2])
        wrong = misplaced(place, replies[-2])
        if wrong:
            raise ReplyError(wrong)
        self._multi = isinstance(replies[-1], list) and bool(replies[-1]) and replies[-1][0] is not None
        self._outage.landed(self, address)

    @staticmethod
    def _find(place: Place, timeout: float) -> Address:
        """Where ``place`` is now. Raises ``MasterUnknown``."""
        if isinstance(place, Address):
            return place
        steps = place.find()
        sentinel = next(steps)
        try:
            while True:
                client = BlockingClient(Outage(sentinel, min(timeout, ASK_TIMEOUT)))
                try:
                    answer = client.ask_node(place.question)
                except (OSError, ReplyError) as error:
                    sentinel = steps.throw(error)
                else:
                    sentinel = steps.send(answer)
                finally:
                    client.close()
        except StopIteration as found:
            address: Address = found.value
            return address

    def ask_node(self, question: tuple[str, ...]) -> Any:
        """The answer of a Sentinel, or of a node. Raises ``OSError`` and ``ReplyError``."""
        self._open(self._outage.limit, asking=True)
        assert self._sock is not None
        self._sock.sendall(pack(*question))
        answer = self._read()
        if isinstance(answer, ReplyError):
            raise answer
        return answer

    def cut(self, error: Exception) -> None:
        """Break the connection from another thread: what waits on it ends as when Redis closes it."""
        sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which would end the encryption under its reader.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; the next command opens another."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def drop(self) -> None:
        """Close the descriptor that a forked child inherited; the parent's connection goes on."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                os.close(sock.detach())
