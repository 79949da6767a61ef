"""Redis for a thread without an event loop: one socket, one command at a time."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import Any, Final

from fastchannels.exceptions import LayerUnavailable
from fastchannels.layers.redis import wire
from fastchannels.layers.redis.connection import Argument, is_whole, new_reader, pack, tune
from fastchannels.layers.redis.outage import CONNECT_TIMEOUT, Attempts, Outage, ReplyError
from fastchannels.layers.redis.scripts import Script

#: Seconds that a reply may come after the time that a blocking pop was given.
MARGIN: Final = 5.0
#: Redis rounds a timeout to milliseconds, and 0 means for ever.
LEAST_TIMEOUT: Final = 0.001


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

    def __del__(self) -> None:
        self.close()

    def call(self, *command: Argument) -> Any:
        """Run one command. Raises ``LayerUnavailable``, and ``ReplyError`` for what Redis refuses."""
        self._connect(None)
        (reply,) = self._exchange(pack(*command), 1, self._outage.limit)
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Argument) -> Any:
        """Run a script, loading it when Redis does not know it. Raises ``LayerUnavailable``."""
        try:
            try:
                return self.call("EVALSHA", script.digest, len(keys), *keys, *arguments)
            except ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                # Nothing ran, so it may be sent again.
                return self.call("EVAL", script.source, len(keys), *keys, *arguments)
        except ReplyError as error:
            raise LayerUnavailable(f"Redis at {self._outage.address} answered {error}") from error

    def pop(self, keys: list[str], timeout: float | None) -> tuple[str, int, bytes, int] | None:
        """``(key, stamp, payload, now)`` of the first entry of any key, or None after ``timeout`` seconds.

        The keys are looked at in an order that rotates from call to call. A lost connection is opened again within the
        time that is left; ``LayerUnavailable`` when Redis is away for longer than ``reconnect_timeout``, over calls.
        """
        self._turn = (self._turn + 1) % len(keys)
        keys = keys[self._turn :] + keys[: self._turn]
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            if not self._connect(ends):
                return None
            left = None if ends is None else ends - time.monotonic()
            try:
                replies = self._pop_once(keys, left)
            except LayerUnavailable:
                # At most once: what that pop took is lost, what it did not take is still there.
                if ends is not None and time.monotonic() >= ends:
                    return None
                continue
            popped, clock = replies[0], replies[-1]
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise LayerUnavailable(f"Redis at {self._outage.address} answered {reply}")
            if popped is not None:
                entry = popped[1][0] if isinstance(popped[1], list) else popped[1]
                now = int(clock[0]) * 1000 + int(clock[1]) // 1000
                return popped[0].decode("utf-8"), *wire.parse_queued(entry), now
            if ends is not None and time.monotonic() >= ends - LEAST_TIMEOUT:
                return None

    def _pop_once(self, keys: list[str], left: float | None) -> list[Any]:
        if left is not None and left <= 0:
            if self._multi:
                return self._exchange(pack("LMPOP", len(keys), *keys, "LEFT") + pack("TIME"), 2, self._outage.limit)
            for key in keys:
                entry, clock = self._exchange(pack("LPOP", key) + pack("TIME"), 2, self._outage.limit)
                if entry is not None:
                    return [entry if isinstance(entry, ReplyError) else [key.encode(), entry], clock]
            return [None, None]
        wait = 0 if left is None else max(left, LEAST_TIMEOUT)
        command = pack("BLMPOP", wait, len(keys), *keys, "LEFT") if self._multi else pack("BLPOP", *keys, wait)
        return self._exchange(command + pack("TIME"), 2, None if left is None else left + MARGIN)

    # ------------------------------------------------------------------ the socket

    def _exchange(self, data: bytes, count: int, timeout: float | None) -> list[Any]:
        assert self._sock is not None
        try:
            self._sock.settimeout(timeout)
            self._sock.sendall(data)
            return [self._read() for _ in range(count)]
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
                raise ConnectionResetError("Redis closed the connection")
            self._parser.feed(data)
        return reply

    def _connect(self, ends: float | None) -> bool:
        """Make sure of a connection. False: not by the time ``ends``."""
        if self._sock is not None and self._is_stale(self._sock):
            self.close()
        if self._sock is not None:
            return True
        if self._attempts is None:
            self._attempts = Attempts(self._outage)
        while True:
            try:
                self._open()
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

    def _open(self) -> None:
        address = self._outage.address
        if address.path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock = sock
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(address.path)
        else:
            sock = self._sock = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT)
            tune(sock)
        if address.tls is not None:
            self._sock = address.tls.wrap_socket(sock, server_hostname=None if address.path else address.host)
        self._parser = new_reader()
        commands = [*address.greeting(), ("PING",), ("COMMAND", "INFO", "BLMPOP")]
        self._sock.sendall(b"".join(pack(*command) for command in commands))
        replies = [self._read() for _ in commands]
        for reply in replies[:-1]:
            if isinstance(reply, ReplyError):
                raise reply
        self._multi = isinstance(replies[-1], list) and bool(replies[-1]) and replies[-1][0] is not None

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
