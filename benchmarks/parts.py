"""The processes of a benchmark: a Redis of its own, drivers, servers; all ended by the one that started them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.records import Figures, share

HERE = Path(__file__).parent
ROOT = HERE.parent
OURS = sys.executable
PEERS = str(ROOT / ".venv-peers" / "bin" / "python")
ORACLE = str(ROOT / ".venv-oracle" / "bin" / "python")
NODE_MODULES = ROOT / ".venv-peers" / "node_modules"
DEADLINE = 60.0  # seconds that any one step may take
QUIET: dict[str, object] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


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
        below = tree(process.pid)[1:] if process.poll() is None else []
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in filter(alive, below):  # workers of a server that had to be killed
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def end_all(ids: Sequence[int]) -> None:
    """End processes and what is below them, those with thousands of sockets too: nobody waits for goodbyes."""
    every = [process for pid in ids for process in tree(pid)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in every:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        end = time.monotonic() + 2
        while time.monotonic() < end and any(map(alive, every)):
            time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not (Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


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


def shared_folder() -> tempfile.TemporaryDirectory[str]:
    """A directory for a local layer, where memory is, as the layer's own default."""
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    return tempfile.TemporaryDirectory(prefix="fc-bench-", dir=where)


class Rival(NamedTuple):
    """What serves in a row: an interpreter and the command lines of its processes by their names, the server's first.

    In command lines and environment PORT stands for its port, PORTS for those of one process that serves all, ADDRESS
    for where its layer is: the URL of a Redis of its own (``layer`` is "redis") or a path of its own ("local").
    ``needs``: modules that the interpreter must find.
    """

    python: str
    commands: Mapping[str, tuple[str, ...]]
    layer: str = ""
    environment: Mapping[str, str] = {}
    needs: str = ""


@contextlib.contextmanager
def serving(rival: Rival, ports: Sequence[int]) -> Iterator[dict[str, int]]:
    """The processes of ``rival`` by name, one server for each of ``ports``; all accept connections."""
    with contextlib.ExitStack() as stack:
        ids: dict[str, int] = {}
        address = ""
        if rival.layer == "redis":
            address, process = stack.enter_context(redis_process())
            ids["redis"] = process.pid
        elif rival.layer == "local":
            address = stack.enter_context(shared_folder()) + "/layer"

        def filled(text: str, port: int) -> str:
            every = ",".join(map(str, ports))
            return text.replace("PORTS", every).replace("PORT", str(port)).replace("ADDRESS", address)

        environment = {**os.environ, **{name: filled(value, 0) for name, value in rival.environment.items()}}
        for number, (name, words) in enumerate(rival.commands.items()):
            for index, port in enumerate(ports if number == 0 and "PORTS" not in words else ports[:1]):
                command = [rival.python, *(filled(word, port) for word in words)]
                said = stack.enter_context(tempfile.TemporaryFile("w+"))
                process = stack.enter_context(running(command, env=environment, stdout=subprocess.DEVNULL, stderr=said))
                ids[f"{name} {index + 1}" if index else name] = process.pid
                for each in () if number else ports if "PORTS" in words else (port,):
                    try:
                        wait_for_port(each, process)
                    except RuntimeError as error:
                        said.seek(0)
                        raise RuntimeError(f"{name}: {said.read().strip().rpartition(chr(10))[2] or error}") from None
        try:
            yield ids
        finally:
            end_all(list(ids.values()))


@functools.cache
def lacks(python: str, modules: str) -> str:
    """Why ``python`` cannot import ``modules``; empty when it can."""
    if not Path(python).exists():
        return f"no {Path(python).parent.parent.name}"
    done = subprocess.run([python, "-c", f"import {modules}"], capture_output=True, text=True)
    return done.stderr.strip().rpartition("\n")[2] if done.returncode else ""


class Meter:
    """The CPU that processes use from its making on."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self.processes = processes
        self.before = {name: cpu_seconds(pid) for name, pid in processes.items()}
        self.begun = time.monotonic()

    def read(self) -> tuple[float, Figures]:
        """Seconds of CPU of all together, and the share of a core that each used."""
        took = time.monotonic() - self.begun
        used = {name: cpu_seconds(pid) - self.before[name] for name, pid in self.processes.items()}
        return sum(used.values()), {share(name): seconds / took for name, seconds in used.items()}


def compiled(name: str, units: Sequence[str] = ()) -> str:
    """The program of ``c/NAME.c`` and of units of ``src_c``, compiled again when one of them is newer."""
    sources = [HERE / "c" / f"{name}.c", *(ROOT / "src_c" / f"{unit}.c" for unit in units)]
    program = ROOT / "build" / "benchmarks" / name
    newest = max(path.stat().st_mtime for path in (*sources, *(ROOT / "src_c").glob("*.h")))
    if not program.exists() or program.stat().st_mtime < newest:
        program.parent.mkdir(parents=True, exist_ok=True)
        fresh = program.with_suffix(f".{os.getpid()}")
        command = ["cc", "-std=c11", "-O2", "-D_GNU_SOURCE", f"-I{ROOT / 'src_c'}", "-o", str(fresh)]
        subprocess.run([*command, *map(str, sources), "-lpthread"], check=True)
        fresh.rename(program)  # another run may be starting the old one
    return str(program)


def allow_files(wanted: int) -> int:
    """Let this process and those it starts open ``wanted`` files, as far as the system allows; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # only the superuser may raise the hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return min(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def next_record(process: subprocess.Popen[str]) -> dict[str, float]:
    """The next JSON line that ``process`` prints.

    :raises RuntimeError: it ended; with what it said on standard error, when that is a pipe.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        said = process.stderr.read().strip() if process.stderr else ""
        raise RuntimeError(said or f"its process ended with {process.wait()} and no figures; the terminal has why")
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
    # clock_getcpuclockid(3), which Python has not: to the nanosecond, where /proc counts in ticks of 10 ms.
    return sum(time.clock_gettime(~process << 3 | 2) for process in tree(pid))


def resident(pid: int) -> int:
    """Bytes of memory that a process and its children hold (Linux)."""
    pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")
