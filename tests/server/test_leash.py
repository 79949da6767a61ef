"""What a worker hears from its supervisor."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastchannels.server.leash import CUT, DRAIN, READY, SPENT, Leash
from tests.server.support import until


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Leash(ours), theirs


def follow(leash):
    heard = []
    leash.follow(asyncio.get_running_loop(), lambda: heard.append("drain"), lambda: heard.append("cut"))
    return heard


async def test_words_of_the_supervisor(ends):
    leash, supervisor = ends
    heard = follow(leash)
    supervisor.send(DRAIN)
    await until(lambda: heard == ["drain"], "the word")
    supervisor.send(CUT)
    await until(lambda: heard == ["drain", "cut"], "the word")


async def test_a_supervisor_that_died(ends):
    leash, supervisor = ends
    heard = follow(leash)
    supervisor.close()
    await until(lambda: heard == ["drain"], "the word")
    leash.tell_ready()


def test_words_to_the_supervisor(ends):
    leash, supervisor = ends
    leash.tell_ready()
    leash.tell_spent()
    supervisor.settimeout(5)
    assert supervisor.recv(10) == READY + SPENT
