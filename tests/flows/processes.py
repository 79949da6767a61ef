"""Real processes for the tests: their output is kept, every wait has a deadline, and they are ended by their pid."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
Value = TypeVar("Value")


class Process:
    """A process in a group of its own, whose output can be waited for. As a context manager it ends with its block."""

    def __init__(self, *arguments: str, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.arguments = arguments
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self.popen.pid
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.terminate()
        if error is not None:
            print(f"--- {' '.join(self.arguments)} (pid {self.pid}, status {self.popen.returncode})\n{self.output}")

    @property
    def output(self) -> str:
        """What it printed until now, both streams."""
        with self._news:
            return "".join(self._lines)

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def wait_for(self, pattern: str, timeout: float = 20) -> re.Match[str]:
        """The first match of ``pattern`` in the output."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                if found := re.search(pattern, "".join(self._lines)):
                    return found
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "it ended" if self._ended else f"waited {timeout} s"
                    raise AssertionError(f"{pattern!r} was not printed ({why}):\n{''.join(self._lines)}")
                self._news.wait(left)

    def wait(self, timeout: float = 20) -> int:
        """Its exit status, once it has ended by itself."""
        status = self.popen.wait(timeout)
        self._reader.join(timeout)
        return status

    def interrupt(self) -> None:
        """What Ctrl-C sends, to this process alone."""
        self.popen.send_signal(signal.SIGINT)

    def ctrl_c(self) -> None:
        """What Ctrl-C at a terminal sends: to this process and those it started."""
        os.killpg(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it the way a crash does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(10)
        self._reader.join(10)

    def terminate(self, timeout: float = 15) -> int:
        """Ask it to end and wait; kill its group when it does not, after each process told where it hangs."""
        if self.popen.poll() is None:
            self.popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.popen.wait(timeout)
            self._reader.join(timeout)
            return status
        os.killpg(self.pid, signal.SIGABRT)  # faulthandler prints the stacks of all threads
        self._reader.join(5)
        self.kill()
        # Not from within the handler, and not from None: what failed before, and is why it hangs, stays to be seen.
        raise AssertionError(f"{self.arguments} did not end within {timeout} s of SIGTERM:\n{self.output}")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(what: Callable[[], Value], told: str, timeout: float = 20) -> Value:
    """The first true value of ``what()``; an ``OSError`` counts as not yet."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    reason: object = "still false"
    while time.monotonic() < deadline:
        try:
            if value := what():
                return value
        except OSError as error:
            reason = error
        pause.wait(0.05)
    raise AssertionError(f"{told} within {timeout} s: {reason}")


def fetch(url: str, timeout: float = 10) -> str:
    """The body of a page."""
    with urllib.request.urlopen(url, timeout=timeout) as response:
        body: bytes = response.read()
        return body.decode()


def copy_examples(to: Path) -> Path:
    """A copy of ``examples/`` that a test may edit."""
    return shutil.copytree(EXAMPLES, to / "examples", ignore=shutil.ignore_patterns("var", "__pycache__"))


class Site:
    """One of the two examples, served by real processes on ports of their own."""

    def __init__(self, project: Path, layer: Path) -> None:
        self.project = project
        self.env = {"CHAT_LAYER": str(layer), "DJANGO_SETTINGS_MODULE": "demo.settings"}
        self.target = "demo.asgi:channel_layer" if project.name == "talk" else "demo.asgi:application"

    @contextmanager
    def server(self, port: int, *options: str) -> Iterator[Process]:
        """A protocol server that accepts connections."""
        arguments = ("-m", "fastchannels", "server", self.target, "--bind", "127.0.0.1", "--port", str(port), *options)
        with Process(*arguments, cwd=self.project, env=self.env) as process:
            eventually(lambda: self._listens(process, port), "the server listened")
            yield process

    @contextmanager
    def workers(self, count: int) -> Iterator[list[Process]]:
        """Worker processes; they need not be ready: messages wait for them."""
        if count == 0:
            yield []
            return
        arguments = ("-m", "fastchannels", "worker", self.target)
        with Process(*arguments, cwd=self.project, env=self.env) as process, self.workers(count - 1) as others:
            yield [process, *others]

    @staticmethod
    def _listens(process: Process, port: int) -> bool:
        assert process.alive, f"the server ended:\n{process.output}"
        with socket.create_connection(("127.0.0.1", port), 5):
            return True
