"""A redis-server of the tests' own, on a free port of the loopback interface."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class RedisServer:
    """Holds nothing on disk, so a restart has lost everything."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.path = directory / f"{self.port}.sock"
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> RedisServer:
        assert BINARY is not None, "the tests need redis-server (or valkey-server): make parts installs it"
        assert self._process is None
        self._process = subprocess.Popen(
            [BINARY, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path), "--save", "",
             "--appendonly", "no", "--dir", str(self._directory), *self._options],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                assert self._process.poll() is None, "redis-server ended"
                assert time.monotonic() < deadline, "redis-server does not listen"
                time.sleep(0.01)

    def kill(self) -> None:
        """As a crash: no goodbye."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
            self._process = None

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[redis.Redis]:
        """redis-py, to look from outside."""
        client = redis.Redis(port=self.port, host="127.0.0.1", **options)
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(directory, *options).start()
    try:
        yield server
    finally:
        server.kill()
