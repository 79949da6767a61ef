"""The commands, as processes and by their arguments."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastchannels import cli

DEADLINE = 20.0
ROOT = Path(__file__).resolve().parents[1]

APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": repr(scope["root_path"]).encode(), "more_body": True})
        if scope["path"] == "/slow":
            import asyncio
            await asyncio.sleep(0.5)
        if scope["path"] == "/stuck":
            import asyncio
            await asyncio.Event().wait()
        await send({"type": "http.response.body"})
    else:
        raise NotImplementedError

class Holder:
    inner = application

class AClass:
    pass

number = 5
"""

LAYER = """
import fastchannels.layers.memory
channel_layer = fastchannels.layers.memory.InMemoryChannelLayer()
"""


@pytest.fixture
def project(tmp_path):
    """A directory with modules to serve."""
    package = tmp_path / "proj"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "asgi.py").write_text(APPLICATION)
    (package / "layer.py").write_text(LAYER)
    (package / "broken.py").write_text("import json\n\nimport no_such_dependency\n")
    (package / "raises.py").write_text("raise RuntimeError('two\\nlines')\n")
    return tmp_path


class Process:
    """A command in ``directory``; its output is collected."""

    def __init__(self, directory, function, *arguments, env=None):
        code = f"import sys; from fastchannels import cli; sys.exit(cli.{function}())"
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.popen.stdout:
            with self.news:
                self.lines.append(line.rstrip())
                self.news.notify_all()

    def wait_for(self, pattern):
        with self.news:

            def find():
                return next((match for line in self.lines if (match := re.search(pattern, line))), None)

            found = self.news.wait_for(find, DEADLINE)
        assert found, "\n".join(self.lines)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.popen.poll() is None:
            self.popen.kill()
        self.end()

    def end(self):
        """Wait for the end; its status and its output."""
        status = self.popen.wait(DEADLINE)
        self.reader.join(DEADLINE)
        self.popen.stdout.close()
        return status, "\n".join(self.lines)

    @property
    def port(self):
        return int(self.wait_for(r"Listening on http://127\.0\.0\.1:(\d+)").group(1))


def get(port, path="/"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", path)
    return connection, connection.getresponse()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_finishes_at_a_signal(project, number):
    with Process(project, "server", "-p", "0", "--root-path", "/r", "-s", "mine", "proj.asgi:application") as process:
        connection, response = get(process.port, "/slow")
        assert response.getheader("server") == "mine"
        process.popen.send_signal(number)
        assert response.read() == b"'/r'"
        connection.close()
        status, output = process.end()
    assert status == 0, output
    assert re.search(r'127\.0\.0\.1:\d+ - - \[[^]]+\] "GET /slow" 200 4', output)


def test_second_signal_stops_at_once(project):
    with Process(project, "server", "-p", "0", "proj.asgi:application") as process:
        connection, _ = get(process.port, "/stuck")
        process.popen.send_signal(signal.SIGTERM)
        process.wait_for("second signal")
        process.popen.send_signal(signal.SIGTERM)
        status, output = process.end()
        connection.close()
    assert status == 0, output


def test_address_in_use(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Process(project, "server", "-p", str(port), "proj.asgi:application") as process:
            status, output = process.end()
    assert status == 1
    assert output.endswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
    assert "Traceback" not in output


def test_inherited_descriptor_and_no_access_log(project):
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        os.set_inheritable(given.fileno(), True)
        code = "import sys; from fastchannels import cli; sys.exit(cli.main())"
        with subprocess.Popen(
            [sys.executable, "-c", code, "server", "-v", "0", "--fd", str(given.fileno()), "proj.asgi:Holder.inner"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            pass_fds=[given.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as popen:
            connection, response = get(given.getsockname()[1])
            assert response.status == 200
            assert response.read() == b"''"
            connection.close()
            popen.send_signal(signal.SIGINT)
            assert popen.wait(DEADLINE) == 0
            assert popen.stdout.read() == b""


def test_channel_mode_is_recognised_by_the_object(project):
    with Process(project, "server", "-p", "0", "-t", "0.3", "proj.layer:channel_layer") as process:
        connection, response = get(process.port)
        assert response.status == 503, "there is no worker"
        connection.close()
        process.popen.send_signal(signal.SIGTERM)
        assert process.end()[0] == 0


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("proj.asgi", "'proj.asgi' is not module:attribute; did you mean 'proj.asgi:application'?"),
        ("proj.asgi:", "'proj.asgi:' is not module:attribute; did you mean 'proj.asgi:application'?"),
        ("prj.asgi:application", "there is no module 'prj'; did you mean 'proj'?"),
        ("proj.agsi:application", "there is no module 'proj.agsi'; did you mean 'proj.asgi'?"),
        ("proj.asgi:aplication", "module 'proj.asgi' has no attribute 'aplication'; did you mean 'application'?"),
        ("proj.asgi:Holder.iner", "proj.asgi:Holder has no attribute 'iner'; did you mean 'inner'?"),
        ("proj.layer:zzzzz", "module 'proj.layer' has no attribute 'zzzzz'; there is channel_layer, fastchannels"),
        (
            "proj.broken:application",
            "module 'proj.broken' cannot be imported: ModuleNotFoundError: No module named 'no_such_dependency' "
            "(DIR/proj/broken.py:3); -v 2 shows the traceback",
        ),
        (
            "proj.raises:application",
            "module 'proj.raises' cannot be imported: RuntimeError: two lines (DIR/proj/raises.py:1); "
            "-v 2 shows the traceback",
        ),
        ("proj.asgi:number", "proj.asgi:number is 5: neither an ASGI application nor a channel layer"),
        ("proj.asgi:AClass", "proj.asgi:AClass is a class: serve an instance, or what its as_asgi() returns"),
    ],
)
def test_targets_that_cannot_be_served(project, target, line):
    with Process(project, "server", target) as process:
        status, output = process.end()
    assert status == 2
    assert output.replace(str(project), "DIR") == f"fastchannels-server: {line}"


def test_options_of_the_environment_and_of_pyproject(project):
    (project / "pyproject.toml").write_text(
        "[tool.fastchannels]\napplication = 'proj.asgi:make'\nfactory = true\nport = 0\nserver-name = 'from-file'\n"
    )
    with (project / "proj" / "asgi.py").open("a") as module:
        module.write("\ndef make():\n    return application\n")
    with Process(project, "server", env={"FASTCHANNELS_ROOT_PATH": "/env", "FASTCHANNELS_PRT": "1"}) as process:
        connection, response = get(process.port)
        assert response.read() == b"'/env'"
        assert response.getheader("server") == "from-file"
        connection.close()
        process.wait_for("FASTCHANNELS_PRT in the environment is no option; did you mean FASTCHANNELS_PORT")


def test_factory_that_fails(project):
    (project / "proj" / "factory.py").write_text("def make():\n    raise RuntimeError('no')\n")
    with Process(project, "server", "--factory", "proj.factory:make") as process:
        status, output = process.end()
    assert status == 2
    assert output.replace(str(project), "DIR") == (
        "fastchannels-server: proj.factory:make() failed: RuntimeError: no (DIR/proj/factory.py:2); "
        "-v 2 shows the traceback"
    )


def test_traceback_when_asked(project):
    with Process(project, "server", "-v", "2", "proj.raises:application") as process:
        status, output = process.end()
    assert status == 2
    assert "Traceback" in output


def test_worker_needs_a_wrapped_layer(project):
    with Process(project, "worker", "proj.layer:channel_layer") as process:
        status, output = process.end()
    assert status == 2
    assert output.startswith("fastchannels-worker: proj.layer:channel_layer is ")
    assert "get_channel_layer()" in output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-v", "7", "a:b"], "--verbosity: '7': a whole number from 0 to 3 is needed"),
        (["-p", "x", "a:b"], "--port: 'x': a whole number from 0 to 65535 is needed"),
    ],
)
def test_arguments_that_make_no_sense(arguments, line, capsys):
    assert cli.server(arguments) == 2
    assert capsys.readouterr().err == f"fastchannels-server: {line}\n"


def test_unknown_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["server", "--prot", "1", "a:b"])
    assert ended.value.code == 2
    assert "there is no --prot; did you mean --port?" in capsys.readouterr().err


def test_no_target(capsys, monkeypatch):
    monkeypatch.setattr(cli, "_start", lambda *arguments: None)
    assert cli.server([]) == 2
    assert capsys.readouterr().err.startswith("fastchannels-server: what is to be served? Give module:attribute")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            [],
            {"host": "127.0.0.1", "port": 8000, "access_log": "-", "server_name": "fastchannels", "http_timeout": None},
        ),
        (["-b", "::1"], {"host": "::1", "port": 8000}),
        (["-u", "/s"], {"uds": "/s", "port": None}),
        (["-u", "/s", "-p", "9"], {"uds": "/s", "port": 9}),
        (["-u", "/s", "-b", "::"], {"uds": "/s", "host": "::", "port": 8000}),
        (["--fd", "5"], {"fd": 5, "port": None}),
        (["-v", "0"], {"access_log": None}),
        (["-v", "0", "--access-log", "f"], {"access_log": "f"}),
        (["-t", "9", "--ping-interval", "1", "--ping-timeout", "2"], {"http_timeout": 9, "ping_interval": 1}),
        (["--websocket_timeout", "-1", "--websocket_connect_timeout", "3"], {"websocket_timeout": -1}),
        (["--application-close-timeout", "4"], {"application_close_timeout": 4}),
        (["--no-server-name"], {"server_name": None}),
        (["--websocket-max-message-size", "7"], {"ws_max_size": 7}),
        (
            ["--ws-max-size", "8", "--ws-protocol", "a", "--ws-protocol", "b"],
            {"ws_max_size": 8, "ws_protocols": ["a", "b"]},
        ),
        (["--graceful-timeout", "1", "--drain-seconds", "2"], {"graceful_timeout": 1, "drain_seconds": 2}),
    ],
)
def test_flags(arguments, expected, monkeypatch):
    from fastchannels.server import server

    seen = []

    class Recorder:
        def __init__(self, config, **mode):
            assert mode.pop("listeners") is None
            seen.append((config, mode))

        def run(self, leash):
            assert leash is None

    monkeypatch.setattr(server, "Server", Recorder)
    monkeypatch.setattr(cli, "_start", lambda *arguments: None)
    assert cli.server([*arguments, "tests.test_cli:test_flags"]) == 0
    config, mode = seen[0]
    assert mode == {"application": test_flags}
    assert {key: getattr(config, key) for key in expected} == expected
