"""Short runs of the suites themselves: rivals in turn, real servers and clients, losses counted, reasons given."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from benchmarks import broadcast
from benchmarks.__main__ import compare
from benchmarks.parts import (
    ROOT,
    Meter,
    Rival,
    alive,
    allow_files,
    compiled,
    cpu_seconds,
    free_port,
    lacks,
    next_record,
    running,
    serving,
    tree,
)
from benchmarks.records import LOST, Scenario, share


def test_rivals_take_turns_and_a_round_that_fails_costs_no_other():
    seen = []

    def measure(rival):
        seen.append(rival)
        if rival == "b" and len(seen) == 5:
            raise RuntimeError("b broke")
        if rival == "c":
            raise KeyError("p50")
        return {"messages/s": float(len(seen))}

    runs, failed = compare(Scenario(("a", "b", "c"), measure), ["a", "b", "c"], 3, lambda text: None)
    assert seen == ["a", "b", "c"] * 3
    assert failed == {"b": "1 of 3 rounds failed: b broke", "c": "3 of 3 rounds failed: KeyError: 'p50'"}
    assert {rival: len(done) for rival, done in runs.items()} == {"a": 3, "b": 2}


def test_what_a_client_said_is_the_reason():
    command = [sys.executable, "-c", "raise SystemExit('not all heard it')"]
    with (
        running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
        pytest.raises(RuntimeError, match=r"^not all heard it$"),
    ):
        next_record(process)


def test_what_it_said_on_the_terminal_is_not_told_twice():
    with (
        running([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE) as process,
        pytest.raises(RuntimeError, match=r"^its process ended with 3 and no figures; the terminal has why$"),
    ):
        next_record(process)


def test_no_worker_outlives_its_server():
    worker = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    server = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    with running([sys.executable, "-c", server], stdout=subprocess.PIPE) as process:
        next_record(process)
        _, child = tree(process.pid)
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


@pytest.mark.parametrize("rival", [broadcast.LOCAL, broadcast.CEILING])
def test_a_room_hears(rival):
    figures = broadcast.room(rival, broadcast.Size(20, 2), 0.2)
    assert figures[LOST] == 0
    assert figures[broadcast.WORK] > 0
    assert 0 < figures[broadcast.LAST] <= figures["send to last receipt p99, ms"]
    assert figures[share("client")] > 0


class Forgetful(threading.Thread):
    """Takes four members, and after some messages leaves one of them out."""

    answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"

    def __init__(self, whole: int) -> None:
        super().__init__(daemon=True)
        self.whole = whole
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(30)
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        with ExitStack() as stack:
            members = []
            for _ in range(4):
                member = stack.enter_context(self.listener.accept()[0])
                member.settimeout(30)
                while not member.recv(4096).endswith(b"\r\n\r\n"):
                    pass
                member.sendall(self.answer)
                members.append(member)
            with suppress(ConnectionResetError):
                while members[-1].recv(4096):
                    for member in members[: 4 if self.whole > 0 else 3]:
                        member.sendall(b"\x81\x40" + b"x" * 64)
                    self.whole -= 1


def test_what_does_not_arrive_is_counted():
    server = Forgetful(whole=10)
    server.start()
    command = [compiled("members"), str(server.port), "4", "1", "60", "64"]
    with server.listener:
        done = subprocess.run(command, input="\n", capture_output=True, text=True, timeout=60)
        server.join(30)
    ready, figures = map(json.loads, done.stdout.splitlines())
    assert ready == {"members": 4}
    assert figures["lost"] == 1
    assert figures["count"] == 4 * figures["rounds"]
    assert 0 < figures["rounds"] < 10


def test_a_missing_peer_has_a_reason():
    assert lacks(sys.executable, "no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"
    assert lacks(sys.executable, "json") == ""
    assert lacks(str(ROOT / "nowhere" / "bin" / "python"), "json") == "no nowhere"


def test_a_server_that_does_not_start_says_why():
    rival = Rival(sys.executable, {"server": ("-c", "raise SystemExit('no such thing')")})
    with pytest.raises(RuntimeError, match="server: no such thing"), serving(rival, [free_port()]):
        pass


def test_the_meter_tells_each_process_by_name():
    meter = Meter({"this": os.getpid()})
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) < before + 0.05:
        pass
    total, shares = meter.read()
    assert total >= 0.05
    assert 0 < shares[share("this")] <= 2


def test_the_limit_on_open_files_decides_how_many_processes():
    files = allow_files(10_000_000)
    assert broadcast.enough(broadcast.Size(10)).processes == 1
    assert broadcast.enough(broadcast.Size(3 * files)).processes >= 3


def test_a_suite_from_its_command_to_its_page(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--only", "servers", "--rounds", "2", "--seconds", "0.1"]
    command += ["--rows", "HTTP hello", "--rivals", "fastchannels", "--report", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "HTTP hello" in done.stdout
    rows = json.loads((tmp_path / "servers.json").read_text())["rows"]
    assert [row["figure"] for row in rows] == ["per server-CPU-second", "per second"]
    assert rows[0]["series"][0]["rival"] == "fastchannels"
    assert len(rows[0]["series"][0]["values"]) == 2
    assert set(rows[0]["series"][0]["cpu"]) == {"server", "client"}
    assert "HTTP hello" in (tmp_path / "index.html").read_text()
