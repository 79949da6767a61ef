"""Sockets from systemd, and word to it."""

from __future__ import annotations

import os
import socket

import pytest

from fastchannels.server.systemd import activated_sockets, notify, reloading


def test_activated_sockets():
    mine = str(os.getpid())
    assert activated_sockets({"LISTEN_PID": mine, "LISTEN_FDS": "2"}) == {3: "", 4: ""}
    assert activated_sockets({"LISTEN_PID": mine, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}) == {3: "a", 4: ""}


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": "own", "LISTEN_FDS": "x"}],
)
def test_sockets_that_are_not_ours(environment):
    if environment.get("LISTEN_PID") == "own":
        environment = {**environment, "LISTEN_PID": str(os.getpid())}
    assert activated_sockets(environment) == {}


@pytest.mark.parametrize("abstract", [False, True])
def test_notify(tmp_path, abstract):
    name = f"\0fastchannels-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        manager.settimeout(5)
        notify("READY=1", {"NOTIFY_SOCKET": name.replace("\0", "@")})
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", [None, "", "relative", "/nowhere/at/all"])
def test_nobody_to_notify(path):
    notify("READY=1", {} if path is None else {"NOTIFY_SOCKET": path})


def test_reloading_carries_the_time():
    assert reloading().startswith("RELOADING=1\nMONOTONIC_USEC=")
