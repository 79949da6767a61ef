"""``make demo`` and ``make demo-check``."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.flows.processes import EXAMPLES, Process, eventually, free_port


@pytest.mark.timeout(150)
def test_the_demo_keeps_its_promise(tmp_path: Path) -> None:
    with Process(str(EXAMPLES / "demo_check.py"), cwd=tmp_path) as check:
        status = check.wait(120)
        assert status == 0, check.output
    assert "was killed (SIGKILL) while they talked" in check.output
    assert "FAILED" not in check.output


def test_an_occupied_port_gives_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Process(str(EXAMPLES / "demo.py"), "--port", str(port), cwd=tmp_path) as demo:
            assert demo.wait() == 1
    assert demo.output.count("\n") == 1
    assert f"port {port}: Address already in use" in demo.output
    assert f"--port {port + 1}" in demo.output


def test_the_demo_ends_when_its_server_dies(tmp_path: Path) -> None:
    with Process(str(EXAMPLES / "demo.py"), "--port", str(free_port()), cwd=tmp_path) as demo:
        demo.wait_for("Ctrl-C stops everything")
        server = int(demo.wait_for(r"server (\d+) +holds")[1])
        workers = [int(demo.wait_for(rf"(?s)(?:worker (\d+) +runs.*?){{{n}}}")[1]) for n in (1, 2)]
        os.kill(server, 9)
        assert demo.wait() == 1
    assert f"server {server} was ended by SIGKILL" in demo.output
    assert "Traceback" not in demo.output
    for pid in workers:
        eventually(lambda pid=pid: not running(pid), f"worker {pid} ended")  # type: ignore[misc]


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
