"""The processes of a benchmark: a Redis of its own, drivers, servers; all ended by the one that started them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
OURS = sys.executable
PEERS = str(ROOT / ".venv-peers" / "bin" / "python")
DEADLINE = 60.0  # seconds that any one step may take


def wanted(name: str, words: list[str]) -> bool:
    """``name`` holds one of ``words``, or there are none."""
    return not words or any(word.lower() in name.lower() for word in words)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[str]) -> None:
    """Return when something accepts on ``port``; raise when ``process`` ended first or the deadline passed."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it served")
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not serve within {DEADLINE:.0f} s")


@contextlib.contextmanager
def running(command: list[str], cores: set[int] | None = None, **options: object) -> Iterator[subprocess.Popen[str]]:
    """``command`` for as long as the block runs, on ``cores`` when given."""
    pin = (lambda: os.sched_setaffinity(0, cores)) if cores and hasattr(os, "sched_setaffinity") else None
    process = subprocess.Popen(command, cwd=ROOT, text=True, preexec_fn=pin, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


@contextlib.contextmanager
def redis_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a Redis that keeps nothing on disk, and its process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        with running(command, stdout=subprocess.DEVNULL) as process:
            wait_for_port(port, process)
            yield f"redis://127.0.0.1:{port}/0", process


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """The URL of such a Redis."""
    with redis_process() as (url, _):
        yield url


def next_record(process: subprocess.Popen[str]) -> dict[str, float]:
    """The next JSON line that ``process`` prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()} and no figures")
    record: dict[str, float] = json.loads(line)
    return record


def tree(pid: int) -> list[int]:
    """``pid`` and all processes below it (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time so far, of a process, its threads, those that ended too, and its children (Linux)."""
    total = 0
    for process in tree(pid):
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold (Linux)."""
    pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")
