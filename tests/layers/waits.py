"""Waits with a deadline, and calls in a thread or a forked child, for the tests of layers."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

DEADLINE = 10.0
HELLO = {"type": "hello"}

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot tell of a death")


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, within the deadline of every wait in these tests."""
    return await asyncio.wait_for(awaitable, DEADLINE)


async def until(condition: Callable[[], bool]) -> None:
    """Wait, with a deadline, for something that no call can be awaited for."""
    ends = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.005)


def in_thread(call: Callable[[], T]) -> T:
    """``call()`` on a thread without an event loop."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), "the thread did not end in time"
    if errors:
        raise errors[0]
    return results[0]


def in_child(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``call()`` returns in a forked child, as JSON carries it."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # 3.12 warns of threads beside a fork; the child runs none of their code.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            result = call()
        except BaseException as error:
            result = {"error": repr(error)}
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    try:
        ready, _, _ = select.select([read], [], [], 30)
        if not ready:
            os.kill(child, 9)
        os.waitpid(child, 0)
        assert ready, "the child did not answer in time"
        result = json.loads(os.read(read, 65536))
    finally:
        os.close(read)
    assert "error" not in result, result
    return result
