"""``fastchannels-server`` as a process, over a small project that tests may edit."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
from pathlib import Path

from tests.flows.processes import Process

APPLICATION = """
import asyncio, json, os, signal

VERSION = "one"

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    told = {"pid": os.getpid(), "version": VERSION, "scheme": scope["scheme"]}
    if scope["path"] == "/crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(told).encode(), "more_body": True})
    if scope["path"] == "/slow":
        await asyncio.sleep(0.7)
    if scope["path"] == "/stuck":
        await asyncio.Event().wait()
    await send({"type": "http.response.body"})

async def refuses_to_start(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


def make_project(directory: Path) -> Path:
    """A directory with ``proj.asgi:application``."""
    package = directory / "proj"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "asgi.py").write_text(APPLICATION)
    return directory


def edit(project: Path, old: str, new: str) -> None:
    """Change the application; what was compiled of it cannot be taken for the new source."""
    path = project / "proj" / "asgi.py"
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))


class Program(Process):
    """The server of ``project`` on a free port of the loopback, unless ``arguments`` say otherwise."""

    def __init__(self, project: Path, *arguments: str, target: str = "proj.asgi:application", **env: str) -> None:
        super().__init__(
            "-m", "fastchannels", "server", *arguments, target, cwd=project, env={"PYTHONDONTWRITEBYTECODE": "1", **env}
        )
        self._port: int | None = None

    @property
    def port(self) -> int:
        if self._port is None:
            self._port = int(self.wait_for(r"Listening on https?://127\.0\.0\.1:(\d+)")[1])
        return self._port

    def connect(self, path: str = "/", context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """A connection on which the head of the answer is to be read."""
        if context is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        else:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        connection.request("GET", path)
        return connection

    def ask(self, path: str = "/", context: ssl.SSLContext | None = None) -> dict[str, object]:
        """What the application told, over a connection of its own."""
        connection = self.connect(path, context)
        try:
            told: dict[str, object] = json.loads(connection.getresponse().read())
            return told
        finally:
            connection.close()

    def workers(self) -> set[int]:
        """Process ids of all workers that ever served."""
        return {int(pid) for pid in re.findall(r"worker (\d+) serves", self.output)}

    def hang_up(self) -> None:
        self.popen.send_signal(signal.SIGHUP)

    def signal_group(self, number: signal.Signals) -> None:
        """As a service manager does, which tells every process."""
        os.killpg(self.pid, number)


def ask_unix(path: str) -> str:
    """The answer over a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
        return answer.decode()


def exists(pid: int) -> bool:
    """The process runs: it is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
