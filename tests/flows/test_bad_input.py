"""Mistakes in the settings or on the command line: one line that says what to change, and a status that is not 0."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.flows.processes import EXAMPLES, Process, copy_examples


def run(command: str, project: Path, layer: Path, *arguments: str) -> str:
    """What the command said before it gave up."""
    with Process("-m", "fastchannels", command, *arguments, cwd=project, env={"CHAT_LAYER": str(layer)}) as process:
        assert process.wait() not in (0, None)
    assert process.output.count("\n") == 1, process.output
    return process.output


def edit(path: Path, old: str, new: str) -> None:
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new))


@pytest.mark.parametrize("command", ["server", "worker"])
def test_unknown_option_of_a_layer(command: str, tmp_path: Path) -> None:
    project = copy_examples(tmp_path) / "talk"
    edit(project / "demo/settings.py", '"CONFIG": {', '"CONFIG": {"capacty": 5, ')
    said = run(command, project, tmp_path / "layer", "demo.asgi:channel_layer")
    assert "'capacty'" in said
    assert "did you mean 'capacity'?" in said


@pytest.mark.parametrize("command", ["server", "worker"])
def test_backend_that_does_not_exist(command: str, tmp_path: Path) -> None:
    project = copy_examples(tmp_path) / "talk"
    edit(project / "demo/settings.py", "LocalChannelLayer", "LokalChannelLayer")
    assert "LokalChannelLayer" in run(command, project, tmp_path / "layer", "demo.asgi:channel_layer")


@pytest.mark.parametrize("target", ["demo.routing.nothing", "nowhere.routing"])
def test_routing_that_cannot_be_imported(target: str, tmp_path: Path) -> None:
    project = copy_examples(tmp_path) / "talk"
    edit(project / "demo/settings.py", "demo.routing.channel_routing", target)
    said = run("worker", project, tmp_path / "layer", "demo.asgi:channel_layer")
    assert target in said


@pytest.mark.parametrize("command", ["server", "worker"])
@pytest.mark.parametrize(
    ("target", "wrong"), [("demo.asgi:channel_lyer", "'channel_lyer'"), ("nowhere.asgi:channel_layer", "'nowhere'")]
)
def test_target_that_cannot_be_imported(command: str, target: str, wrong: str, tmp_path: Path) -> None:
    assert wrong in run(command, EXAMPLES / "talk", tmp_path / "layer", target)


def test_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = run("server", EXAMPLES / "talk", tmp_path / "layer", "demo.asgi:channel_layer", "--port", port)
    assert port in said


def test_an_asgi_application_has_no_workers(tmp_path: Path) -> None:
    said = run("worker", EXAMPLES / "channels4", tmp_path / "layer", "demo.asgi:application")
    assert "demo.asgi:application" in said
