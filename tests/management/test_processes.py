"""Workers in several processes, under their supervisor."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fastchannels.layers.local import LocalChannelLayer
from tests.flows.processes import Process, eventually
from tests.flows.site import ASGI
from tests.management.commands.project import Project

COMMANDS = [
    ["manage.py", "runworker", "--processes", "3"],
    ["-m", "fastchannels", "worker", "--processes", "3", "shop.asgi:channel_layer"],
]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("shop/asgi.py", ASGI)
    project.write("shop/consumers.py", """
        import os, time
        from fastchannels import Channel
        def receive(message):
            time.sleep(message.get("sleep", 0.02))
            Channel("answers").send({"pid": os.getpid()}, immediately=True)
    """)  # fmt: skip
    return project


@pytest.mark.parametrize("command", COMMANDS, ids=["runworker", "fastchannels-worker"])
def test_processes_are_kept_replaced_and_stopped(project: Project, command: list[str]) -> None:
    layer = LocalChannelLayer(path=str(project.root / "layer"), size=4 * 1024 * 1024)

    def pids() -> set[int]:
        """Who answers 30 messages."""
        for _ in range(30):
            layer.send_sync("websocket.receive", {"path": "/"})
        found = set()
        for _ in range(30):
            _, message = layer.receive_many(["answers"], block=True, timeout=20)
            assert message is not None
            found.add(message["pid"])
        return found

    def three(but: set[int] = frozenset()) -> Callable[[], set[int] | None]:  # type: ignore[assignment]
        def look() -> set[int] | None:
            found = pids()
            return found if len(found) == 3 and not found & but else None

        return look

    with Process(*command, cwd=project.root) as process:
        first = eventually(three(), "three processes answer", 60)
        assert process.pid not in first
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        second = eventually(three({killed}), "the killed one is replaced", 60)
        assert len(first & second) == 2
        process.popen.send_signal(signal.SIGHUP)
        third = eventually(three(second), "all are replaced", 60)
        layer.send_sync("websocket.receive", {"path": "/", "sleep": 1})
        # Taken, and so finished before the end.
        eventually(lambda: layer.channel_statistics("websocket.receive")["messages_pending"] == 0, "it is taken")
        assert process.terminate() == 0
    assert layer.receive_many(["answers"], block=True, timeout=10)[1]["pid"] in third  # type: ignore[index]
    layer.close_sync()
    for pid in first | second | third:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_keeps_them_from_starting_is_told_once(project: Project) -> None:
    project.write("shop/routing.py", "from shop import nothing")
    with Process(*COMMANDS[1], cwd=project.root) as process:
        assert process.wait() != 0
    assert process.output.count("cannot import name 'nothing'") == 1
