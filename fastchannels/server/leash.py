"""What a worker process and its supervisor tell each other, a letter at a time over a pair of sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

# To the supervisor.
READY: Final = b"r"  #: the worker serves
SPENT: Final = b"s"  #: it has served its number of requests
# To the worker.
DRAIN: Final = b"d"
CUT: Final = b"c"  #: stop at once


class Leash:
    """The worker's end. When the supervisor's end is gone, so is the supervisor: the worker drains and ends."""

    def __init__(self, sock: socket.socket, slot: int = 0) -> None:
        #: Which of the workers this is.
        self.slot = slot
        self._sock = sock
        sock.setblocking(False)

    def tell_ready(self) -> None:
        self._tell(READY)

    def tell_spent(self) -> None:
        self._tell(SPENT)

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # the supervisor died, which follow() sees
            self._sock.send(word)

    def follow(self, loop: asyncio.AbstractEventLoop, drain: Callable[[], None], cut: Callable[[], None]) -> None:
        """Call ``drain`` and ``cut`` when the supervisor says so."""

        def heard() -> None:
            try:
                words = self._sock.recv(64)
            except BlockingIOError:
                return
            except OSError:
                words = b""
            if CUT in words:
                cut()
            if DRAIN in words or not words:
                drain()
            if not words:
                loop.remove_reader(self._sock)

        loop.add_reader(self._sock, heard)

    def wait(self, drain: Callable[[], None], cut: Callable[[], None]) -> None:
        """The same for a thread without a loop, which it keeps until the supervisor is gone."""
        self._sock.setblocking(True)
        words = DRAIN
        while words:
            try:
                words = self._sock.recv(64)
            except OSError:
                words = b""
            if CUT in words:
                cut()
            if DRAIN in words or not words:
                drain()
