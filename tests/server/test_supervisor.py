"""Several worker processes, as processes: nobody who connects notices a crash, a reload or a limit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import threading
import time

import pytest

from fastchannels.server.supervisor import Supervisor, _Worker
from tests.flows.processes import Process, copy_examples, eventually, fetch
from tests.server.programs import Program, ask_unix, edit, exists, make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


class Asker:
    """Asks again and again, over a new connection each time; ``failed`` holds what went wrong."""

    def __init__(self, program):
        self.program = program
        self.answers = []
        self.failed = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(2)]

    def run(self):
        while not self.ended.is_set():
            try:
                self.answers.append(self.program.ask())
            except Exception as error:
                self.failed.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        for thread in self.threads:
            thread.join(20)


def serving(program, count=2):
    """Wait until ``count`` workers serve."""
    eventually(lambda: len(program.workers()) >= count, f"{count} workers serve")
    return program.workers()


def test_each_worker_serves_and_all_end(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        pids = serving(program)
        told = eventually(
            lambda: set().union(*({program.ask()["pid"]} for _ in range(20))) == pids, "both workers answered"
        )
        assert told
        assert program.output.count("Listening on") == 1
        assert program.terminate() == 0
        assert not any(map(exists, pids))


def test_a_crash_is_made_good_and_costs_its_own_request_only(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        before = serving(program)
        with Asker(program) as asker:
            killed = next(iter(before))
            os.kill(killed, signal.SIGKILL)
            program.wait_for(rf"worker {killed} was killed by SIGKILL; another starts in 0\.5 s")
            new = serving(program, 3) - before
            eventually(lambda: any(answer["pid"] in new for answer in asker.answers), "the new worker answered")
        # What the killed worker had accepted is lost with it, no more.
        assert len(asker.failed) <= len(asker.threads)


def test_a_crash_again_and_again_is_not_answered_at_once(project):
    with Program(project, "-p", "0", "--workers", "1") as program:
        serving(program, 1)
        with contextlib.suppress(OSError, Exception):
            program.ask("/crash")
        program.wait_for(r"was killed by SIGSEGV; another starts in 0\.5 s")
        serving(program, 2)
        with contextlib.suppress(OSError, Exception):
            program.ask("/crash")
        program.wait_for(r"was killed by SIGSEGV; another starts in 1 s")


def test_sighup_loads_new_code_and_fails_nobody(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        before = serving(program)
        with Asker(program) as asker:
            slow = program.connect("/slow")
            response = slow.getresponse()
            edit(project, '"one"', '"two"')
            program.hang_up()
            serving(program, 4)
            eventually(lambda: not any(map(exists, before)), "the old workers ended")
            assert b'"one"' in response.read(), "a running response finishes in the old worker"
            slow.close()
            seen = len(asker.answers)
            eventually(lambda: len(asker.answers) > seen + 20, "answers of the new workers")
        assert asker.failed == []
        assert {answer["version"] for answer in asker.answers[seen + 2 :]} == {"two"}


def test_code_that_cannot_be_imported_replaces_nobody(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        before = serving(program)
        edit(project, 'VERSION = "one"', "VERSION = = broken")
        program.hang_up()
        program.wait_for(r"ended with status 2 before it served; the running workers stay")
        assert program.ask()["pid"] in before
        edit(project, "VERSION = = broken", 'VERSION = "three"')
        program.hang_up()
        serving(program, 4)
        eventually(lambda: not any(map(exists, before)), "the old workers ended")
        assert program.ask()["version"] == "three"


@pytest.mark.parametrize(
    ("target", "status", "line"),
    [
        ("proj.asgi:nothing", 2, "module 'proj.asgi' has no attribute 'nothing'"),
        ("proj.asgi:refuses_to_start", 1, "the application failed to start: no database"),
    ],
)
def test_a_worker_that_cannot_start_ends_the_whole(project, target, status, line):
    with Program(project, "-p", "0", "--workers", "3", target=target) as program:
        assert program.wait() == status
        assert program.output.count(line) == 1
        assert "Traceback" not in program.output


@pytest.mark.parametrize(
    ("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)]
)
def test_a_signal_lets_responses_finish(project, number, whole_group):
    with Program(project, "-p", "0", "--workers", "2") as program:
        serving(program)
        connection = program.connect("/slow")
        response = connection.getresponse()
        if whole_group:
            program.signal_group(number)
        else:
            program.popen.send_signal(number)
        assert b"pid" in response.read()
        connection.close()
        assert program.wait() == 0
        assert "Traceback" not in program.output


def test_second_sigterm_ends_at_once(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        pids = serving(program)
        connection = program.connect("/stuck")
        connection.getresponse()
        program.popen.terminate()
        program.wait_for("a second signal stops at once")
        begun = time.monotonic()
        program.popen.terminate()
        assert program.wait() == 0
        assert time.monotonic() - begun < 4
        assert not any(map(exists, pids))
        connection.close()


def test_workers_without_a_supervisor_end(project):
    with Program(project, "-p", "0", "--workers", "2") as program:
        pids = serving(program)
        program.popen.kill()
        eventually(lambda: not any(map(exists, pids)), "the workers ended")


def test_a_worker_is_replaced_after_its_requests(project):
    with Program(project, "-p", "0", "--limit-max-requests", "20") as program:
        (first,) = serving(program, 1)
        with Asker(program) as asker:
            serving(program, 3)
            eventually(lambda: not exists(first), "the first worker ended")
        assert asker.failed == []
        # It goes on serving until the next one does.
        assert [answer["pid"] for answer in asker.answers].count(first) >= 20
        assert "started again" not in program.output


def test_a_worker_whose_end_is_seen_before_its_socket():
    """Both are ready in one turn, and the signal comes first."""
    supervisor = Supervisor(1, 1.0, [])
    ours, theirs = socket.socketpair()
    with theirs, supervisor._waker, supervisor._wake, supervisor._selector:
        worker = _Worker(0, os.getpid(), ours, 0.0)
        supervisor._workers[worker.pid] = worker
        supervisor._selector.register(ours, selectors.EVENT_READ, lambda: supervisor._hear(worker))
        theirs.shutdown(socket.SHUT_WR)
        ((key, _),) = supervisor._selector.select(10)
        supervisor._forget(worker)
        key.data()
    assert not supervisor._workers


def test_a_unix_socket_is_shared_and_removed_at_the_end(project, tmp_path):
    path = tmp_path / "socket"
    with Program(project, "--uds", str(path), "--uds-mode", "600", "--workers", "2") as program:
        serving(program)
        assert path.stat().st_mode & 0o777 == 0o600
        assert '"pid"' in ask_unix(str(path))
        program.hang_up()
        serving(program, 4)
        assert '"pid"' in ask_unix(str(path))
        assert program.terminate() == 0
    assert not path.exists()


def test_channel_mode(tmp_path):
    talk = copy_examples(tmp_path) / "talk"
    layer = {"CHAT_LAYER": str(tmp_path / "layer")}
    with (
        Program(talk, "-p", "0", "--workers", "2", target="demo.asgi:channel_layer", **layer) as program,
        Process("-m", "fastchannels", "worker", "demo.asgi:channel_layer", cwd=talk, env=layer),
    ):
        serving(program)
        for _ in range(10):
            assert '"role": "worker"' in fetch(f"http://127.0.0.1:{program.port}/about/")
        assert program.terminate() == 0


class TestReload:
    @pytest.mark.parametrize("by", ["watchfiles", "polling"])
    def test_an_edit_is_served(self, project, by):
        if by == "polling":
            (project / "watchfiles.py").write_text("raise ImportError\n")
        with Program(project, "-p", "0", "--reload", "--reload-dir", "proj") as program:
            assert program.ask()["version"] == "one"
            # The watcher takes its first look after it has started; an edit before that would not be one.
            eventually(lambda: self.edited(project, program), "the edit is served")
            assert program.terminate() == 0

    @staticmethod
    def edited(project, program):
        source = (project / "proj" / "asgi.py").read_text()
        (project / "proj" / "asgi.py").write_text(source.replace('"one"', '"two"'))
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            if program.ask()["version"] == "two":
                return True
        (project / "proj" / "asgi.py").write_text(source)
        return False

    def test_a_mistake_waits_for_the_next_edit(self, project):
        (project / "proj" / "asgi.py").write_text("mistake(\n")
        with Program(project, "-p", "0", "--reload") as program:
            program.wait_for("it starts again when a file changes")

            def mended():
                make = project / "proj" / "asgi.py"
                make.write_text("from proj.whole import application\n" + "# again\n" * int(time.monotonic()))
                return program.workers()

            (project / "proj" / "whole.py").write_text(
                (project / "proj" / "__init__.py").read_text() + APPLICATION_OF_ITS_OWN
            )
            eventually(mended, "the mended application is served")
            assert program.ask() == {}
            program.ctrl_c()
            assert program.wait() == 0
            assert "Traceback" not in program.output.split("serves")[1]


APPLICATION_OF_ITS_OWN = """
async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"{}"})
"""
