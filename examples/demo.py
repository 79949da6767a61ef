"""The chat of examples/talk: one protocol server and two workers, until Ctrl-C.

    python examples/demo.py [--host 127.0.0.1] [--port 8000]

The server holds the sockets, the workers run the consumers and views. Each child runs in a process group of its own, so
that Ctrl-C reaches only this process, which then ends the children by their pids.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

TALK = Path(__file__).resolve().parent / "talk"
TARGET = "demo.asgi:channel_layer"
WORKERS = 2
READY_WITHIN = 30.0  # seconds until the first page is served
STOP_WITHIN = 8.0  # seconds for a child to end by itself
QUICK_DEATH, QUICK_DEATHS = 3.0, 3  # a worker that dies this often, this soon after its start, will not live


class Child:
    """One process of the demo. Its lines are printed with its name before them, its end is put on ``events``."""

    def __init__(self, role: str, arguments: list[str], env: dict[str, str], events: queue.SimpleQueue) -> None:
        self.role = role
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastchannels", role, TARGET, *arguments],
            cwd=TALK,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self.reader.start()

    def _read(self, events: queue.SimpleQueue) -> None:
        for line in self.process.stdout:
            print(f"  {self} | {line}", end="", flush=True)
        self.process.wait()
        events.put(self)

    def __str__(self) -> str:
        return f"{self.role} {self.pid}"

    @property
    def fate(self) -> str:
        status = self.process.returncode
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def stop(self, deadline: float) -> None:
        """Ask it to end; kill it when it has not ended at ``deadline``."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                os.killpg(self.pid, number)
            try:
                self.process.wait(max(0.0, deadline - time.monotonic()) if number == signal.SIGTERM else STOP_WITHIN)
                break
            except subprocess.TimeoutExpired:
                say(f"{self} did not end in time: killing it")
        self.reader.join(STOP_WITHIN)
        self.process.stdout.close()


class Demo:
    """The server and its workers."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/"
        self.var = TALK / "var" / f"demo-{port}"
        self.env = {**os.environ, "CHAT_LAYER": str(self.var / "layer")}
        if host not in ("127.0.0.1", "localhost", "::1"):
            self.env["ALLOWED_HOSTS"] = "*"
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self.server: Child | None = None
        self.workers: list[Child] = []
        self.quick_deaths = 0

    def start(self) -> None:
        shutil.rmtree(self.var, ignore_errors=True)
        self.var.mkdir(parents=True)
        server = ["--bind", self.host, "--port", str(self.port), "-v", "0", "--graceful-timeout", "5"]
        self.server = Child("server", server, self.env, self.events)
        for _ in range(WORKERS):
            self.start_worker()

    def start_worker(self) -> Child:
        worker = Child("worker", ["-v", "0"], self.env, self.events)
        self.workers.append(worker)
        return worker

    def run(self) -> int:
        """Until a signal (0) or the end of the server (1)."""
        ready = threading.Thread(target=self.await_page, daemon=True)
        ready.start()
        while True:
            event = self.events.get()
            if isinstance(event, str):
                say(event)
            elif isinstance(event, signal.Signals):
                print(flush=True)  # below the ^C of the terminal
                return 0
            elif isinstance(event, Exception):
                say(f"stopping: {event}")
                return 1
            elif event is self.server:
                say(f"{event} {event.fate}: without it there is no demo")
                return 1
            elif not self.replace(event):
                return 1

    def replace(self, worker: Child) -> bool:
        """Start another worker for a dead one, unless workers die as soon as they start."""
        worker.stop(time.monotonic())
        self.workers.remove(worker)
        quick = time.monotonic() - worker.started < QUICK_DEATH
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        if self.quick_deaths == QUICK_DEATHS:
            say(f"{worker} {worker.fate}: {QUICK_DEATHS} workers died at once after their start, giving up")
            return False
        say(f"{worker} {worker.fate}: started {self.start_worker()}. The sockets stay open.")
        return True

    def await_page(self) -> None:
        """Say where the page is as soon as the server and a worker serve it."""
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}about/", timeout=5):
                    break
            except (OSError, urllib.error.URLError) as error:
                if time.monotonic() > deadline:
                    self.events.put(TimeoutError(f"{self.url} was not served within {READY_WITHIN:.0f} s ({error})"))
                    return
                time.sleep(0.05)
        roles = "\n".join(f"  {worker}   runs consumers and views" for worker in self.workers)
        self.events.put(
            f"The chat is served at {self.url}\n"
            f"\n  {self.server}   holds the sockets\n{roles}\n"
            f"  layer          shared memory, {os.path.relpath(self.var / 'layer')}\n"
            f"\nOpen the page in two windows. Kill a worker (kill -9 {self.workers[0].pid}) and go on talking."
            "\nCtrl-C stops everything."
        )

    def stop(self) -> None:
        """End the server first, while workers can still hear that its sockets closed, then the workers."""
        if self.server:
            self.server.stop(time.monotonic() + STOP_WITHIN)
        deadline = time.monotonic() + STOP_WITHIN
        for worker in self.workers:
            if worker.process.poll() is None:
                os.killpg(worker.pid, signal.SIGTERM)
        for worker in self.workers:
            worker.stop(deadline)
        shutil.rmtree(self.var, ignore_errors=True)


def say(text: str) -> None:
    print(text, flush=True)


def why_taken(host: str, port: int) -> str:
    """Why nobody can listen on ``host`` and ``port`` now; empty when one can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the chat of examples/talk: a protocol server and two workers.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default 8000)")
    options = parser.parse_args()
    if reason := why_taken(options.host, options.port):
        say(f"cannot listen on {options.host} port {options.port}: {reason}. Choose another: --port {options.port + 1}")
        return 1
    demo = Demo(options.host, options.port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: demo.events.put(signal.Signals(number)))
    say("Starting a protocol server and two workers")
    try:
        demo.start()
        status = demo.run()
    finally:
        demo.stop()
    if status == 0:
        say("Stopped: the server and the workers have ended.")
    return status


if __name__ == "__main__":
    sys.exit(main())
