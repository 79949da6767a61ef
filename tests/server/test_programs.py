"""The server as a process: sockets of systemd, TLS, and what it says when it cannot start."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys

import pytest

from tests.flows.processes import Process, eventually
from tests.server.certificates import PASSWORD, Authority
from tests.server.programs import Program, ask_unix, make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


@pytest.fixture
def manager(tmp_path):
    """Where a service manager hears of its services."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


@pytest.mark.parametrize("more", [[], ["--workers", "2"]])
def test_a_service_of_systemd(project, manager, more):
    """It listens on the socket that was opened for it, and tells when it is ready, loads again and stops."""
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(project / "opened"))
        opened.listen()
        # As systemd does it: descriptor 3, and the variables for the process that the command becomes.
        start = (
            "import os, sys\n"
            f"os.dup2({opened.fileno()}, 3)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'fastchannels', 'server', *sys.argv[1:]])\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", start, *more, "proj.asgi:application"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": os.getcwd(), "NOTIFY_SOCKET": manager.getsockname()},
            pass_fds=[opened.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    try:
        assert manager.recv(100) == b"READY=1"
        assert '"pid"' in ask_unix(str(project / "opened"))
        if more:
            process.send_signal(1)  # SIGHUP
            assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(100) == b"READY=1"
        process.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
    assert (project / "opened").exists(), "the file is the manager's"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_tls_of_flags(project, authority, workers):
    certificate, key = authority.issue("localhost", PASSWORD)
    tls = ["--ssl-certfile", certificate, "--ssl-keyfile", key, "--ssl-keyfile-password", PASSWORD]
    with Program(project, "-p", "0", *tls, *workers) as program:
        assert program.ask(context=authority.client())["scheme"] == "https"
        assert f"Listening on https://127.0.0.1:{program.port}" in program.output


def test_sighup_takes_up_a_renewed_certificate(project, authority):
    certificate, key = authority.issue("localhost")
    tls = ["--ssl-certfile", certificate, "--ssl-keyfile", key]
    with Program(project, "-p", "0", *tls, "--workers", "1") as program:
        assert program.ask(context=authority.client())["scheme"] == "https"
        (project / "new").mkdir()
        renewed = Authority(project / "new", "renewed")
        for old, new in zip((certificate, key), renewed.issue("localhost"), strict=True):
            os.replace(new, old)
        program.hang_up()
        eventually(lambda: len(program.workers()) == 2, "the new worker serves")

        def seen():
            with contextlib.suppress(ssl.SSLError):
                return program.ask(context=renewed.client())["scheme"] == "https"

        eventually(seen, "the new certificate is shown")


def test_tls_of_an_endpoint_beside_others(project, authority):
    certificate, key = authority.issue("localhost")
    path = project / "socket"
    endpoints = [f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1", f"unix:{path}"]
    with Program(project, "-e", endpoints[0], "-e", endpoints[1]) as program:
        assert program.ask(context=authority.client())["scheme"] == "https"
        assert '"scheme": "http"' in ask_unix(str(path))


def in_use(project):
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["-p", "{port}"], 1, "cannot listen on 127.0.0.1:{port}: Address already in use"),
        (["--uds", "{project}/proj/asgi.py"], 1, "asgi.py: the file is there and is no socket"),
        (["--fd", "99"], 1, "cannot listen on file descriptor 99: Bad file descriptor"),
        (["-b", "no.such.host.invalid"], 1, "cannot listen on no.such.host.invalid:8000: "),
        (["-e", "tcp:port=x"], 2, "endpoint 'tcp:port=x': 'port=x': a whole number from 0 to 65535 is needed"),
        (["-p", "0", "--ssl-certfile", "nowhere.pem"], 1, "TLS: nowhere.pem: No such file or directory"),
        (["-p", "0", "--ssl-certfile", "proj/asgi.py"], 1, "hold no certificate and its key in PEM"),
        (["-p", "0", "--lifespan", "on"], 1, "the application has no lifespan, which --lifespan on asks for"),
        (["-p", "0", "--access-log", "{project}"], 1, "cannot write the access log {project}: Is a directory"),
    ],
)
def test_one_line_for_what_keeps_it_from_starting(project, workers, arguments, status, line):
    with in_use(project) as taken:
        values = {"port": taken.getsockname()[1], "project": project}
        arguments = [argument.format(**values) for argument in arguments]
        with Program(project, *arguments, *workers) as program:
            assert program.wait() == status
    told = [found for found in program.output.splitlines() if "Listening on" not in found and "Stopping;" not in found]
    assert line.format(**values) in told[0]
    assert len(told) == (2 if "before it served" in program.output else 1), program.output
    assert "Traceback" not in program.output


def test_no_permission(project):
    """A directory into which nobody may write; root may, so it is another user who tries."""
    (project / "locked").mkdir(mode=0o555)
    arguments = ["-m", "fastchannels", "server", "--uds", str(project / "locked" / "socket"), "proj.asgi:application"]
    become = (
        "import os, runpy, sys\n"
        "import fastchannels.cli, fastchannels.server.server\n"
        "os.geteuid() or os.seteuid(65534)\n"
        f"sys.argv = {arguments[1:]!r}\n"
        "runpy.run_module('fastchannels', run_name='__main__')\n"
    )
    for path in (project, *project.parents[:3]):
        if path.stat().st_uid == os.geteuid() and not path.stat().st_mode & 0o001:
            path.chmod(0o755)
    with Process("-c", become, cwd=project) as process:
        assert process.wait() == 1
    assert process.output.endswith("socket: Permission denied\n")
    assert process.output.count("\n") == 1


def test_threads_for_synchronous_code(project):
    (project / "proj" / "threads.py").write_text(
        "import asyncio, threading\n"
        "async def application(scope, receive, send):\n"
        "    gate = threading.Barrier(3)\n"
        "    wait = lambda: gate.wait(1)\n"
        "    loop = asyncio.get_running_loop()\n"
        "    waits = [loop.run_in_executor(None, wait) for _ in range(3)]\n"
        "    done = await asyncio.gather(*waits, return_exceptions=True)\n"
        "    met = not any(isinstance(one, Exception) for one in done)\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'{\"met\": %d}' % met})\n"
    )
    arguments = ["-p", "0", "--lifespan", "off"]
    with Program(project, *arguments, target="proj.threads:application", ASGI_THREADS="3") as program:
        assert program.ask() == {"met": 1}
    with Program(project, *arguments, "--threads", "2", target="proj.threads:application") as program:
        assert program.ask() == {"met": 0}
