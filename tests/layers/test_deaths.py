"""Being told of the end of processes; what sleepers make of it is in test_local_loop.py."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from fastchannels.layers.deaths import Deaths

from .waits import DEADLINE, needs_pidfd


def readable(deaths: Deaths, seconds: float) -> bool:
    return bool(select.select([deaths.fileno()], [], [], seconds)[0])


@needs_pidfd
def test_the_end_of_those_that_are_followed_is_told() -> None:
    deaths = Deaths()
    children = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    try:
        both = {(child.pid, 1) for child in children}
        assert deaths.follow(set)
        assert not deaths.follow(lambda: both)  # they might have ended before
        assert deaths.follow(lambda: both)
        assert not readable(deaths, 0)
        for child in children:
            child.kill()
            assert readable(deaths, DEADLINE)
            assert not deaths.follow(lambda: both)
            assert not readable(deaths, 0)
            assert not deaths.follow(lambda: both)  # until nobody asks for it any more
            child.communicate()
            both.discard((child.pid, 1))
            assert deaths.follow(lambda: both)
        gone = (children[0].pid, 1)
        assert not deaths.follow(lambda: {gone})
        assert deaths.watched == {gone: None}
        assert not deaths.follow(lambda: None)
        assert deaths.watched == {}
    finally:
        for child in children:
            child.kill()
            child.communicate()
    deaths.close()
    assert not deaths.follow(set)


def test_where_the_system_cannot_tell_nobody_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    deaths = Deaths()
    assert deaths.fileno() == -1
    assert not deaths.follow(set)
    deaths.close()
