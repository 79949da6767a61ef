"""Which changes of files count."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from fastchannels.server.reload import snapshot, watch
from tests.flows.processes import eventually


@pytest.fixture
def tree(tmp_path):
    for name in ("a.py", "b/c.py", "b/d.txt", "__pycache__/e.py", ".hidden/f.py", "env/pyvenv.cfg", "env/g.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return tmp_path


def test_python_files_of_the_project(tree):
    assert {os.path.relpath(path, tree) for path in snapshot([str(tree)])} == {"a.py", "b/c.py"}
    assert snapshot([str(tree / "nowhere")]) == {}


@pytest.mark.parametrize("installed", [True, False])
def test_changes_are_reported(tree, installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "watchfiles", None)
    reports, ended = [], threading.Event()
    thread = threading.Thread(
        target=watch, args=([str(tree)], lambda: reports.append(1), lambda: not ended.is_set()), daemon=True
    )
    thread.start()
    try:

        def seen():
            with (tree / "b" / "c.py").open("a") as file:
                file.write("#")
            return reports

        eventually(seen, "an edit is reported")
    finally:
        ended.set()
        thread.join(10)
    assert not thread.is_alive()
