import logging
import os
import signal
import sys
import urllib.error
import urllib.request

import pytest
from django.test import override_settings
from websockets.sync.client import connect

from fastchannels.management.commands import runserver
from tests.flows.processes import eventually, fetch, free_port
from tests.management.commands.project import Project

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the project uses shared memory of POSIX systems")


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def port():
    return free_port()


def said(socket, text="x"):
    socket.send(text)
    return socket.recv(timeout=20)


def served(port, path="/pid/"):
    return eventually(lambda: fetch(f"http://127.0.0.1:{port}{path}"), f"{path} was served", timeout=30)


def listening(process):
    process.wait_for("Starting development server at http://127.0.0.1:")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class TestChannelMode:
    def test_an_edited_consumer_runs_and_the_socket_stays_open(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            first = int(served(port))
            assert first != process.pid
            with connect(f"ws://127.0.0.1:{port}/chat/") as socket:
                assert said(socket) == "one x"
                project.edit("shop/consumers.py", '"one"', '"two"')
                eventually(lambda: said(socket) == "two x", "the edited consumer ran", timeout=30)
                second = int(served(port))
            assert second != first
            process.wait_for(r"\[[\d/]+ [\d:]+\] HTTP GET /pid/ 200 \[\d+\.\d\d, 127\.0\.0\.1:\d+\]")
            process.wait_for(r"WebSocket HANDSHAKING /chat/ \[127\.0\.0\.1:\d+\]")
            process.wait_for(r"WebSocket CONNECT /chat/ \[")
            process.wait_for(r"WebSocket DISCONNECT /chat/ \[")
            process.interrupt()
            assert process.wait() == 0
            assert not alive(second)
        assert "Traceback" not in process.output

    def test_a_consumer_that_cannot_be_imported_and_is_mended(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            with connect(f"ws://127.0.0.1:{port}/") as socket:
                assert said(socket) == "one x"
                project.edit("shop/consumers.py", 'WORD = "one"', "WORD = = 1")
                process.wait_for("SyntaxError")
                project.edit("shop/consumers.py", "WORD = = 1", 'WORD = "three"')
                eventually(lambda: said(socket) == "three x", "the mended consumer ran", timeout=30)

    def test_a_project_that_cannot_start_and_is_mended(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            with connect(f"ws://127.0.0.1:{port}/") as socket:
                assert said(socket) == "one x"
                project.write("shop/models.py", "import nowhere\n")
                project.edit("shop/consumers.py", '"one"', '"two"')
                process.wait_for("The worker ended with status 1. It starts again when a file of the project changes.")
                project.edit("shop/models.py", "import nowhere", "")
                eventually(lambda: said(socket) == "two x", "the mended project ran", timeout=30)

    def test_the_worker_ends_with_a_server_that_was_killed(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            worker = int(served(port))
            os.kill(process.pid, signal.SIGKILL)
            eventually(lambda: not alive(worker), "the worker ended")

    def test_static_files(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            assert served(port, "/static/shop.css") == "body {}"
        with project.manage("runserver", str(port), "--nostatic") as process:
            listening(process)
            served(port)
            with pytest.raises(urllib.error.HTTPError, match="404") as refused:
                fetch(f"http://127.0.0.1:{port}/static/shop.css")
            refused.value.close()

    def test_in_one_process_without_the_reloader(self, project, port):
        with project.manage("runserver", str(port), "--noreload") as process:
            listening(process)
            assert int(served(port)) == process.pid
            with connect(f"ws://127.0.0.1:{port}/") as socket:
                assert said(socket) == "one x"
            process.interrupt()
            assert process.wait() == 0

    def test_a_layer_in_memory_reloads_as_a_whole_and_says_so(self, project, port):
        project.settings("""
            CHANNEL_LAYERS = {"default": {"BACKEND": "fastchannels.layers.memory.InMemoryChannelLayer"}}
        """)
        with project.manage("runserver", str(port)) as process:
            process.wait_for("sockets close at each reload.*LocalChannelLayer")
            listening(process)
            first = served(port)
            with connect(f"ws://127.0.0.1:{port}/") as socket:
                assert said(socket) == "one x"
                project.edit("shop/consumers.py", '"one"', '"two"')
                # The end of the socket comes as an exception; its code tells that the server went in good order.
                eventually(
                    lambda: _closed(socket) or not project.touch("shop/consumers.py"), "the socket closed", timeout=30
                )
            assert socket.close_code == 1012
            eventually(lambda: served(port) != first, "a new process served")
            with connect(f"ws://127.0.0.1:{port}/") as socket:
                assert said(socket) == "two x"

    def test_bad_routing_in_the_settings_is_told_and_may_be_mended(self, project, port):
        project.settings("FASTCHANNELS_ROUTING = {'defualt': 'shop.routing.channel_routing'}\n")
        with project.manage("runserver", str(port)) as process:
            process.wait_for("FASTCHANNELS_ROUTING names the layer 'defualt'.* did you mean 'default'")
            project.edit("site_settings/settings.py", "defualt", "default")
            eventually(
                lambda: project.touch("site_settings/settings.py") and fetch(f"http://127.0.0.1:{port}/pid/"), "served"
            )
            # The first process is Django's own reloader here, since our app could not be loaded when it started.
            assert process.terminate() == 0


def _closed(socket):
    try:
        socket.send("still there?")
        socket.recv(timeout=1)
    except TimeoutError:
        return False
    except Exception:
        return True
    return False


def test_a_port_that_is_taken_is_one_line(project, port):
    import socket

    with socket.create_server(("127.0.0.1", port)):
        for options in ([], ["--noreload"]):
            with project.manage("runserver", str(port), *options) as process:
                assert process.wait() == 1
            assert f"Error: cannot listen on 127.0.0.1:{port}: Address already in use" in process.output
            assert "Traceback" not in process.output


def test_a_message_that_is_too_large(project, port):
    project.settings("DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = 1000\n")
    with project.manage("runserver", str(port), "--noreload") as process:
        listening(process)
        with connect(f"ws://127.0.0.1:{port}/") as socket:
            assert said(socket, "x" * 1000) == "one " + "x" * 1000
            socket.send("x" * 1001)
            eventually(lambda: _closed(socket), "the socket closed")
            assert socket.close_code == 1009


class TestWithoutRouting:
    @pytest.fixture(autouse=True)
    def settings(self, project):
        project.settings("FASTCHANNELS_ROUTING = None\nASGI_APPLICATION = 'shop.asgi.application'\n")

    def test_the_asgi_application_is_served_and_reloaded(self, project, port):
        with project.manage("runserver", str(port)) as process:
            listening(process)
            assert served(port, "/") == "asgi one"
            assert served(port, "/static/shop.css") == "body {}"
            project.edit("shop/asgi.py", "asgi one", "asgi two")
            url = f"http://127.0.0.1:{port}/"
            eventually(
                lambda: fetch(url) == "asgi two" or not project.touch("shop/asgi.py"), "the edited one ran", timeout=30
            )
            process.wait_for(r"HTTP GET / 200 \[")
            process.interrupt()
            # Ctrl-C of a terminal reaches the whole group; here the reloader hears of it alone.
            process.wait(20)

    def test_noasgi_is_djangos_own(self, project, port):
        with project.manage("runserver", str(port), "--noasgi", "--noreload") as process:
            served(port)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/static/shop.css", timeout=10) as response:
                assert response.headers["Server"].startswith("WSGIServer")
            assert process.alive

    def test_an_application_that_cannot_be_imported(self, project, port):
        project.settings("ASGI_APPLICATION = 'shop.asgy.application'\n")
        with project.manage("runserver", str(port), "--noreload") as process:
            assert process.wait() == 1
        assert "module shop.asgy does not exist (did you mean shop.asgi?)" in process.output
        assert "Traceback" not in process.output

    def test_without_an_application_it_is_djangos_own(self, project, port):
        project.settings("del ASGI_APPLICATION\n")
        with project.manage("runserver", str(port), "--noreload") as process:
            served(port)
            assert process.alive


@pytest.fixture
def request_log(monkeypatch):
    """Records of the logger, which settings.LOGGING has given a handler."""
    records = []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(record)

    logger = logging.getLogger("django.channels.server")
    monkeypatch.setattr(logger, "handlers", [Keep()])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()
    yield records
    logger.manager._clear_cache()


def test_lines_of_responses_and_sockets(request_log):
    command = runserver.Command(no_color=True)
    command.set_up_request_log()
    for status in (101, 200, 302, 304, 400, 404, 500):
        details = {"status": status, "method": "GET", "path": "/%s", "client": "10.0.0.1:5", "time_taken": 0.051}
        command.log_action("http", "complete", details)
    for action in ("connecting", "connected", "rejected", "disconnected"):
        command.log_action("websocket", action, {"path": "/chat/", "client": "10.0.0.1:5"})
    texts = [record.getMessage() for record in request_log]
    assert texts[1] == "HTTP GET /%s 200 [0.05, 10.0.0.1:5]"
    assert texts[7:] == [
        f"WebSocket {word} /chat/ [10.0.0.1:5]" for word in ("HANDSHAKING", "CONNECT", "REJECT", "DISCONNECT")
    ]
    levels = [record.levelname for record in request_log]
    assert levels == ["INFO"] * 4 + ["WARNING"] * 2 + ["ERROR"] + ["INFO"] * 4


def test_sizes_of_messages_by_flag_or_by_the_setting_of_daphne():
    options = {"websocket_max_message_size": None, "websocket_max_frame_size": None}
    assert runserver._size_limit(options, "message", 9) == 9
    with override_settings(DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE=5, DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=6):
        assert (runserver._size_limit(options, "message", 9), runserver._size_limit(options, "frame", 9)) == (5, 6)
        assert runserver._size_limit({"websocket_max_message_size": 0}, "message", 9) == 0


def test_options_of_static_files_are_those_of_their_app(capsys):
    with override_settings(INSTALLED_APPS=["fastchannels"]):
        parser = runserver.Command().create_parser("manage.py", "runserver")
        parsed = parser.parse_args([])
        assert (parsed.use_static_handler, parsed.insecure_serving) == (True, False)
        assert "--nostatic" not in parser.format_help()
    with override_settings(INSTALLED_APPS=["fastchannels", "django.contrib.staticfiles"], STATIC_URL="/s/"):
        assert "--nostatic" in runserver.Command().create_parser("manage.py", "runserver").format_help()


def test_the_workers_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", [__file__, "runserver", "8000"])
    options = {"use_threading": False, "verbosity": 2, "no_color": True, "skip_checks": True, "pythonpath": "/x"}
    arguments = runserver._worker_arguments({**options, "insecure_serving": True, "use_static_handler": False})
    expected = (
        "runworker --reload --threads=1 --verbosity=2 --no-color --skip-checks --pythonpath=/x --insecure --nostatic"
    )
    assert arguments[-9:] == expected.split()
    assert arguments[0] == sys.executable
    assert sys.argv[1] == "runserver"
