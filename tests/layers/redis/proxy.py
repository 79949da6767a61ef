"""A TCP proxy before a Redis that does to the connections what a test asks for.

It runs on threads of its own, so that a test may block. ``UP`` is from the client to Redis, ``DOWN`` the way back.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

UP, DOWN = "up", "down"


@dataclass
class Order:
    """What happens, once, when ``needle`` passes in ``direction``: ``keep`` bytes from its start on go through."""

    direction: str
    needle: bytes
    keep: int = 0
    #: Put in at that place; the connection lives on. None: it is cut there.
    insert: bytes | None = None


class Proxy:
    """``port`` is where clients connect; ``accepted`` counts them."""

    def __init__(self, target: int) -> None:
        self.accepted = 0
        #: Seconds that each piece of data waits.
        self.delay = 0.0
        self._target = target
        self._orders: list[Order] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    # ------------------------------------------------------------------ what a test asks for

    def cut(self, direction: str, needle: bytes, keep: int = 0) -> None:
        """End the connection on which ``needle`` passes, ``keep`` bytes behind its start."""
        self._orders.append(Order(direction, needle, keep))

    def insert(self, direction: str, needle: bytes, data: bytes) -> None:
        """Put ``data`` before the next ``needle``."""
        self._orders.append(Order(direction, needle, 0, data))

    def inject(self, data: bytes) -> None:
        """Send ``data`` to every client now."""
        for client, _ in list(self._pairs):
            with contextlib.suppress(OSError):
                client.sendall(data)

    @property
    def done(self) -> bool:
        """Every order was carried out."""
        return not self._orders

    def stall(self) -> None:
        """Nothing passes in either direction, and no connection ends, until :meth:`resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut_all(self) -> None:
        """End every connection now."""
        for pair in list(self._pairs):
            self._end(pair)

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        with contextlib.suppress(OSError):
            # Wakes the thread that accepts, which closing alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._thread.join(10)

    # ------------------------------------------------------------------ threads

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            pair = client, server
            for sock in pair:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append(pair)
            if self._closed:
                self._end(pair)
            threading.Thread(target=self._pump, args=(pair, UP), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, DOWN), daemon=True).start()

    def _pump(self, pair: tuple[socket.socket, socket.socket], direction: str) -> None:
        source, sink = pair if direction == UP else (pair[1], pair[0])
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                if self.delay:
                    time.sleep(self.delay)
                order = self._order(direction, data)
                if order is None:
                    sink.sendall(data)
                    continue
                at = data.index(order.needle) + order.keep
                if order.insert is None:
                    sink.sendall(data[:at])
                    break
                sink.sendall(data[:at] + order.insert + data[at:])
        except OSError:
            pass
        self._end(pair)

    def _order(self, direction: str, data: bytes) -> Order | None:
        with self._lock:
            for order in self._orders:
                if order.direction == direction and order.needle in data:
                    self._orders.remove(order)
                    return order
        return None

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self._lock:
            if pair not in self._pairs:
                return
            self._pairs.remove(pair)
        for sock in pair:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@contextlib.contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
