import os
import signal
import sys
import threading

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from fastchannels.layers.local import LocalChannelLayer
from fastchannels.management.commands import runworker
from tests.flows.processes import eventually
from tests.management.commands.project import Project

LOCAL = {"default": {"BACKEND": "fastchannels.layers.local.LocalChannelLayer"}}


def run(*arguments):
    # Not in the main thread, so that signal handlers stay as they are.
    call_command("runworker", *arguments, skip_checks=True)


@pytest.mark.parametrize(
    ("settings", "arguments", "text"),
    [
        ({}, [], "lives in one process only.*LocalChannelLayer"),
        ({}, ["--layer", "defualt"], "did you mean 'default'"),
        ({"FASTCHANNELS_ROUTING": None, "CHANNEL_LAYERS": LOCAL}, [], "has no routing"),
        (
            {"FASTCHANNELS_ROUTING": {"default": "x.y"}, "CHANNEL_LAYERS": LOCAL},
            [],
            "module x",
        ),
        ({"CHANNEL_LAYERS": LOCAL}, ["--only-channels", "x"], "leave no channel"),
        ({"CHANNEL_LAYERS": LOCAL}, ["--processes", "0"], "--processes 0"),
        ({"CHANNEL_LAYERS": LOCAL}, ["--processes", "2", "--reload"], "for one process"),
        ({}, ["thumbnails"], "Channels 4, which is not in INSTALLED_APPS.*--only-channels"),
    ],
)
def test_what_it_cannot_do_is_one_line(settings, arguments, text):
    with override_settings(**settings), pytest.raises(CommandError, match=text):
        run(*arguments)


def test_channel_names_are_for_channels_4(monkeypatch):
    from channels.management.commands.runworker import Command

    handled = []
    monkeypatch.setattr(Command, "handle", lambda self, *args, **options: handled.append(options))
    with override_settings(INSTALLED_APPS=["fastchannels", "channels"]):
        run("thumbnails", "mails", "--layer", "other")
        with pytest.raises(CommandError, match="--reload"):
            run("thumbnails", "--reload")
    assert handled == [{"channels": ["thumbnails", "mails"], "layer": "other", "verbosity": 1}]


def test_options_reach_the_workers(monkeypatch):
    seen = []
    monkeypatch.setattr(runworker, "run_workers", lambda layer, **options: seen.append((layer.alias, options)))
    run(
        "--threads=3", "--only-channels=a*", "--only-channels=b*", "--exclude-channels=c", "--shutdown-timeout=2", "-v0"
    )
    run("-v2")
    [(alias, first), (_, second)] = seen
    assert alias == "default"
    assert first.pop("http_consumer") is not None
    assert first == {
        "threads": 3,
        "only_channels": ["a*", "b*"],
        "exclude_channels": ["c"],
        "callback": None,
        "shutdown_timeout": 2.0,
        "deadline": 60.0,
        "async_limit": 1000,
    }
    assert second["callback"] is not None


def test_the_log_is_set_up_only_where_nobody_did(monkeypatch):
    import logging

    logger = logging.getLogger("fastchannels")
    before = logger.handlers[:], logger.level
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    try:
        runworker.set_up_log(2)
        runworker.set_up_log(0)
        assert len(logger.handlers) == len(before[0]) + 1
        assert logger.level == logging.INFO
        logger.handlers.clear()
        runworker.set_up_log(1, logging.INFO)
        assert logger.level == logging.INFO
    finally:
        logger.handlers[:], logger.level = before


def test_the_projects_own_directories():
    # The apps of the tests were installed, all but ours, and ours is no project's own.
    assert runworker.project_directories() == []


@pytest.mark.skipif(sys.platform == "win32", reason="shared memory of POSIX systems")
class TestProcess:
    @pytest.fixture
    def project(self, tmp_path):
        return Project(tmp_path)

    @pytest.fixture
    def layer(self, project):
        layer = LocalChannelLayer(path=str(project.root / "layer"), size=4 * 1024 * 1024)
        yield layer
        layer.close_sync()

    def test_answers_until_sigterm(self, project, layer):
        with project.manage("runworker", "--threads=2", "-v2") as process:
            request = {"method": "GET", "path": "/pid/", "headers": [], "reply_channel": "replies"}
            layer.send_sync("http.request", request)
            _, reply = layer.receive_many(["replies"], block=True, timeout=20)
            assert reply["content"].decode() == str(process.pid)
            layer.send_sync("websocket.receive", {"text": "x", "reply_channel": "replies"})
            assert layer.receive_many(["replies"], block=True, timeout=20)[1] == {"text": "one x"}
            process.popen.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert "http.request /pid/" in process.output
        assert "Stopping; running consumers have 30 s, a second signal stops at once" in process.output

    def test_an_error_of_a_consumer_is_seen(self, project, layer):
        project.edit("shop/consumers.py", 'WORD = "one"', "WORD = None")
        with project.manage("runworker", "--threads=2") as process:
            process.wait_for(r"listening on http.*; threads: 2; channel layer default: LocalChannelLayer\(path=")
            layer.send_sync("websocket.receive", {"text": "x", "path": "/chat/", "reply_channel": "replies"})
            process.wait_for(r"consumer shop.consumers.receive failed on websocket.receive \(path /chat/")
            process.wait_for("TypeError")

    def test_routing_that_cannot_be_imported(self, project):
        project.edit("shop/routing.py", "shop.consumers.receive", "shop.consumerz.receive")
        with project.manage("runworker") as process:
            assert process.wait() == 1
        assert "module shop.consumerz does not exist (did you mean shop.consumers?)" in process.output
        assert "Traceback" not in process.output

    def test_reload_starts_the_edited_consumer(self, project, layer):
        def answer():
            layer.send_sync("websocket.receive", {"text": "x", "reply_channel": "replies"})
            return layer.receive_many(["replies"], block=True, timeout=20)[1]

        with project.manage("runworker", "--reload") as process:
            assert answer() == {"text": "one x"}
            project.edit("shop/consumers.py", '"one"', '"two"')
            eventually(
                lambda: answer() == {"text": "two x"} or not project.touch("shop/consumers.py"),
                "the edited consumer ran",
            )
            assert process.alive

    def test_it_ends_with_its_parent(self, project, monkeypatch):
        """What runserver starts must not go on without it."""
        pid = os.getpid()
        parents, ended = [1], threading.Event()
        monkeypatch.setattr(runworker.os, "getppid", lambda: parents[0])
        monkeypatch.setattr(runworker.os, "kill", lambda *arguments: (ended.set(), parents.append(arguments)))
        runworker.watch_parent()
        assert not ended.is_set()
        parents[0] = 2
        assert ended.wait(10)
        assert parents[1] == (pid, signal.SIGTERM)
